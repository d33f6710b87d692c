"""Dropout and stochastic depth from streams of their own, and weights that come from the generator alone."""

import math

import pytest
import torch
from torch import nn

from vesalius.core.errors import UsageError
from vesalius.nets import NETS
from vesalius.nets._blocks import CONV, initialise
from vesalius.nets._chance import Dropout, DropPath, drop_rates


def drawn(module, seed=0):
    return initialise(module, torch.Generator().manual_seed(seed))


def test_dropout_keeps_the_mean_and_drops_at_its_rate():
    """A share of 1 - rate is kept and weighed by 1 / (1 - rate); five standard errors of 40 000 draws."""
    out = drawn(Dropout(0.3))(torch.ones(200, 200))
    torch.testing.assert_close(out.unique(), torch.tensor([0, 1 / 0.7]))
    assert float((out > 0).float().mean()) == pytest.approx(0.7, abs=5 * math.sqrt(0.21 / 40_000))


def test_paths_are_dropped_sample_by_sample():
    out = drawn(DropPath(0.5))(torch.ones(64, 3, 4, 4)).flatten(1)
    assert bool(((out == 0).all(1) | (out == 2).all(1)).all()) and 0 < int((out[:, 0] == 0).sum()) < 64


def test_nothing_is_dropped_after_learning():
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn(Dropout(0.9)).eval()(x), x)
    assert torch.equal(drawn(DropPath(0.0))(x), x)


def test_masks_differ_from_step_to_step_and_go_on_after_loading():
    first, x = drawn(nn.Sequential(Dropout(0.5), nn.ReLU(), Dropout(0.5))), torch.ones(1, 256)
    one = first(x)
    state = {name: value.clone() for name, value in first.state_dict().items()}
    two = first(x)
    assert not torch.equal(one, two)
    second = drawn(nn.Sequential(Dropout(0.5), nn.ReLU(), Dropout(0.5)), seed=1)
    second.load_state_dict(state)
    assert torch.equal(second(x), two)
    assert not torch.equal(first[0](x), first[2](x))


def test_weights_from_elsewhere_need_no_streams():
    net = drawn(NETS["resnet"](2, 1, 2, scale=0.125, dropout=0.5))
    weights = {name: value for name, value in net.state_dict().items() if not name.endswith("stream")}
    assert len(weights) < len(net.state_dict())
    net.load_state_dict(weights)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_outside_its_range_is_refused(rate):
    with pytest.raises(UsageError, match="lies in"):
        Dropout(rate)


def test_rates_rise_evenly():
    assert drop_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])


def test_linear_layers_are_drawn_from_a_normal_cut_at_two_deviations():
    """Variance of a standard normal cut at +-2: 1 - 4 phi(2) / (2 Phi(2) - 1)."""
    weight = drawn(nn.Linear(400, 400)).weight.detach()
    inside = math.erf(2 / math.sqrt(2))
    variance = 1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / inside
    assert float(weight.abs().max()) <= 0.04
    assert float(weight.var()) == pytest.approx(0.02**2 * variance, rel=0.02)


def test_recurrent_layers_are_drawn_within_their_bound():
    layer = drawn(nn.LSTM(8, 25))
    every = torch.cat([p.detach().flatten() for p in layer.parameters()])
    assert 0.19 < float(every.abs().max()) <= 0.2
    assert float(every.var()) == pytest.approx(0.2**2 / 3, rel=0.05)


def test_a_module_that_draws_its_own_has_the_last_word():
    head = drawn(NETS["alexnet"](2, 1, 2, scale=0.125, hidden=512)).head
    assert float(head[4].weight.detach().std()) == pytest.approx(0.01, rel=0.02)
    block = drawn(NETS["convnext"](2, 1, 2, scale=0.125)).stages[1][0]
    assert float(block.scale.detach().unique()) == pytest.approx(1e-6)


@pytest.mark.parametrize("sides", [(2, 1, 1), (2, 2, 2), (2, 4, 4)])
def test_the_gradient_of_a_small_volume_does_not_depend_on_what_the_memory_held(sides):
    """In bf16 as without; before each turn freed memory is left full of what is not a number."""
    layer = CONV[3](32, 32, 3, padding=1, bias=False).to(memory_format=torch.channels_last_3d)
    x = torch.randn(8, 32, *sides, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last_3d)
    layer(x).square().mean().backward()
    expected = layer.weight.grad.clone()
    for _ in range(8):
        rubbish = [torch.full((layer.weight.numel(),), math.nan) for _ in range(3)]
        del rubbish
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            said = layer(x)
        said.float().square().mean().backward()
        torch.testing.assert_close(layer.weight.grad, expected)
