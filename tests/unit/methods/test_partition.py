"""log Z and likelihoods: enumeration against the formula, and the two ways of annealing on either side of it."""

import math

import numpy as np
import pytest
import torch
from scipy import special

from tests.unit.methods import tiny
from vesalius.core.errors import UsageError
from vesalius.methods._layers import Layers
from vesalius.methods._partition import (
    annealed,
    backward_weights,
    bootstrapped,
    conservative,
    forward_weights,
    likelihood,
    log_partition,
    reverse_annealed,
)

SHAPES = [(5, 4), (4, 3, 3), (3, 3, 2, 2)]


def drawn(layers, number, seed=0):
    """Even layers drawn exactly from a machine of at most four layers, by enumeration."""
    p = tiny.probabilities(layers)
    picks = np.random.default_rng(seed).choice(p.size, number, p=p.ravel())
    places = np.unravel_index(picks, p.shape)
    return {layer: tiny.states(len(layers.biases[layer]))[places[layer]] for layer in range(0, len(layers), 2)}


@pytest.mark.parametrize("sizes", SHAPES)
def test_log_z_is_the_sum_over_all_states(sizes):
    layers = tiny.machine(*sizes).layers().detached()
    assert log_partition(layers) == pytest.approx(tiny.log_z(layers), rel=1e-12)


@pytest.mark.parametrize("sizes", SHAPES)
def test_either_parity_can_be_summed_out(sizes):
    layers = tiny.machine(*sizes).layers().detached()
    for parity in (0, 1):
        every = [tiny.states(n) if layer % 2 == parity else torch.zeros(1, 1) for layer, n in enumerate(sizes)]
        picks = torch.cartesian_prod(*[torch.arange(len(x)) for x in every]).reshape(-1, len(sizes))
        states = {layer: every[layer][picks[:, layer]] for layer in range(parity, len(sizes), 2)}
        others = tuple(layer for layer in range(len(sizes)) if layer % 2 != parity)
        want = special.logsumexp(-tiny.energies(layers), axis=others).ravel()
        np.testing.assert_allclose(layers.log_weight(states), want, rtol=1e-10)


def test_log_z_of_gaussian_visibles_without_weights_is_that_of_normals_and_coins():
    layers = Layers((torch.tensor([1.0, -2.0]), torch.zeros(3)), (torch.zeros(2, 3),), torch.tensor([4.0, 9.0]))
    want = math.log(2 * math.pi) + math.log(2 * 3) + 3 * math.log(2)
    assert log_partition(layers) == pytest.approx(want)
    assert float(layers.log_start()) == pytest.approx(want)


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize("gaussian", [False, True])
def test_annealing_from_both_sides_meets_the_exact_value(sizes, gaussian):
    """Slowly annealed, both estimates of log Z are within 0.1 nat and their intervals are narrow."""
    layers = tiny.machine(*sizes, gaussian=gaussian, scale=0.6).layers().detached()
    exact = log_partition(layers)
    there = annealed(layers, temperatures=200, chains=400, seed=1)
    assert abs(there.value - exact) < 0.1 and there.low < there.value < there.high < there.low + 0.3
    if not gaussian:
        back = reverse_annealed(layers, drawn(layers, 400), temperatures=200, seed=2)
        assert abs(back.value - exact) < 0.1 and back.low < back.value < back.high < back.low + 0.3


@pytest.mark.parametrize("sizes", SHAPES[:2])
def test_annealing_in_haste_brackets_the_exact_value(sizes):
    """In three steps, with single chains: the mean of log Z is below the exact one on the way there and above on the way back (Jensen),
    by more than four standard errors; the means of exp are unbiased."""
    layers = tiny.machine(*sizes, scale=1.5).layers().detached()
    exact = log_partition(layers)
    there = forward_weights(layers, temperatures=3, chains=20000, seed=0)
    back = backward_weights(layers, drawn(layers, 20000), temperatures=3, seed=1)
    for weights, sign in ((there, -1), (back, 1)):
        error = float(weights.std()) / math.sqrt(len(weights))
        assert sign * (float(weights.mean()) - exact) > 4 * error
        ratio = torch.exp(-sign * (weights - exact))
        assert abs(float(ratio.mean()) - 1) < 5 * float(ratio.std()) / math.sqrt(len(ratio))


def test_one_step_of_annealing_by_hand():
    """A single step has weights f_1(v) / f_0(v) with v from the base: over all v their mean is Z / Z_0."""
    layers = tiny.machine(3, 2).layers().detached()
    v = tiny.states(3)
    start = torch.softmax(layers.log_weight({0: v}, None, 0.0), 0)
    ratio = torch.exp(layers.log_weight({0: v}) - layers.log_weight({0: v}, None, 0.0))
    assert float((start * ratio).sum()) == pytest.approx(math.exp(log_partition(layers) - float(layers.log_start())))


def test_base_rates_are_where_annealing_begins():
    """At beta 0 visibles have the means of the data and hiddens are fair coins."""
    net = tiny.machine(3, 2)
    net.begin(torch.tensor([0.2, 0.5, 0.9]).double())
    layers = net.layers().detached()
    torch.testing.assert_close(layers.mean(0, torch.zeros(1, 3).double(), 0.0)[0], torch.tensor([0.2, 0.5, 0.9]).double())
    p = torch.softmax(layers.log_weight({0: tiny.states(3)}, None, 0.0), 0)
    torch.testing.assert_close(p @ tiny.states(3), torch.tensor([0.2, 0.5, 0.9]).double())


def test_raise_is_below_and_annealing_above_the_likelihood():
    """Exact log p of every visible state; RAISE in haste is below on average, slowly it meets it."""
    layers = tiny.machine(5, 4).layers().detached()
    every = tiny.states(5)
    exact = layers.log_weight({0: every}) - log_partition(layers)
    hasty = torch.stack([conservative(layers, {0: every}, temperatures=3, chains=1, seed=s) for s in range(300)])
    p = exact.exp()
    gap = hasty @ p - p @ exact
    assert float(gap.mean()) < -4 * float(gap.std()) / math.sqrt(300)
    slow = conservative(layers, {0: every}, temperatures=300, chains=50)
    assert float((p * (slow - exact)).sum().abs()) < 0.05


def test_the_two_likelihoods_bracket_the_exact_one():
    layers = tiny.machine(8, 6).layers().detached()
    visible = drawn(layers, 200)[0]
    found = likelihood(layers, visible, temperatures=100, chains=1000)
    assert found["conservative"].value <= found["exact"].value + 0.03 and found["exact"].value <= found["optimistic"].value + 0.03
    assert found["optimistic"].value - found["conservative"].value < 0.1
    own = (layers.log_weight({0: visible}) - tiny.log_z(layers)).mean()
    assert found["exact"].value == pytest.approx(float(own))


def test_intervals_cover_the_mean():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)).double()
    found = bootstrapped(values, lambda drawn: drawn.mean(-1))
    assert found.value == pytest.approx(float(values.mean()))
    assert found.high - found.low == pytest.approx(2 * 1.96 * float(values.std()) / 20, rel=0.1)


def test_too_many_units_are_not_enumerated():
    with pytest.raises(UsageError, match="at most 20 units"):
        log_partition(tiny.machine(30, 21).layers())
    with pytest.raises(UsageError, match="at least one"):
        annealed(tiny.machine(3, 2).layers(), temperatures=0)
