"""Adversarial methods: losses and penalties by hand, the best critic of a known pair of distributions, modes that must all be made."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import nn
from torch.nn import functional as F

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.data.batch import Batch, Kind
from vesalius.methods import METHODS
from vesalius.methods._adversarial import Seen
from vesalius.methods._adversaries import BatchNorm, Design, Spectral
from vesalius.methods._chance import Chance
from vesalius.methods._views import Views
from vesalius.methods.r1_gan import R1Gan
from vesalius.methods.semi_supervised_gan import SemiSupervisedGan

SHAPE = (1, 2, 3)
POINTS = Design(kind="dense", latent=4, widths=(64, 64), bounds=None)
DENSE = Design(kind="dense", latent=3, widths=(4,), bounds=None)
REAL, FAKE = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([-0.5, 0.25, 3.0])


def seen(word, image=None, told=None, label=None):
    """`word` (B,) or answers (B, K) as if a critic had given them."""
    answers = word[:, None] if word.ndim == 1 else word
    none = torch.zeros(len(answers), 0)
    label = torch.full((len(answers),), -1) if label is None else label
    return Seen(none if image is None else image, none, answers, none if told is None else told, label)


def make(name, design=DENSE, **more):
    return METHODS[name](SHAPE, design=design, weight_decay=0.0, **more)


def log_sigmoid(x):
    return [math.log(1 / (1 + math.exp(-v))) for v in x.tolist()]


FORMULAS = {
    "gan": (-np.mean(log_sigmoid(REAL)) - np.mean(log_sigmoid(-FAKE)), -np.mean(log_sigmoid(FAKE))),
    "lsgan": ((0.25 + 4 + 1) / 6 + (0.25 + 0.0625 + 9) / 6, (2.25 + 0.5625 + 4) / 6),
    "wgan": ((-0.5 + 0.25 + 3) / 3 - (0.5 - 1 + 2) / 3, -(-0.5 + 0.25 + 3) / 3),
    "sn_gan": ((0.5 + 2 + 0) / 3 + (0.5 + 1.25 + 4) / 3, -(-0.5 + 0.25 + 3) / 3),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_losses_by_hand(name):
    method, (critic, generator) = make(name), FORMULAS[name]
    assert float(sum(method.judge(seen(REAL), seen(FAKE), Chance(0, 0)).values())) == pytest.approx(critic, rel=1e-6)
    assert float(sum(method.persuade(torch.zeros(3), seen(FAKE)).values())) == pytest.approx(generator, rel=1e-6)
    assert float(sum(make("dcgan").judge(seen(REAL), seen(FAKE), Chance(0, 0)).values())) == pytest.approx(FORMULAS["gan"][0], rel=1e-6)


def test_the_best_critic_is_the_share_of_real_and_its_loss_the_divergence():
    """Goodfellow et al. 2014, proposition 1 and theorem 1: D = p / (p + q), and the loss is log 4 - 2 JS."""
    p, q = np.array([4, 2, 1, 1]) / 8, np.array([1, 1, 2, 4]) / 8
    real, fake = (torch.from_numpy(np.repeat(np.arange(4), (8 * x).astype(int))) for x in (p, q))
    logits, method = torch.zeros(4, dtype=torch.float64, requires_grad=True), make("gan")
    search = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=1e-14)

    def loss():
        search.zero_grad()
        total = sum(method.judge(seen(logits[real]), seen(logits[fake]), Chance(0, 0)).values())
        total.backward()
        return total

    search.step(loss)
    assert torch.sigmoid(logits).detach().numpy() == pytest.approx(p / (p + q), abs=1e-5)
    assert float(loss().detach()) == pytest.approx(math.log(4) - 2 * jensenshannon(p, q) ** 2, abs=1e-8)


class Linear(nn.Module):
    """A critic whose gradient is `weight` everywhere."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, image):
        return image.flatten(1), (image.flatten(1) @ self.weight)[:, None]


@pytest.mark.parametrize(
    ("name", "want"),
    [("wgan_gp", lambda s: 10 * (s - 1) ** 2), ("dragan", lambda s: 10 * (s - 1) ** 2), ("r1_gan", lambda s: 0.5 * s**2)],
)
def test_the_penalty_of_a_linear_critic(name, want):
    """Value and gradient in closed form: the slope is the norm s of the weights, and ds / dw = w / s."""
    method, weight = make(name), torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, 1.0])
    method.net.critic = Linear(weight)
    image = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    none, label = torch.zeros(5, 0), torch.full((5,), -1)
    found = method.judge(method.looked(image, none, label), method.looked(-image.detach(), none, label), Chance(0, 0))["penalty"]
    slope = weight.norm().requires_grad_()
    expected = want(slope)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    found.backward()
    torch.testing.assert_close(method.net.critic.weight.grad, torch.autograd.grad(expected, slope)[0] * weight / slope.detach())


def test_weights_of_wgan_are_clipped_and_nothing_else():
    method = make("wgan", clip=0.05)
    before = {name: p.detach().clone() for name, p in method.net.named_parameters()}
    method.learned(seen(REAL))
    for name, p in method.net.named_parameters():
        assert torch.equal(p, before[name].clamp(-0.05, 0.05) if name.startswith("critic") else before[name])


@pytest.mark.parametrize("size", [(6, 5), (4, 3, 3, 3)])
def test_spectral_normalisation_against_the_singular_values(size):
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(*size, generator=random, dtype=torch.float64)
    layer = Spectral(weight.float(), random).double()
    for _ in range(300):
        layer(weight)
    want = torch.linalg.svdvals(weight.flatten(1))[0]
    torch.testing.assert_close(layer(weight), weight / want, rtol=1e-6, atol=1e-8)
    kept = layer.u.clone()
    layer.eval()(weight)
    assert torch.equal(layer.u, kept)
    leaf = weight.clone().requires_grad_()  # d sigma / dW = u v', with exact vectors
    (weight * layer(leaf)).sum().backward()
    other = weight.clone().requires_grad_()
    (weight * other / torch.linalg.matrix_norm(other.flatten(1), 2)).sum().backward()
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-5, atol=1e-7)


def test_a_normalised_critic_has_slope_at_most_one_in_every_layer():
    method = make("sn_gan", Design(latent=3, widths=(4, 6)))
    for _ in range(100):
        method.net.critic(torch.zeros(1, *SHAPE))
    layers = [m for m in method.net.critic.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(layers) == 3
    for layer in layers:
        assert float(torch.linalg.svdvals(layer.weight.flatten(1))[0]) == pytest.approx(1, abs=1e-2)


def test_dcgan_has_the_published_number_of_weights():
    """64 x 64 in colour, 64 to 512 channels, 100 numbers of noise: 3,576,704 and 2,765,568 in the widespread code, which leaves out the
    biases of the layers where images leave (3) and enter (64) and of the answer (1)."""
    method = METHODS["dcgan"]((3, 64, 64), weight_decay=0.0)
    count = {name: sum(p.numel() for p in net.parameters()) for name, net in method.net.named_children()}
    assert count == {"generator": 3576704 + 3, "critic": 2765568 + 64 + 1}


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 13, 9), (1, 9, 12, 1), (1, 1, 1)])
def test_any_sides(shape):
    method = METHODS["gan"](shape, design=Design(latent=3, widths=(4, 4)), weight_decay=0.0)
    made = method.samples(3)
    assert made.shape == (3, *shape) and method.infer(made).shape == (3, 1)


def test_batch_normalisation_is_torchs():
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    maps = torch.randn(4, 3, 5, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(maps), theirs(maps))
    torch.testing.assert_close(ours.variance, theirs.running_var)
    torch.testing.assert_close(ours.eval()(maps), theirs.eval()(maps))
    mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3), unbiased=False)
    torch.testing.assert_close(ours.scaled(maps, mean, variance), theirs.train()(maps))


# -- classes --------------------------------------------------------------------------------------------------------------


def test_projection_adds_the_answer_of_the_class():
    method = make("conditional_gan", classes=2)
    answers, told = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), torch.eye(2)
    assert method.judged(answers, told).tolist() == [[3.0], [4.0]]


def test_auxiliary_classifier():
    method, label = make("ac_gan", classes=2), torch.tensor([0, 1, 1])
    answers = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    losses = method.judge(seen(answers, label=label), seen(-answers, label=label), Chance(0, 0))
    log_p = [torch.log_softmax(a[:, 1:], 1)[range(3), label].mean() for a in (answers, -answers)]
    assert float(losses["class"]) == pytest.approx(-float(sum(log_p)), rel=1e-5)


def test_the_code_of_infogan_is_read_back():
    method = make("info_gan", classes=3, numbers=2)
    told = method.told(torch.full((600,), -1), Chance(0, 0))
    share = told[:, :3].mean(0)
    assert torch.equal(told[:, :3].sum(1), torch.ones(600)) and float((share - 1 / 3).abs().max()) < 0.06
    assert float(told[:, 3:].min()) < -0.95 and float(told[:, 3:].max()) > 0.95
    right = torch.cat([torch.zeros(600, 1), 50 * told[:, :3], told[:, 3:]], 1)
    assert float(method.unread(seen(right, told=told))) == pytest.approx(0, abs=1e-6)
    blind = torch.zeros_like(right)
    want = math.log(3) + 0.1 * float(told[:, 3:].square().sum(1).mean()) / 2
    assert float(method.unread(seen(blind, told=told))) == pytest.approx(want, rel=1e-5)


def test_semi_supervised_is_a_softmax_of_one_more_class():
    """Salimans et al. 2016: with the logit of "made" at 0, p(made) = 1 / (Z + 1)."""
    method = make("semi_supervised_gan", classes=2)
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    answers = method.judged(logits, torch.zeros(4, 0))
    chances = torch.softmax(torch.cat([logits, torch.zeros(4, 1)], 1), 1)
    losses = method.judge(seen(answers, label=torch.tensor([0, 1, -1, -1])), seen(answers), Chance(0, 0))
    assert float(losses["real"]) == pytest.approx(-float(torch.log(1 - chances[:, 2]).mean()), rel=1e-5)
    assert float(losses["made"]) == pytest.approx(-float(torch.log(chances[:, 2]).mean()), rel=1e-5)
    want = F.cross_entropy(logits[:2], torch.tensor([0, 1]), reduction="sum") / 4
    torch.testing.assert_close(losses["class"], want)


def test_unlabelled_images_help_the_classifier_to_no_class_of_their_own():
    method = SemiSupervisedGan(SHAPE, classes=2, design=DENSE)
    image = torch.rand(6, *SHAPE)
    batch = Batch({"image": image, "label": torch.tensor([0, 1, -1, -1, -1, -1])}, {"image": Kind.IMAGE, "label": Kind.LABEL})
    names = [name for name, losses in method.steps(batch)]
    assert names == ["critic", "generator"] and method.infer(image).shape == (6, 2)
    torch.testing.assert_close(method.score(image), -torch.logsumexp(method.infer(image), 1))


@pytest.mark.parametrize("name", ["conditional_gan", "ac_gan"])
def test_classes_are_asked_for(name):
    method = make(name, classes=3)
    assert method.samples(2, label=2).shape == (2, *SHAPE)
    assert not torch.equal(method.samples(2, label=0), method.samples(2, label=1))
    with pytest.raises(UsageError, match="0 to 2"):
        method.samples(1, label=3)
    with pytest.raises(VesaliusError, match='no "label"'):
        next(method.steps(Batch({"image": torch.rand(2, *SHAPE)}, {"image": Kind.IMAGE})))
    wrong = Batch({"image": torch.rand(2, *SHAPE), "label": torch.tensor([0, -1])}, {"image": Kind.IMAGE, "label": Kind.LABEL})
    with pytest.raises(VesaliusError, match="0 to 2"):
        next(method.steps(wrong))


# -- learning -------------------------------------------------------------------------------------------------------------


TOYS = [("r1_gan", 700, 3e-3, {}), ("wgan_gp", 1500, 3e-3, {"penalty": 0.1})]  # 0.1: what Gulrajani et al. took for points


@pytest.mark.slow
@pytest.mark.parametrize(("name", "steps", "rate", "more"), TOYS)
def test_every_mode_is_made(name, steps, rate, more):
    """Four normal distributions at (+-1, +-1): each gets about a quarter of the samples, and the moments are those of the mixture."""
    method = METHODS[name]((1, 1, 2), design=POINTS, learning_rate=rate, weight_decay=0.0, **more)
    teachers, random = method.optimisers(), torch.Generator().manual_seed(0)
    for step in range(steps):
        corner = 2.0 * torch.randint(0, 2, (64, 1, 1, 2), generator=random) - 1
        point = corner + 0.15 * torch.randn(64, 1, 1, 2, generator=random)
        for teacher in teachers.values():
            teacher.param_groups[0]["lr"] = teacher.param_groups[1]["lr"] = rate * (1 - step / steps)
        for turn, losses in method.steps(Batch({"image": point}, {"image": Kind.IMAGE})):
            teachers[turn].zero_grad()
            sum(losses.values()).backward()
            teachers[turn].step()
    made = method.samples(1000)[:, 0, 0]
    shares = [float(((made * torch.tensor(signs)) > 0.5).all(1).float().mean()) for signs in product((-1.0, 1.0), repeat=2)]
    assert min(shares) > 0.12, shares
    assert float(made.mean(0).abs().max()) < 0.2
    assert float((made.var(0) - (1 + 0.15**2)).abs().max()) < 0.25


def test_the_generator_turn_leaves_the_critic_alone():
    method = make("gan")
    image = torch.rand(4, *SHAPE)
    turns = method.steps(Batch({"image": image}, {"image": Kind.IMAGE}))
    next(turns)
    _, losses = next(turns)
    sum(losses.values()).backward()
    assert all(p.grad is None for p in method.net.critic.parameters())
    assert all(p.grad is not None for p in method.net.generator.parameters())


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="bounds"):
        Design(bounds=(1.0, 0.0))
    with pytest.raises(UsageError, match="latent"):
        Design(latent=0)
    with pytest.raises(UsageError, match="knows no classes"):
        make("gan").samples(1, label=0)
    with pytest.raises(VesaliusError, match="Scale them"):
        next(make("gan", Design(latent=2, widths=(4,))).steps(Batch({"image": torch.full((2, *SHAPE), 255.0)}, {"image": Kind.IMAGE})))
    for name, word in (("wgan", "clip"), ("wgan_gp", "penalty"), ("r1_gan", "gamma"), ("dragan", "penalty")):
        with pytest.raises(UsageError, match="got -1"):
            make(name, **{word: -1.0})
    with pytest.raises(UsageError, match="two classes"):
        make("ac_gan", classes=1)


def test_views_follow_the_critic():
    views = Views(horizon=100)
    at = torch.tensor(0.5)
    assert float(views.next(at, torch.tensor(0.9), 10)) == pytest.approx(0.6)
    assert float(views.next(at, torch.tensor(0.1), 10)) == pytest.approx(0.4)
    assert float(views.next(torch.tensor(0.79), torch.tensor(0.9), 10)) == pytest.approx(0.8)
    assert float(views.next(torch.tensor(0.01), torch.tensor(0.1), 10)) == 0
    with pytest.raises(UsageError, match="no zero"):
        make("wgan", Design(kind="dense", views=Views()))
    sure = R1Gan((1, 8, 8), design=Design(latent=3, widths=(4, 4), views=views))
    sure.learned(seen(torch.ones(5), image=torch.zeros(5, 1, 8, 8)))
    assert float(sure.probability) == pytest.approx(0.05)
    batch = Batch({"image": torch.rand(4, 1, 8, 8)}, {"image": Kind.IMAGE})
    for _, losses in sure.steps(batch):
        assert all(bool(term.isfinite()) and term.requires_grad for term in losses.values())
        sum(losses.values()).backward()
    assert all(float(p.grad.abs().max()) > 0 for p in sure.net.generator.parameters() if p.ndim > 1)
