"""Methods that compare with what is normal: each step against a formula, scipy or brute force, and bright squares that are found."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, uniform_filter
from scipy.spatial.distance import cdist, mahalanobis
from torch.nn import functional as F

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.data.batch import Batch, Kind
from vesalius.methods import METHODS
from vesalius.methods._adversaries import Design
from vesalius.methods._coreset import ACTIVE, centres, nearest, projected
from vesalius.methods._patches import around, as_rows, first_stage, joined, smoothed, whitening
from vesalius.methods._phases import Phases
from vesalius.methods.patchcore import alone
from vesalius.methods.reverse_distillation import White

SMALL = {"widths": (8, 8), "learning_rate": 3e-3}


def waves(number, *, seed=0, side=32):
    """Smooth textures (number, 1, side, side): two waves that begin anywhere, and a little noise."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*[torch.arange(side) * math.tau / 16] * 2, indexing="ij")
    begin = math.tau * torch.rand(number, 2, 1, 1, generator=random)
    return torch.sin(x + begin[:, :1]) + torch.sin(y + begin[:, 1:]) + 0.1 * torch.randn(number, 1, side, side, generator=random)


def squares(image, *, seed=0, side=5):
    """The same with a bright square each, away from the border, and where it is."""
    random, where = np.random.default_rng(seed), torch.zeros_like(image)
    for k in range(len(image)):
        y, x = random.integers(8, image.shape[2] - 8 - side, 2)
        where[k, 0, y : y + side, x : x + side] = 1
    return image + 2 * where, where


def taught(name, image, *, steps, **words):
    method = METHODS[name](tuple(image.shape[1:]), **words)
    optimisers = method.optimisers()
    for step in range(steps):
        method.progress(step / steps)
        pick = torch.randint(0, len(image), (16,), generator=torch.Generator().manual_seed(step))
        for turn, losses in method.steps(Batch({"image": image[pick]}, {"image": Kind.IMAGE})):
            optimisers[turn].zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimisers[turn].step()
    method.eval().gather(image.split(50))
    return method


@pytest.mark.parametrize(("name", "steps"), [("padim", 30), ("patchcore", 30), ("reverse_distillation", 120)])
def test_bright_squares_on_smooth_textures_are_found(name, steps):
    from sklearn.metrics import roc_auc_score

    method, normal = taught(name, waves(120), steps=steps, widths=(16, 16), learning_rate=3e-3), waves(25, seed=1)
    odd, where = squares(waves(25, seed=2))
    score = torch.cat([method.score(normal), method.score(odd)]).numpy()
    assert roc_auc_score(np.repeat([0, 1], 25), score) > 0.9
    found = method.anomaly_map(odd)
    peak = found.flatten(1).argmax(1, keepdim=True)
    near = F.max_pool2d(where, 7, 1, 3).flatten(1).gather(1, peak)
    assert float(near.mean()) > 0.8, f"peaks within 3 pixels of the square: {float(near.mean()):.2f}"


# -- PaDiM -----------------------------------------------------------------------------------------------------------------


def test_distances_are_those_of_scipy():
    train, odd = waves(30, side=16), waves(3, seed=1, side=16)
    method = METHODS["padim"]((1, 16, 16), dimensions=5, shrinkage=0.02, **SMALL).eval()
    method.gather(train.split(7))
    x, y = (method.described(image).double().numpy() for image in (train, odd))
    level = np.mean([np.var(x[:, p], axis=0, ddof=1) for p in range(x.shape[1])])
    for place in (0, 11, 63):
        inverse = np.linalg.inv(np.cov(x[:, place].T) + 0.02 * level * np.eye(5))
        expected = [mahalanobis(row, x[:, place].mean(0), inverse) for row in y[:, place]]
        assert method.distances(odd).flatten(1)[:, place].numpy() == pytest.approx(expected, rel=1e-4)
    assert method.described(odd).shape == (3, 64, 5) and torch.equal(method.score(odd), method.anomaly_map(odd).flatten(1).amax(1))


def test_features_are_chosen_by_the_seed_and_kept():
    one, other = (METHODS["padim"]((1, 16, 16), dimensions=5, seed=seed, **SMALL) for seed in (0, 1))
    assert not torch.equal(one.net.chosen, other.net.chosen) and one.net.chosen.unique().numel() == 5
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.net.chosen, other.net.chosen)


# -- PatchCore -------------------------------------------------------------------------------------------------------------


def greedy_by_loops(rows, number, first=0):
    chosen = [first]
    while len(chosen) < number:
        chosen.append(int(cdist(rows, rows[chosen]).min(1).argmax()))
    return chosen


@pytest.mark.parametrize("number", [1, 7, 60])
def test_centres_are_those_of_brute_force(number, monkeypatch):
    rows = torch.randn(300, 6, generator=torch.Generator().manual_seed(1)) + 5
    assert centres(rows, number, first=3).tolist() == greedy_by_loops(rows.double().numpy(), number, 3)
    assert ACTIVE[0] > 300
    monkeypatch.setattr("vesalius.methods._coreset.ACTIVE", (16, 20))  # so that many rows learn of choices later
    monkeypatch.setattr("vesalius.methods._coreset.ROWS", 37)
    monkeypatch.setattr("vesalius.methods._coreset.AT_ONCE", 8)  # and are left behind before they have met all
    monkeypatch.setattr("vesalius.methods._coreset.AMONG", 3)
    assert centres(rows, number, first=3).tolist() == greedy_by_loops(rows.double().numpy(), number, 3)


def test_centres_cover_within_twice_the_best_of_all_choices():
    for seed in range(5):
        rows = np.random.default_rng(seed).standard_normal((12, 2))
        apart = cdist(rows, rows)
        best = min(apart[:, list(choice)].min(1).max() for choice in combinations(range(12), 3))
        chosen = centres(torch.from_numpy(rows), 3).tolist()
        assert 0 in chosen and apart[:, chosen].min(1).max() <= 2 * best


def test_rows_that_are_alike_are_chosen_once():
    rows = torch.tensor([[0.0, 0], [1, 0], [0, 0], [1, 0], [4, 0]])
    assert sorted(centres(rows, 5).tolist()) == [0, 1, 4]
    many = rows.repeat(1000, 1)
    assert sorted(many[centres(many, 50), 0].tolist()) == [0, 1, 4]


@pytest.mark.parametrize("kind", ["bf16", "fp32"])
def test_a_projection_keeps_distances(kind, monkeypatch):
    monkeypatch.setattr("vesalius.methods._coreset.precision", lambda where: (kind, ""))
    rows = torch.randn(20, 1000, generator=torch.Generator().manual_seed(0)) + 30  # far from 0: digits are for what differs
    made = projected(rows)
    ratio = torch.pdist(made) / torch.pdist(rows)
    assert made.shape == (20, 128) and made.dtype == torch.float32
    assert abs(float(ratio.mean()) - 1) < 0.05 and float(ratio.std()) < 0.1
    assert torch.equal(projected(rows[:, :100]), rows[:, :100])


def test_rounding_changes_distances_far_less_than_the_projection(monkeypatch):
    rows, made = torch.randn(300, 400, generator=torch.Generator().manual_seed(0)) + 30, {}
    for kind in ("bf16", "fp32"):
        monkeypatch.setattr("vesalius.methods._coreset.precision", lambda where, kind=kind: (kind, ""))
        made[kind] = projected(rows)
    rounded, whole = (torch.pdist(made[kind]) / torch.pdist(rows) for kind in ("bf16", "fp32"))
    assert (rounded / whole - 1).abs().max() < 0.01 and 30 * float((rounded / whole).std()) < float(whole.std())


def test_nearest_neighbours_and_their_weight_by_hand():
    random = torch.Generator().manual_seed(0)
    rows, bank = torch.randn(9, 4, generator=random), torch.randn(30, 4, generator=random)
    away, which = nearest(rows, bank)
    apart = cdist(rows, bank)
    assert which.tolist() == apart.argmin(1).tolist() and away.numpy() == pytest.approx(apart.min(1), rel=1e-6)
    weight = alone(rows, which, bank, neighbours=4)
    for x, star, found in zip(rows.numpy(), which.tolist(), weight.tolist(), strict=True):
        about = np.argsort(np.linalg.norm(bank.numpy() - bank.numpy()[star], axis=1))[:4]
        total = sum(math.exp(np.linalg.norm(x - bank.numpy()[m])) for m in about)
        assert star in about and found == pytest.approx(1 - math.exp(np.linalg.norm(x - bank.numpy()[star])) / total, rel=1e-5)
    assert alone(rows, which * 0, bank[:1], neighbours=4).tolist() == [1] * 9
    assert alone(rows, which * 0, bank[:1].repeat(5, 1), neighbours=4).numpy() == pytest.approx(3 / 4)


def test_the_score_is_that_of_the_strangest_patch_and_memory_is_bounded():
    method = METHODS["patchcore"]((1, 16, 16), share=0.5, most=70, **SMALL).eval()
    method.gather(waves(20, side=16).split(6))
    assert method.net.bank.shape == (70, 16)
    image = waves(4, seed=1, side=16)
    rows, away, which = method.compared(image)
    for k in range(4):
        p = int(away[k].argmax())
        weight = alone(rows[k, p][None], which[k, p][None], method.net.bank, neighbours=9)
        assert float(method.score(image)[k]) == pytest.approx(float(away[k, p] * weight), rel=1e-5)


def test_patches_are_drawn_where_there_are_too_many(monkeypatch):
    method, image = METHODS["patchcore"]((1, 16, 16), **SMALL).eval(), waves(20, side=16)
    every, total = method.drawn_patches(image.split(6))
    monkeypatch.setattr("vesalius.methods.patchcore.POOL", 100)
    some, same = method.drawn_patches(image.split(6))
    assert total == same == len(every) == 20 * 64 and torch.equal(some, every[:100])


# -- what they share ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [2, 3])
def test_pieces_against_scipy(ndim):
    maps = torch.randn(1, 1, *(6, 7, 5)[:ndim], generator=torch.Generator().manual_seed(0))
    ones = uniform_filter(np.ones(maps.shape[2:]), 3, mode="constant")
    expected = uniform_filter(maps[0, 0].double().numpy(), 3, mode="constant") / ones
    assert around(maps)[0, 0].numpy() == pytest.approx(expected, abs=1e-6)
    assert smoothed(maps, 0.8)[0, 0].numpy() == pytest.approx(gaussian_filter(maps[0, 0].numpy(), 0.8, radius=3, mode="nearest"), abs=1e-5)
    coarse = maps[(..., *(slice(None, None, 2),) * ndim)]
    fine = joined([maps, coarse])
    assert torch.equal(fine[0, 1][(3,) * ndim], coarse[0, 0][(1,) * ndim]) and torch.equal(as_rows(fine)[0, :, 0], maps.flatten())


def test_white_is_white():
    rows = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) @ torch.tensor([[2.0, 1, 0], [0, 1, 3], [0, 0, 0.5]])
    cov = torch.cov(rows.T)[None]
    w = whitening(cov, 0.01)[0]
    assert torch.allclose(w.T @ w, torch.linalg.inv(cov[0].double() + 0.01 * cov[0].diagonal().mean().double() * torch.eye(3)))


def test_moments_that_follow_are_those_of_all_batches_so_far():
    white, maps = White(3), torch.randn(12, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 + 1
    for part in maps.split(3):
        white.follow(part)
    rows = as_rows(maps).flatten(0, 1)
    assert torch.allclose(white.mean, rows.mean(0), atol=1e-5)
    assert torch.allclose(white.covariance, torch.cov(rows.T, correction=0), atol=1e-4)


def test_maps_are_not_finer_than_needed():
    assert [first_stage((1, side, side)) for side in (16, 64, 65, 224)] == [0, 0, 1, 2]
    assert METHODS["padim"]((1, 224, 160)).sides == (28, 20) and METHODS["padim"]((1, 224, 160)).stages == (2, 3, 4)
    assert METHODS["patchcore"]((1, 32, 32, 24)).sides == (16, 16, 12)


def test_phases():
    phases = Phases(0.4)
    assert phases.first and phases.second
    for share, expected in ((0.0, (True, False)), (0.39, (True, False)), (0.4, (False, True)), (1.0, (False, True))):
        phases.progress(share)
        assert (phases.first, phases.second) == expected


@pytest.mark.parametrize("name", ["padim", "patchcore"])
def test_nothing_is_answered_before_it_has_gathered(name):
    method = METHODS[name]((1, 16, 16), **SMALL)
    with pytest.raises(VesaliusError, match="gather"):
        method.score(waves(1, side=16))
    with pytest.raises(VesaliusError, match="no image"):
        method.gather([])


def test_settings_that_mean_nothing_are_refused():
    for name, words in (("padim", {"dimensions": 0}), ("patchcore", {"share": 0}), ("reverse_distillation", {"teacher": 1.0}),
                        ("anogan", {"weight": 2}), ("f_anogan", {"gan": 0}), ("ganomaly", {"weights": (1, 2)}),
                        ("anovaegan", {"weight": -1})):  # fmt: skip
        with pytest.raises(UsageError):
            METHODS[name]((1, 16, 16), **words)


# -- by adversaries ------------------------------------------------------------------------------------------------------------

DESIGN = Design(latent=4, widths=(8, 8), bounds=(0.0, 1.0))


def searcher(turns):
    """An AnoGAN whose generator makes images that differ, though it has not learned."""
    method = METHODS["anogan"]((1, 12, 12), design=Design(latent=2, widths=(8, 8), bounds=(0.0, 1.0)), turns=turns).eval()
    with torch.no_grad():
        for weight in method.net.generator.parameters():
            weight.mul_(16 if weight.ndim > 1 else 1)
    return method


def test_the_search_brings_the_loss_down_and_finds_what_the_generator_made():
    image, (first, some, many) = torch.rand(3, 1, 12, 12, generator=torch.Generator().manual_seed(0)), map(searcher, (1, 30, 200))
    apart = [method.score(image) for method in (first, some, many)]
    assert bool((apart[1] < apart[0]).all()) and bool((apart[2] < apart[1]).all())
    own = many.samples(3, seed=5)
    assert float(own.std(0).mean()) > 0.05 and float(many.score(own).median()) < 0.1 * float(first.score(own).median())
    made = many.infer(image)
    pixels = (image - made).abs().flatten(1).sum(1)
    features = (many.net.critic(image)[0] - many.net.critic(made)[0]).abs().sum(1)
    assert torch.allclose(apart[2], 0.9 * pixels + 0.1 * features, rtol=1e-4)


def test_the_encoder_learns_alone_after_the_gan():
    method, image = METHODS["f_anogan"]((1, 12, 12), design=DESIGN, learning_rate=2e-3), torch.rand(8, 1, 12, 12)
    batch, optimisers = Batch({"image": image}, {"image": Kind.IMAGE}), method.optimisers()
    for share, turns in ((0.1, {"critic", "generator"}), (0.9, {"encoder"})):
        method.progress(share)
        before = {name: value.clone() for name, value in method.state_dict().items()}
        seen = set()
        for _ in range(5):
            for turn, losses in method.steps(batch):
                seen.add(turn)
                optimisers[turn].zero_grad()
                torch.stack(list(losses.values())).sum().backward()
                optimisers[turn].step()
        changed = [name for name, value in method.state_dict().items() if not torch.equal(value, before[name])]
        moved = {name.removeprefix("net.").split(".")[0] for name in changed}
        assert seen == turns and turns <= moved <= turns | {"step"}
    method.eval()
    made = method.infer(image)
    features = [method.net.critic(x)[0] for x in (image, made)]
    expected = (image - made).square().flatten(1).mean(1) + (features[0] - features[1]).square().mean(1)
    assert torch.allclose(method.score(image), expected) and int(method.step) == 10


def test_ganomaly_by_hand():
    method, image = METHODS["ganomaly"]((1, 12, 12), design=DESIGN).eval(), torch.rand(4, 1, 12, 12)
    code = method.net.coder["encode"](image)[1]
    made = method.net.coder["decode"](code)
    again = method.net.coder["again"](made)[1]
    assert torch.allclose(method.score(image), (code - again).abs().sum(1)) and torch.equal(method.infer(image), made)
    turns = method.steps(Batch({"image": image}, {"image": Kind.IMAGE}))
    _, critic = next(turns)
    words = method.net.critic(image)[1], method.net.critic(made)[1]
    assert float(critic["real"]) == pytest.approx(float(-F.logsigmoid(words[0]).mean()))
    assert float(critic["made"]) == pytest.approx(float(-F.logsigmoid(-words[1]).mean()))
    _, net = next(turns)
    seen = [method.net.critic(x)[0] for x in (image, made)]
    expected = (seen[0] - seen[1]).square().mean(), 50 * (image - made).abs().mean(), (code - again).square().mean()
    assert [float(net[name]) for name in ("features", "image", "code")] == pytest.approx([float(term) for term in expected])
    with pytest.raises(VesaliusError, match="0 to 1"):
        next(method.steps(Batch({"image": image + 1}, {"image": Kind.IMAGE})))


# -- scores of methods that were there -------------------------------------------------------------------------------------------


def test_a_variational_score_is_the_bound_at_the_mean_code():
    method, image = METHODS["vae"]((1, 8, 8), code=3, widths=(4,)).eval(), torch.rand(5, 1, 8, 8)
    mean, log_variance = method.spread(image)
    variance = method.net.log_variance.exp()
    normal = torch.distributions.Normal(method.coder.decode(mean), variance.sqrt())
    away = torch.distributions.kl_divergence(torch.distributions.Normal(mean, (log_variance / 2).exp()), torch.distributions.Normal(0, 1))
    expected = (away.sum(1) - normal.log_prob(image).flatten(1).sum(1)) / 64
    assert torch.allclose(method.score(image), expected, atol=1e-5)


def test_the_map_of_a_context_vae_is_the_residual_times_the_slope_of_the_divergence():
    method, image = METHODS["context_vae"]((1, 8, 8), code=3, widths=(4,)).eval(), torch.rand(2, 1, 8, 8)
    with torch.inference_mode():
        found = method.anomaly_map(image)

    def away(x):
        mean, log_variance = method.coder.encode(x).double().chunk(2, 1)
        return float(0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum())

    method, image = method.double(), image.double()
    residual = (image - method.coder.decode(method.coder.encode(image).chunk(2, 1)[0])).abs()
    for place in ((0, 0, 2, 3), (1, 0, 7, 1)):
        step = torch.zeros_like(image)
        step[place] = 1e-5
        slope = (away(image + step) - away(image - step)) / 2e-5
        assert float(found[place]) == pytest.approx(float(residual[place]) * abs(slope), rel=1e-2, abs=1e-5)
