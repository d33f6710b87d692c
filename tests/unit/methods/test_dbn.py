"""Deep belief network: the bound and the distribution by enumeration, greedy and up-down learning, and the way up as a network."""

import math

import numpy as np
import pytest
import torch

from tests.unit.methods import tiny
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch, Kind
from vesalius.methods._partition import log_partition
from vesalius.methods.dbn import Dbn


def made(*hidden, tied=False, **more):
    """A network over 2 x 2 images with weights far from zero."""
    method = Dbn((1, 2, 2), hidden=hidden, **more).double()
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in method.net.parameters():
            p.copy_(torch.randn(p.shape, generator=random))
        for layer in range(len(hidden) - 1):
            if tied:
                method.net.tie(layer)
    return method


IMAGES = tiny.states(4).reshape(16, 1, 2, 2)


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Nothing is rounded to float32 on the way."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@torch.no_grad()
def log_p(method):
    """Exact log p of the sixteen images: the top machine's marginal of its lower layer, then down through every state."""
    top = method.net.layers(method.depth - 1)
    number = len(top.biases[0])
    log = -top.free_energy(tiny.states(number)) - log_partition(top)
    for layer in range(method.depth - 2, -1, -1):
        below = tiny.states(len(method.net.layers(layer).biases[0]))
        joint = torch.stack([method.net.log_down(layer, below, above.expand(len(below), -1)) for above in tiny.states(number)], 1)
        log, number = torch.logsumexp(joint + log, 1), below.shape[1]
    return log


@torch.no_grad()
def exact_bound(method):
    """E_q[log p(all layers) - log q] for two hidden layers, by enumeration of the first."""
    top, found = method.net.layers(1), []
    hidden = tiny.states(len(top.biases[0]))
    for v in tiny.states(4):
        q = torch.sigmoid(method.net.drive(0, v[None]))
        log_q = (hidden * q.log() + (1 - hidden) * (1 - q).log()).sum(1)
        log = method.net.log_down(0, v.expand(len(hidden), -1), hidden) - top.free_energy(hidden)
        found.append(float((log_q.exp() * (log - log_q)).sum()))
    return torch.tensor(found).double()


def test_probabilities_sum_to_one():
    for hidden in ((3, 2), (3, 2, 2)):
        assert float(log_p(made(*hidden)).exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize("tied", [False, True])
def test_the_bound_is_the_expectation_and_below_the_likelihood(tied):
    method = made(3, 2, tied=tied)
    want = exact_bound(method)
    singles = torch.stack([method.bound(IMAGES, draws=1, seed=s) for s in range(600)])
    error = singles.std(0) / math.sqrt(600)
    assert bool(((singles.mean(0) - want).abs() < 5 * error + 1e-6).all())
    assert bool((want - log_partition(method.net.layers(1)) <= log_p(method) + 1e-9).all())


def test_the_way_down_is_the_machine_and_gaussian_pixels_are_normal():
    method = Dbn((1, 1, 2), hidden=(3, 2), visible="gaussian").double()
    with torch.no_grad():
        for p in method.net.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    machine, above, x = method.net.layers(0), tiny.states(3), torch.randn(8, 2).double()
    normal = torch.distributions.Normal(machine.biases[0] + above @ machine.weights[0].T, machine.variance.sqrt())
    torch.testing.assert_close(method.net.log_down(0, x, above), normal.log_prob(x).sum(1))
    method.net.tie(0)
    torch.testing.assert_close(method.net.drive(0, x), machine.drive(x))


def test_the_encoder_is_the_way_up_and_can_be_taught():
    for method in (made(3, 2), made(3, 2, 2)):
        encoder = method.encoder()
        torch.testing.assert_close(encoder(IMAGES), method.features(IMAGES))
        encoder(IMAGES).sum().backward()
        assert all(p.grad is not None for p in encoder.parameters()) and len(encoder) == 1 + 2 * method.depth


PATTERNS = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]]).double()


def learn(method, steps):
    teachers = method.optimisers()
    seen = []
    for _ in range(steps):
        names = []
        for name, losses in method.steps(Batch({"image": PATTERNS.reshape(3, 1, 2, 2).repeat(10, 1, 1, 1)}, {"image": Kind.IMAGE})):
            names.append(name)
            teachers[name].zero_grad()
            sum(losses.values()).backward()
            teachers[name].step()
        seen.append(tuple(names))
    return seen


def likelihood(method):
    return float(np.mean([float(log_p(method)[int(row @ torch.tensor([8.0, 4, 2, 1]).double())]) for row in PATTERNS]))


def test_layers_learn_in_turn_and_then_together():
    method = Dbn((1, 2, 2), hidden=(4, 3, 2), greedy=2).double()
    assert learn(method, 8) == [("layer0",)] * 2 + [("layer1",)] * 2 + [("layer2",)] * 2 + [("layer2", "layer0", "layer1")] * 2


def test_ways_up_are_tied_until_all_learn_together():
    method = Dbn((1, 2, 2), hidden=(4, 3), greedy=3, learning_rate=0.2).double()
    learn(method, 6)
    torch.testing.assert_close(method.net.up[0].weight, method.net.layers(0).weights[0].T)
    learn(method, 1)
    assert not torch.allclose(method.net.up[0].weight, method.net.layers(0).weights[0].T)


def test_greedy_then_up_down_brings_the_likelihood_near_the_entropy():
    """Three patterns of 2 x 2 pixels: log p can reach -log 3 = -1.1; independent pixels have about -2.6."""
    method = Dbn((1, 2, 2), hidden=(6, 6), greedy=150, learning_rate=0.2, weight_decay=0.0).double()
    learn(method, 300)
    greedy = likelihood(method)
    learn(method, 150)
    assert greedy > -2.1 and likelihood(method) > -1.75, (greedy, likelihood(method))


NONSENSE = [{"hidden": (5,)}, {"visible": "poisson"}, {"greedy": 0}]


@pytest.mark.parametrize("more", NONSENSE)
def test_nonsense_is_refused(more):
    with pytest.raises(UsageError):
        Dbn((1, 2, 2), **more)


def test_dreams_are_images():
    assert made(3, 2).samples(5, sweeps=3).shape == (5, 1, 2, 2)


def test_dreams_have_the_distribution_of_the_network():
    method = made(3, 2)
    p = log_p(method).exp()
    pixels = method.samples(4000, sweeps=60).flatten(1).mean(0)
    np.testing.assert_allclose(pixels, p @ tiny.states(4), atol=0.03)
