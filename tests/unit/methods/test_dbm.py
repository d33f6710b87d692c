"""Deep Boltzmann machine: mean field, bound, dream and the filling of a missing channel against enumeration of all states."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.unit.methods import tiny
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch, Kind
from vesalius.methods._chance import Chance
from vesalius.methods._dream import Dream
from vesalius.methods._partition import log_partition
from vesalius.methods.dbm import Dbm, apart


def made(*hidden, scale=1.0, seed=0, **more):
    """A machine over 2 x 2 images (two channels where it is by channel), with weights far from zero."""
    shape = (2, 1, 2) if more.get("by_channel") else (1, 2, 2)
    method = Dbm(shape, hidden=hidden, **more)
    weights = tiny.machine(4, *hidden, scale=scale, seed=seed).state_dict()
    method.net.load_state_dict(weights, strict=False)
    return method.double()


def images(method):
    return tiny.states(4).reshape(16, *method.shape)


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Nothing is rounded to float32 on the way."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def log_p(method):
    """Exact log p of every image."""
    p = tiny.probabilities(method.machine())
    return np.log(p.reshape(16, -1).sum(1))


@pytest.mark.parametrize("hidden", [(3, 2), (3, 2, 2)])
def test_the_bound_is_below_the_exact_likelihood(hidden):
    method = made(*hidden)
    bound = method.bound(images(method)).numpy() - log_partition(method.machine())
    assert (bound <= log_p(method) + 1e-9).all() and np.abs(bound - log_p(method)).max() > 1e-3


@pytest.mark.parametrize("hidden", [(3, 2), (3, 2, 2)])
def test_mean_field_never_lowers_the_bound_and_is_stationary_at_the_end(hidden):
    method = made(*hidden)
    bounds = [method.bound(images(method), iterations=k) for k in (1, 2, 3, 5, 10, 200)]
    assert all(bool((after >= before - 1e-12).all()) for before, after in pairwise(bounds))
    layers, states = method.machine(), method.believed(method.machine(), tiny.states(4), 500)
    means = [states[m].clone().requires_grad_() for m in range(1, len(layers))]
    value = -layers.energy({0: tiny.states(4), **dict(enumerate(means, start=1))})
    value = value + sum((torch.special.entr(x) + torch.special.entr(1 - x)).sum(1) for x in means)
    assert all(float(g.abs().max()) < 1e-6 for g in torch.autograd.grad(value.sum(), means))


def test_without_upper_weights_the_bound_is_exact():
    """Then hiddens are independent given the image, as mean field supposes."""
    method = made(3, 2)
    with torch.no_grad():
        method.net.weights[1].zero_()
    bound = method.bound(images(method)).numpy() - log_partition(method.machine())
    np.testing.assert_allclose(bound, log_p(method), rtol=1e-9)


@pytest.mark.parametrize("hidden", [(3, 2), (3, 2, 2)])
def test_the_gradient_of_the_dream_is_that_of_log_z(hidden):
    """Free energies of the even layers, weighted by their exact probability, have the gradient of -log Z."""
    method = made(*hidden)
    layers = method.net.layers()
    sizes = [len(b) for b in layers.biases[::2]]
    picks = torch.cartesian_prod(*[torch.arange(2**n) for n in sizes])
    even = {2 * k: tiny.states(n)[picks[:, k]] for k, n in enumerate(sizes)}
    weights = layers.log_weight(even)
    z = torch.logsumexp(weights, 0)
    taught = [*method.net.weights, *method.net.biases]
    exact = torch.autograd.grad(z, taught, retain_graph=True)
    p = torch.softmax(weights, 0).detach()
    for a, b in zip(exact, torch.autograd.grad((p * layers.log_weight(even)).sum(), taught), strict=True):
        torch.testing.assert_close(a, b)


def test_the_gradient_of_the_data_is_that_of_the_bound():
    """With mean field at its fixed point, -d E / d theta is d bound / d theta by central differences."""
    method = made(3, 2)
    data = images(method)[:5]
    layers = method.net.layers()
    energy = layers.energy(method.believed(layers.detached(), data.flatten(1), 500)).sum()
    found = torch.autograd.grad(energy, method.net.weights[0])[0]
    for place in ((0, 0), (2, 1), (3, 2)):
        bounds = []
        for sign in (1, -1):
            with torch.no_grad():
                method.net.weights[0][place] += sign * 1e-4
            bounds.append(float(method.bound(data, iterations=500).sum()))
            with torch.no_grad():
                method.net.weights[0][place] -= sign * 1e-4
        assert -float(found[place]) == pytest.approx((bounds[0] - bounds[1]) / 2e-4, rel=1e-4, abs=1e-6)


def test_the_dream_has_the_distribution_of_the_machine():
    method = made(3, 2, scale=0.8, dream=Dream(chains=4000, sweeps=1))
    layers = method.machine()
    want = tiny.probabilities(layers).reshape(16, -1).sum(1) @ tiny.states(4).numpy()
    for step in range(60):
        even = method._dream(layers, Chance(0, step))
        odd = [layers.sample(m, d, Chance(1, step)) for m, d in layers.drives(even).items()]
        method.kept.copy_(torch.cat(odd, 1))
    np.testing.assert_allclose(even[0].mean(0), want, atol=5 * 0.5 / math.sqrt(4000))


@pytest.mark.parametrize("hidden", [(4, 2), (4, 2, 2)])
def test_a_missing_channel_is_filled_with_its_exact_expectation(hidden):
    """Two channels of two pixels: E[second | first] by enumeration, and as the chains find it."""
    method = made(*hidden, by_channel=True)
    with torch.no_grad():
        for weight in method.net.weights:  # units that agree are probable, from the pixels to the top
            weight.copy_(weight.abs() + 0.5)
        for bias, offset in zip(method.net.biases, method.net.offsets, strict=True):
            bias.mul_(0.2)
            offset.fill_(0.5)
    p = tiny.probabilities(method.machine()).reshape(4, 4, -1).sum(2)
    want = (p / p.sum(1, keepdims=True)) @ tiny.states(2).numpy()
    assert np.ptp(want, 0).max() > 0.05  # the first channel says something of the second
    image = tiny.states(4)[::4].repeat(40, 1).reshape(-1, 2, 1, 2)
    found = method.fill(image, [1], sweeps=200)
    np.testing.assert_allclose(found[:, 1, 0].reshape(40, 4, 2).mean(0), want, atol=0.03)
    torch.testing.assert_close(found[:, 0], image[:, 0])


def test_channels_meet_above_the_first_layer_alone():
    torch.testing.assert_close(apart(2, 4, 2), torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]).double().float())
    method = made(4, 2, by_channel=True)
    weight = method.machine().weights[0]
    assert float(weight[:2, 2:].abs().max()) == float(weight[2:, :2].abs().max()) == 0 < float(weight[:2, :2].abs().min())


def test_the_estimates_of_the_likelihood_meet():
    method = made(4, 3, scale=0.8)
    random = np.random.default_rng(0)
    p = np.exp(log_p(method))
    picks = torch.from_numpy(random.choice(16, 300, p=p / p.sum()))
    found = method.likelihood(images(method)[picks], temperatures=100, chains=200)
    exact = float(log_p(method)[picks].mean())
    assert found["conservative"].value <= exact + 0.02 and exact - found["conservative"].value < 0.1
    assert found["bound"].value < exact + 0.05 and exact - found["bound"].value < 0.3


@pytest.mark.parametrize("hidden", [(6, 4), (6, 4, 3)])
def test_joint_learning_brings_the_likelihood_near_the_entropy(hidden):
    """Three patterns of 2 x 2 pixels: log p can reach -log 3; independent pixels have about -2.6."""
    patterns = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]], dtype=torch.float64)
    method = Dbm((1, 2, 2), hidden=hidden, dream=Dream(chains=100, sweeps=2), learning_rate=0.2, weight_decay=0.0).double()
    image = patterns.reshape(3, 1, 2, 2)
    teacher = method.optimisers()["net"]
    for step in range(500):
        for group in teacher.param_groups:
            group["lr"] = 0.2 * (1 - step / 500)
        for _, losses in method.steps(Batch({"image": image}, {"image": Kind.IMAGE})):
            teacher.zero_grad()
            sum(losses.values()).backward()
            teacher.step()
    log = log_p(method)
    found = np.mean([log[int(row @ np.array([8, 4, 2, 1]))] for row in patterns.numpy()])
    assert found > -math.log(3) - 0.5, found


NONSENSE = [{"hidden": (5,)}, {"visible": "poisson"}, {"dream": Dream(kind="cd")}, {"hidden": (5, 2), "by_channel": True}]


@pytest.mark.parametrize("more", NONSENSE)
def test_nonsense_is_refused(more):
    with pytest.raises(UsageError):
        Dbm((2, 2, 2), **more)
    with pytest.raises(UsageError, match="among"):
        made(4, 2).fill(torch.zeros(1, 1, 2, 2), [1])
