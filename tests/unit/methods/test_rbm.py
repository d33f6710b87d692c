"""RBM: every quantity against enumeration of all states, quadrature, scikit-learn, or the closed form of the gradient."""

import numpy as np
import pytest
import torch
from scipy import integrate
from sklearn.neural_network import BernoulliRBM

from tests.unit.methods import tiny
from vesalius.core.errors import VesaliusError
from vesalius.data.batch import Batch, Kind
from vesalius.methods._chance import Chance
from vesalius.methods._dream import Dream, swapped
from vesalius.methods.rbm import Rbm

KINDS = [Dream(kind="cd", sweeps=25), Dream(kind="pcd", chains=500), Dream(kind="tempering", chains=300, temperatures=4)]


def batch(image):
    return Batch({"image": image}, {"image": Kind.IMAGE})


def learn(method, image, steps):
    """`steps` steps on the same images at a rate that falls to zero."""
    teacher = method.optimisers()["net"]
    for step in range(steps):
        teacher.param_groups[0]["lr"] = teacher.param_groups[1]["lr"] = method.learning_rate * (1 - step / steps)
        for _, losses in method.steps(batch(image)):
            teacher.zero_grad()
            sum(losses.values()).backward()
            teacher.step()


def likelihood(method, visible):
    """Mean exact log p of 0 / 1 rows, by enumeration of all visible states."""
    layers = method.net.layers().double()
    z = torch.logsumexp(-layers.free_energy(tiny.states(visible.shape[1])), 0)
    return float((-layers.free_energy(visible.double()) - z).mean())


def test_free_energy_sums_the_hidden_units_out():
    layers = tiny.machine(4, 3).layers()
    by_hand = -np.log(np.exp(-tiny.energies(layers)).sum(1))
    np.testing.assert_allclose(layers.free_energy(tiny.states(4)).detach(), by_hand, rtol=1e-12)


def test_energy_is_the_formula():
    layers = tiny.machine(3, 2).layers()
    visible, hidden = tiny.states(3).repeat_interleave(4, 0), tiny.states(2).repeat(8, 1)
    np.testing.assert_allclose(layers.energy({0: visible, 1: hidden}).detach(), tiny.energies(layers).ravel(), rtol=1e-12)


def test_conditionals_are_those_of_the_joint_distribution():
    layers = tiny.machine(3, 2).layers()
    p = tiny.probabilities(layers)
    hidden = (p / p.sum(1, keepdims=True)) @ tiny.states(2).numpy()
    visible = (p / p.sum(0, keepdims=True)).T @ tiny.states(3).numpy()
    np.testing.assert_allclose(layers.mean(1, layers.drive(tiny.states(3))).detach(), hidden, rtol=1e-10)
    np.testing.assert_allclose(layers.mean(0, layers.pull(0, {1: tiny.states(2)})).detach(), visible, rtol=1e-10)


def test_scikit_learn_has_the_same_free_energy_and_hidden_means():
    layers = tiny.machine(6, 4).layers().detached()
    other = BernoulliRBM(4)
    other.components_, (other.intercept_visible_, other.intercept_hidden_) = layers.weights[0].T.numpy(), (b.numpy() for b in layers.biases)
    visible = tiny.states(6)
    np.testing.assert_allclose(layers.free_energy(visible), other._free_energy(visible.numpy()), rtol=1e-12)
    np.testing.assert_allclose(torch.sigmoid(layers.drive(visible)), other._mean_hiddens(visible.numpy()), rtol=1e-12)


@pytest.mark.parametrize("centred", [False, True])
def test_the_gradient_is_that_of_the_exact_likelihood(centred):
    """d/dW of -log p is <(v - m)(h - n)> under the machine minus under the data (Melchior et al. 2016, eq. 8), worked out by enumeration;
    autograd through free energies weighted by p gives the same, and so does autograd through log Z."""
    net = tiny.machine(4, 3, centred=centred)
    every, data = tiny.states(4), tiny.states(4)[[3, 5, 5, 9]]
    layers = net.layers()
    z = torch.logsumexp(-layers.free_energy(every), 0)
    p = torch.exp(-layers.free_energy(every) - z).detach()
    exact = torch.autograd.grad(layers.free_energy(data).mean() + z, [net.weights[0], *net.biases], retain_graph=True)
    learned = torch.autograd.grad(layers.free_energy(data).mean() - (p * layers.free_energy(every)).sum(), [net.weights[0], *net.biases])
    m, n = net.offsets if centred else (torch.zeros(4).double(), torch.zeros(3).double())
    hidden = torch.sigmoid(layers.drive(every)).detach()
    q = torch.zeros(16).double().index_add(0, torch.tensor([3, 5, 5, 9]), torch.full((4,), 0.25).double())
    closed = [torch.einsum("s,sv,sh->vh", p - q, every - m, hidden - n), (p - q) @ every, (p - q) @ hidden]
    for a, b, c in zip(exact, learned, closed, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(a, c, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dream", KINDS, ids=lambda d: d.kind)
def test_the_dream_has_the_gradient_of_the_machine(dream):
    """Mean over many dreams of a machine that does not learn, against the exact expectation: within five standard errors."""
    method = Rbm((1, 2, 2), hidden=3, dream=dream)
    method.net.load_state_dict(tiny.machine(4, 3, scale=0.7).state_dict())
    pair = method.net.layers().detached()
    p = torch.exp(-pair.free_energy(tiny.states(4).float()))
    want = (p / p.sum()) @ tiny.states(4).float()
    data = tiny.states(4).float().repeat(60, 1)
    means = []
    for step in range(220):
        drive, visible, after = dream.next(pair, data, kept=method.kept, chance=Chance(1, step))
        torch.testing.assert_close(after, pair.drive(visible))
        torch.testing.assert_close(drive, pair.drive(data))
        means.append(visible.mean(0))
    found = torch.stack(means[20:])
    groups = found.reshape(10, 20, 4).mean(1)
    error = groups.std(0) / 10**0.5
    assert bool(((groups.mean(0) - want).abs() < 5 * error + 1e-3).all()), (groups.mean(0), want, error)


def test_the_gibbs_kernel_keeps_the_distribution():
    """Transition matrix of v -> h -> v by enumeration: p T = p, and T is reversible."""
    layers = tiny.machine(4, 3).layers().detached()
    v, h = tiny.states(4), tiny.states(3)
    up, down = layers.mean(1, layers.drive(v)), layers.mean(0, layers.pull(0, {1: h}))
    to_h = (up[:, None] * h + (1 - up[:, None]) * (1 - h)).prod(-1)
    to_v = (down[:, None] * v + (1 - down[:, None]) * (1 - v)).prod(-1)
    kernel, p = (to_h @ to_v).numpy(), tiny.probabilities(layers).sum(1)
    np.testing.assert_allclose(p @ kernel, p, rtol=1e-10)
    np.testing.assert_allclose(p[:, None] * kernel, (p[:, None] * kernel).T, rtol=1e-9)


def test_samples_follow_the_kernel():
    """What `sample` draws has the frequencies that `mean` says (4 standard errors)."""
    layers = tiny.machine(3, 2).layers().detached()
    visible = tiny.states(3).repeat_interleave(4000, 0)
    hidden = layers.hiddens(layers.drive(visible), Chance(0, 0)).reshape(8, 4000, 2).mean(1)
    want = layers.mean(1, layers.drive(tiny.states(3)))
    assert bool(((hidden - want).abs() < 4 * (want * (1 - want) / 4000).sqrt() + 1e-3).all())


class Grid:
    """A chance whose every chain meets each of `number` evenly spaced lots."""

    def __init__(self, number):
        self.number = number

    def uniform(self, size, *, shared=False):
        lots = (torch.arange(self.number, dtype=torch.float64) + 0.5) / self.number
        return lots.repeat(size[0], size[1] // self.number)


def test_swaps_keep_the_joint_distribution_of_two_temperatures():
    layers = tiny.machine(2, 2).layers().detached()
    every, lots = tiny.states(2), 2000
    hot, cold = every.repeat_interleave(4, 0), every.repeat(4, 1)
    both = torch.cat([x.repeat_interleave(lots, 0) for x in (hot, cold)])
    after = swapped(layers, both, Grid(lots), chains=16 * lots, parity=0)
    moved = (after[: 16 * lots] != both[: 16 * lots]).any(1).reshape(16, lots).double().mean(1)
    p = torch.stack([torch.softmax(-layers.free_energy(every, None, beta), 0) for beta in (0.0, 1.0)])
    joint = torch.outer(*p)  # hot x cold
    rate = moved.reshape(4, 4)
    torch.testing.assert_close(joint * rate, (joint * rate).T, rtol=0, atol=1e-3)
    assert float(rate.max()) > 0.5 and float(rate.min()) >= 0 and 0 < float((joint * rate).sum()) < 1


@pytest.mark.parametrize("centred", [False, True])
def test_offsets_move_and_the_machine_stays(centred):
    net = tiny.machine(4, 3, 2, centred=centred)
    before = net.layers().log_weight({0: tiny.states(4)[:4], 2: tiny.states(2)})
    net.recentre([torch.rand(n).double() for n in (4, 3, 2)], 0.3)
    after = net.layers().log_weight({0: tiny.states(4)[:4], 2: tiny.states(2)})
    torch.testing.assert_close(after, before)


def test_gaussian_visibles_have_the_density_that_quadrature_finds():
    layers = tiny.machine(2, 2, gaussian=True, scale=0.6).layers().detached()
    hidden = layers.log_weight({1: tiny.states(2)})

    def weight(y, x):
        return float(torch.exp(-layers.free_energy(torch.tensor([[x, y]], dtype=torch.float64))))

    whole, _ = integrate.dblquad(weight, -12, 12, -12, 12, epsabs=1e-5, epsrel=1e-5)
    assert whole == pytest.approx(float(hidden.exp().sum()), rel=1e-4)


def test_gaussian_visibles_are_a_mixture_of_normals():
    """p(v) of a Gaussian RBM is a mixture of 2^hidden normals with means b + W h and weights p(h)."""
    layers = tiny.machine(3, 2, gaussian=True, scale=0.6).layers().detached()
    h, v = tiny.states(2), torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
    weight = torch.softmax(layers.log_weight({1: h}), 0)
    normal = torch.distributions.Normal(layers.biases[0] + h @ layers.weights[0].T, layers.variance.sqrt())
    want = torch.logsumexp(normal.log_prob(v[:, None]).sum(-1) + weight.log(), 1)
    found = -layers.free_energy(v) - torch.logsumexp(layers.log_weight({1: h}), 0)
    torch.testing.assert_close(found, want)


HOT = Dream(kind="tempering", chains=64, temperatures=3)
LEARNERS = [(Dream(kind="cd", sweeps=5), 0.5, 0.9), (Dream(chains=200), 0.1, 1.2), (HOT, 0.5, 0.6)]  # rate, and nats above the entropy


@pytest.mark.parametrize(("dream", "rate", "short"), LEARNERS, ids=[dream.kind for dream, *_ in LEARNERS])
def test_learning_brings_the_likelihood_near_the_entropy(dream, rate, short):
    """Four patterns of a 2 x 3 image: log p can reach -log 4; independent pixels reach only -6 log 2."""
    patterns = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]], dtype=torch.float32)
    method = Rbm((1, 2, 3), hidden=6, dream=dream, learning_rate=rate, weight_decay=0.0)
    before = likelihood(method, patterns)
    learn(method, patterns.reshape(4, 1, 2, 3), 500)
    after = likelihood(method, patterns)
    assert before < -6 * np.log(2) + 0.1 and after > -np.log(4) - short, (before, after)


def test_gaussian_visibles_learn_means_and_spread():
    """Without hidden units to speak of, the best machine has the mean and the variance of each pixel."""
    random = torch.Generator().manual_seed(0)
    image = torch.randn(400, 1, 1, 2, generator=random) * torch.tensor([0.5, 2.0]) + torch.tensor([1.0, -1.0])
    method = Rbm((1, 1, 2), hidden=1, visible="gaussian", dream=Dream(chains=400), learning_rate=0.05, weight_decay=0.0)
    learn(method, image, 300)
    layers = method.machine()
    p = torch.softmax(layers.log_weight({1: torch.tensor([[0.0], [1.0]])}), 0)
    middles = torch.stack([layers.biases[0], layers.biases[0] + layers.weights[0][:, 0]])
    mean = p @ middles
    variance = p @ (middles - mean) ** 2 + layers.variance
    torch.testing.assert_close(mean, image.mean(0).flatten(), rtol=0.1, atol=0.1)
    torch.testing.assert_close(variance, image.var(0).flatten(), rtol=0.15, atol=0.02)


def test_rows_are_those_of_the_joint_batch():
    whole = Chance(3, 7).uniform((5, 4))
    parts = [Chance(3, 7, rank=rank, world=2).uniform((rows, 4)) for rank, rows in ((0, 3), (1, 2))]
    assert torch.equal(whole[0::2], parts[0]) and torch.equal(whole[1::2], parts[1])
    assert torch.equal(whole, Chance(3, 7, rank=1, world=2).uniform((5, 4), shared=True))
    assert not torch.equal(whole, Chance(3, 8).uniform((5, 4)))


@pytest.mark.parametrize("words", [0, (0, 0), (0, 0, 0)])
def test_draws_are_not_those_of_others_with_the_same_seed(words):
    """numpy pads seeds with zeros: (seed, step, 0) alone would repeat what a data set draws for (seed, step)."""
    other = np.random.default_rng(words).random((5, 4), dtype=np.float32)
    assert not np.isclose(Chance(0, 0).uniform((5, 4)).numpy(), other).any()


def test_normal_numbers_are_normal():
    from scipy import stats

    drawn = Chance(0, 0).normal((20000, 1)).flatten().numpy()
    assert stats.kstest(drawn, "norm").pvalue > 0.01


@pytest.mark.parametrize("image", [torch.full((1, 1, 2, 2), 1.5), torch.full((1, 1, 2, 2), -0.1), torch.zeros(1, 2, 2, 2)])
def test_images_that_do_not_fit_are_refused(image):
    with pytest.raises(VesaliusError, match="got"):
        next(Rbm((1, 2, 2), hidden=2).steps(batch(image)))


@pytest.mark.parametrize("more", [{"visible": "poisson"}, {"hidden": 0}])
def test_nonsense_is_refused(more):
    with pytest.raises(VesaliusError):
        Rbm((1, 2, 2), **more)


@pytest.mark.parametrize("tree", [{"kind": "tempering", "temperatures": 1}, {"sweeps": 0}, {"chains": 0}, {"kind": "gibbs"}])
def test_dreams_that_cannot_be_are_refused(tree):
    with pytest.raises(VesaliusError, match="settings"):
        Dream.checked(tree)


def test_dreams_and_filters_are_images():
    method = Rbm((2, 3, 4, 5), hidden=7)
    assert method.samples(3, sweeps=2).shape == (3, 2, 3, 4, 5) and method.filters().shape == (7, 2, 3, 4, 5)
    assert torch.equal(method.samples(3, sweeps=2), method.samples(3, sweeps=2))
    assert not torch.equal(method.samples(3, sweeps=2), method.samples(3, sweeps=2, seed=1))
