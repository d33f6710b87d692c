"""The closed form that an RBM learns by, against autograd through free energies; and its coins, against the probabilities asked for."""

import numpy as np
import pytest
import torch

from tests.unit.methods import tiny
from vesalius.methods import _chance
from vesalius.methods._chance import Chance
from vesalius.methods._contrast import TOLD, Quick, contrast
from vesalius.methods._dream import Dream

KINDS = [Dream(kind="cd", sweeps=2), Dream(kind="pcd", chains=40), Dream(kind="tempering", chains=30, temperatures=3)]


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("dream", KINDS, ids=lambda d: d.kind)
def test_the_closed_form_is_what_autograd_finds(dream, centred):
    net = tiny.machine(5, 4, centred=centred).float()
    data, kept = torch.rand(20, 5), torch.ones(dream.rows, 4, dtype=torch.uint8)
    parameters, twin = [net.weights[0], *net.biases], kept.clone()
    losses, sums = contrast(net, data, dream=dream, kept=kept, chance=Chance(0, 3))
    found = torch.autograd.grad(losses["data"] + losses["dream"], parameters)
    pair = net.layers()
    quick = Quick.of(pair.detached(), torch.float32)
    drive, visible, _ = dream.next(quick, data, kept=twin, chance=Chance(0, 3))
    wanted = torch.autograd.grad(pair.free_energy(data).mean() - pair.free_energy(visible).mean(), parameters)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses["data"], pair.free_energy(data[:TOLD]).mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(losses["dream"], -pair.free_energy(visible[:TOLD]).mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sums, torch.cat([data.sum(0), torch.sigmoid(drive).sum(0)]))
    assert torch.equal(kept, twin)


def test_a_scaled_loss_has_a_scaled_gradient():
    net, data = tiny.machine(5, 4).float(), torch.rand(20, 5)
    plain, tripled = (
        torch.autograd.grad(scale * sum(contrast(net, data, dream=KINDS[0], kept=torch.zeros(0, 4), chance=Chance(0, 0))[0].values()),
                            net.weights[0])[0] for scale in (1.0, 3.0)
    )  # fmt: skip
    torch.testing.assert_close(tripled, 3 * plain)


def test_half_precision_is_near():
    net, data = tiny.machine(30, 20, scale=0.3).float(), (torch.rand(50, 30, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    pair = net.layers().detached()
    quick = Quick.of(pair, torch.bfloat16)
    torch.testing.assert_close(quick.drive(data), pair.drive(data), rtol=0.02, atol=0.03)
    with torch.autocast("cpu", torch.bfloat16):
        losses, _ = contrast(net, data, dream=KINDS[1], kept=torch.ones(40, 20, dtype=torch.uint8), chance=Chance(0, 0))
    (found,) = torch.autograd.grad(sum(losses.values()), net.weights[0])
    assert found.dtype == torch.float32 and bool(found.isfinite().all())


def flipped(probability, *, seed=0, step=0, kind=torch.bfloat16):
    """Coins of a chance of its own; the probabilities are left as they are."""
    return Chance(seed, step).coins(probability.clone(), torch.empty_like(probability, dtype=kind))


def test_coins_fall_as_often_as_asked():
    """Four standard errors; never where the probability is 0, always where it is 1; rows do not mind how many follow."""
    probability = torch.tensor([0.0, 1e-3, 0.3, 0.5, 0.97, 1.0]).repeat(40000, 1)
    found = flipped(probability)
    rate, want = found.float().mean(0), probability[0]
    assert found.dtype == torch.bfloat16 and bool(((rate - want).abs() <= 4 * (want * (1 - want) / 40000).sqrt() + 2**-17).all())
    assert torch.equal(flipped(probability[:7]), found[:7])
    assert not torch.equal(flipped(probability, step=1), found)
    lots = flipped(torch.full((1000, 4), 0.5), kind=torch.float32)
    assert np.abs(np.corrcoef(lots.numpy().T) - np.eye(4)).max() < 0.15


@pytest.mark.parametrize("probability", [2**-15, 1e-4, 2**-7, 0.5, 1 - 2**-7, 1 - 1e-4, 1 - 2**-15])
def test_coins_are_not_biased(probability):
    """Over 4 million coins of many steps the mean is within four standard errors, and 16 bits' half, of the probability."""
    asked = torch.full((100, 2000), probability)
    mean = float(torch.stack([flipped(asked, step=step, kind=torch.uint8).double().mean() for step in range(20)]).mean())
    assert abs(mean - probability) <= 4 * (probability * (1 - probability) / 4e6) ** 0.5 + 2**-17


def test_every_lot_is_met_by_the_part_of_the_unit_that_it_stands_for(monkeypatch):
    """All 65,536 lots in turn: exactly round(p 2^16) of them are below p."""
    lots = torch.arange(-(2**15), 2**15).to(torch.int16)
    monkeypatch.setattr(_chance, "_sixteen", lambda words, number: lots)
    for parts in (0, 1, 2, 655, 2**15, 2**16 - 1, 2**16):
        assert int(flipped(torch.full((2**16,), parts / 2**16), kind=torch.int32).sum()) == parts
