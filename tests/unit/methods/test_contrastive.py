"""Losses of views against the formulas of the papers, as loops or in closed form; queues, followers, schedules by their equations."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.data.batch import Batch, Kind
from vesalius.methods import METHODS
from vesalius.methods.barlow_twins import EPS as SMALL
from vesalius.methods.barlow_twins import cross_correlation, redundancy
from vesalius.methods.byol import apart, kept
from vesalius.methods.dino import cross_entropy, moved
from vesalius.methods.moco import info_nce
from vesalius.methods.simclr import nt_xent
from vesalius.methods.vicreg import flat, shared

TRUNK = {"name": "compact", "channels": (4, 8)}


def drawn(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def batch(rows=4, seed=0, side=12):
    return Batch({"image": drawn(rows, 1, side, side, seed=seed)}, {"image": Kind.IMAGE})


def stepped(method, optimisers, batch):
    """One step as the loop takes it."""
    for name, losses in method.steps(batch):
        optimisers[name].zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        optimisers[name].step()


def test_nt_xent_is_the_loop_of_the_paper():
    """Algorithm 1 of Chen et al.: 2N samples, l(i, j), the mean over (2k - 1, 2k) and (2k, 2k - 1)."""
    first, second, temperature = drawn(5, 3).double(), drawn(5, 3, seed=1).double(), 0.3
    z = [v.numpy() for pair in zip(first, second, strict=True) for v in pair]

    def s(i, j):
        return z[i] @ z[j] / (np.linalg.norm(z[i]) * np.linalg.norm(z[j]))

    def loss(i, j):
        return -math.log(math.exp(s(i, j) / temperature) / sum(math.exp(s(i, k) / temperature) for k in range(10) if k != i))

    want = sum(loss(2 * k, 2 * k + 1) + loss(2 * k + 1, 2 * k) for k in range(5)) / 10
    assert float(nt_xent(first, second, temperature)) == pytest.approx(want, rel=1e-6)


def test_info_nce_is_the_loop_of_the_paper():
    query, key, others = (nn.functional.normalize(drawn(n, 3, seed=n), dim=1) for n in (4, 5, 7))
    key = key[:4]
    want = 0.0
    for q, k in zip(query, key, strict=True):
        alike = [math.exp(float(q @ other) / 0.2) for other in (k, *others)]
        want -= math.log(alike[0] / sum(alike)) / 4
    assert float(info_nce(query, key, others, temperature=0.2)) == pytest.approx(want, rel=1e-5)


def test_the_queue_gives_up_its_oldest_keys_first():
    method = METHODS["moco"]((1, 12, 12), trunk=TRUNK, queue={"length": 5, "head": (3,)})
    start = method.keys.clone()
    rows = nn.functional.normalize(drawn(9, 3), dim=1)
    method.enqueue(rows[:2])
    assert torch.equal(method.keys, torch.cat([rows[:2], start[2:]]))
    method.enqueue(rows[2:6])
    assert torch.equal(method.keys, torch.stack([rows[5], rows[1], rows[2], rows[3], rows[4]])) and int(method.front) == 1
    method.enqueue(rows)  # more than the queue holds: the last five
    assert {tuple(key) for key in method.keys.tolist()} == {tuple(key) for key in rows[-5:].tolist()}


def test_keys_come_from_the_slow_encoder_and_follow_by_momentum():
    method = METHODS["moco"]((1, 12, 12), trunk=TRUNK, queue={"length": 8, "head": (3,), "momentum": 0.75})
    before = {name: value.clone() for name, value in method.slow.copy.named_parameters()}
    assert all(torch.equal(value, before[name]) for name, value in method.net.named_parameters())
    stepped(method, method.optimisers(), batch())
    for name, value in method.slow.copy.named_parameters():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * method.net.get_parameter(name))
        assert not value.requires_grad
    assert int(method.front) == 4
    torch.testing.assert_close(method.keys.norm(dim=1), torch.ones(8))


def test_byol_foretells_the_other_view_and_its_momentum_ends_at_one():
    told, said = drawn(6, 4), drawn(6, 4, seed=1)
    unit = [x / x.norm(dim=1, keepdim=True) for x in (told, said)]
    torch.testing.assert_close(apart(told, said), (unit[0] - unit[1]).square().sum(1))
    assert kept(0, 0.996) == pytest.approx(0.996) and kept(1, 0.996) == pytest.approx(1)
    assert kept(0.5, 0.996) == pytest.approx(1 - 0.004 / 2)
    method = METHODS["byol"]((1, 12, 12), trunk=TRUNK, momentum=0.5, head=(8, 4))
    before = {name: value.clone() for name, value in method.slow.copy.named_parameters()}
    method.progress(0.5)
    stepped(method, method.optimisers(), batch())
    for name, value in method.slow.copy.named_parameters():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * method.net.get_parameter(name))
    assert not any(name.startswith("predictor") for name in before)


def test_the_target_of_byol_gets_no_gradient():
    method = METHODS["byol"]((1, 12, 12), trunk=TRUNK, head=(8, 4))
    sum(next(method.steps(batch()))[1].values()).backward()
    assert all(p.grad is None for p in method.slow.parameters()) and all(p.grad is not None for p in method.net.parameters())


def test_dino_centres_by_a_moving_mean_over_both_large_views():
    centre, means = drawn(5), [drawn(5, seed=1), drawn(5, seed=2)]
    torch.testing.assert_close(moved(centre, means, 0.9), 0.9 * centre + 0.1 * (means[0] + means[1]) / 2)
    target, logits = drawn(3, 5).softmax(1), drawn(3, 5, seed=1)
    want = -sum(float(target[b, k]) * math.log(float(logits[b].softmax(0)[k])) for b in range(3) for k in range(5)) / 3
    assert float(cross_entropy(target, logits)) == pytest.approx(want, rel=1e-5)


def test_dino_sorts_by_what_the_teacher_said_centred_and_sharpened():
    """A step by hand: large views and small ones, every pair of a target and another view, then teacher and centre follow."""
    recipe = {"prototypes": 6, "hidden": 8, "bottleneck": 4, "momentum": 0.75, "local": 1}
    method = METHODS["dino"]((1, 12, 12), trunk=TRUNK, recipe=recipe)
    method.centre.copy_(drawn(6))
    method.step.fill_(3)
    chance, image = method.chance(), batch()["image"]
    large = [method.views(image, chance), method.views(image, chance)]
    small = method.parts(image, chance, onto=method.small)
    assert small.shape[2:] == (6, 6)
    net, slow = method.net.eval(), method.slow.copy.eval()
    said = [net.pretext(net(view)) for view in (*large, small)]
    taught = [slow.pretext(slow(view)) for view in large]
    loss = 0.0
    for a in range(2):
        target = ((taught[a] - method.centre) / 0.04).softmax(1)
        loss += sum(-(target * (said[b] / 0.1).log_softmax(1)).sum(1).mean() for b in range(3) if b != a) / 4
    steps, before = method.steps(batch()), method.centre.clone()
    assert float(next(steps)[1]["sorting"].detach()) == pytest.approx(float(loss.detach()), rel=1e-4)
    assert next(steps, None) is None
    torch.testing.assert_close(method.centre, 0.9 * before + 0.1 * torch.cat(taught).mean(0), rtol=1e-4, atol=1e-5)
    assert float(net.pretext(net(image)).detach().abs().max()) <= 1 + 1e-5  # inner products on the sphere


def test_barlow_twins_correlates_over_the_batch():
    first, second = drawn(40, 3).double(), drawn(40, 3, seed=1).double() + drawn(40, 3).double()
    want = np.corrcoef(first.numpy().T, second.numpy().T)[:3, 3:]
    found = cross_correlation(first, second)
    np.testing.assert_allclose(found.numpy(), want, atol=10 * SMALL)
    on, off = redundancy(found)
    assert float(on) == pytest.approx(sum((1 - want[k, k]) ** 2 for k in range(3)), rel=1e-3)
    assert float(off) == pytest.approx(sum(want[i, j] ** 2 for i in range(3) for j in range(3) if i != j), rel=1e-3)
    hadamard = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])  # centred, of variance 1, without correlation
    assert [float(x) for x in redundancy(cross_correlation(hadamard, hadamard))] == pytest.approx([0, 0], abs=1e-8)


def test_vicreg_terms_have_their_closed_forms():
    rows = drawn(30, 4).double() * torch.tensor([0.1, 0.5, 2.0, 3.0])
    deviations = np.sqrt(rows.numpy().var(0, ddof=1) + 1e-4)
    assert float(flat(rows)) == pytest.approx(np.maximum(0, 1 - deviations).mean())
    covariance = np.cov(rows.numpy().T)
    want = (np.square(covariance).sum() - np.square(np.diag(covariance)).sum()) / 4
    assert float(shared(rows)) == pytest.approx(want)
    assert float(flat(torch.ones(5, 3))) == pytest.approx(1 - 0.01) and float(shared(torch.ones(5, 3))) == 0


def test_each_term_of_vicreg_has_its_weight():
    one, other = (METHODS["vicreg"]((1, 12, 12), trunk=TRUNK, head=(8, 4), weights=w) for w in ((1, 1, 1), (25, 10, 3)))
    first, second = (next(m.steps(batch()))[1] for m in (one, other))
    for name, factor in (("invariance", 25), ("variance", 10), ("covariance", 3)):
        assert float(second[name]) == pytest.approx(factor * float(first[name]), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "words"),
    [("simclr", {"temperature": 0}), ("moco", {"queue": {"length": 0}}), ("moco", {"queue": {"lenth": 9}}), ("byol", {"momentum": 1.0}),
     ("byol", {"head": (8,)}), ("dino", {"recipe": {"teacher": 0}}), ("vicreg", {"weights": (1, 2)}), ("simclr", {"views": {"areas": 1}})],
)  # fmt: skip
def test_nonsense_is_refused(name, words):
    with pytest.raises(UsageError):
        METHODS[name]((1, 12, 12), trunk=TRUNK, **words)


def test_what_is_usual_is_gathered_and_kept_with_the_weights():
    method = METHODS["simclr"]((1, 12, 12), trunk=TRUNK, head=(8, 4)).eval()
    images = drawn(20, 1, 12, 12)
    method.gather(iter(images.split(7)))
    features = method.features(images)
    torch.testing.assert_close(method.net.usual.mean, features.mean(0))
    torch.testing.assert_close(method.net.usual.spread, features.std(0, correction=0))
    assert float(method.score(5 * images).min()) > float(method.score(images).mean())
    assert float(method.score(images).mean()) == pytest.approx(1, abs=0.05)
    assert {"usual.mean", "usual.spread"} <= method.net.state_dict().keys()


@pytest.mark.parametrize("name", ["simclr", "barlow_twins", "vicreg"])
def test_one_image_alone_is_refused_where_images_are_held_against_each_other(name):
    with pytest.raises(VesaliusError, match=r"got one image. Set patch.batch to 2 or more"):
        list(METHODS[name]((1, 12, 12), trunk=TRUNK, head=(8, 4)).steps(batch(rows=1)))
