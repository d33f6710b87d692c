"""The tests of explanations find what they are for: a heat that ignores the model, one that misses, one that does not add up."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from vesalius.core.errors import UsageError
from vesalius.explain import EXPLAIN, Explanation, completeness_gap, deletion, energy_inside, pointing, randomisation_test
from vesalius.explain._sanity import rank_correlation
from vesalius.testing.check_explain import Convolutional, example, trained


class Edges(Explanation):
    """An edge detector in disguise: it never asks the network."""

    def run(self, net, image, target):
        return image.sum(1).diff(dim=-1, prepend=image.sum(1)[..., :1]).abs()


def test_an_edge_detector_is_found_out_and_gradients_are_not():
    net, (image, _) = trained(Convolutional, 2), example(2, seed=5)
    false, true = randomisation_test(net, Edges(), image), randomisation_test(net, EXPLAIN["integrated_gradients"](steps=8), image)
    assert false.correlations == pytest.approx((1.0,) * len(false.layers)) and not false.believable and "Do not read" in false.sentence()
    assert true.believable and true.correlations[-1] < 0.5 and "has learned" in true.sentence()
    assert true.layers == ("answer", "norm", "second", "first"), "from the answer to the image"


def test_randomising_leaves_the_network_alone_and_repeats():
    net, (image, _) = trained(Convolutional, 2), example(2, seed=5)
    before = [p.clone() for p in net.parameters()]
    first, again, other = (randomisation_test(net, EXPLAIN["grad_cam"](), image, seed=s) for s in (0, 0, 1))
    assert first == again != other
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    with pytest.raises(UsageError, match="no weights"):
        randomisation_test(nn.Flatten(), Edges(), image)


def test_rank_correlation_is_scipys_with_ties():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randint(-4, 5, (3, 6, 7), generator=generator).float(), torch.randn(3, 6, 7, generator=generator)
    pairs = zip(a.abs().numpy(), b.abs().numpy(), strict=True)
    expected = np.mean([spearmanr(x.ravel(), y.ravel()).statistic for x, y in pairs])
    assert rank_correlation(a, b) == pytest.approx(expected)
    assert rank_correlation(a, 3 * a) == pytest.approx(1) and rank_correlation(a, torch.ones_like(a)) == 0


def test_pointing_and_energy_by_hand():
    heat, mask = torch.zeros(2, 4, 4), torch.zeros(2, 4, 4)
    heat[0, 1, 1], heat[0, 3, 3], heat[1, 0, 3], heat[1, 2, 2] = 3, 1, 2, -5
    mask[:, 1:3, 1:3] = 1
    assert pointing(heat, mask).tolist() == [True, False] and pointing(heat, mask, tolerance=1).tolist() == [True, True]
    assert energy_inside(heat, mask).tolist() == pytest.approx([0.75, 0.0])
    assert energy_inside(-torch.ones(1, 4, 4), mask[:1]).tolist() == [0.0]
    volume = torch.zeros(1, 3, 4, 4)
    volume[0, 0, 0, 0] = 1
    assert pointing(volume, volume.roll(1, 1), tolerance=1).tolist() == [True] and pointing(volume, volume.roll(1, 1)).tolist() == [False]


def test_the_gap_of_a_heat_that_is_off_by_one_is_one():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    image = torch.randn(2, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([1, 0])
    heat = EXPLAIN["integrated_gradients"](steps=1)(net, image, target)
    assert completeness_gap(net, image, heat, target=target).tolist() == pytest.approx([0, 0], abs=1e-5)
    heat[:, 0, 0] += 1
    assert completeness_gap(net, image, heat, target=target).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_deleting_what_mattered_hurts_sooner_than_deleting_at_random():
    net, (image, mask) = trained(Convolutional, 2), example(2, seed=6, number=8)
    target = torch.arange(8) % 2
    informed = deletion(net, image, EXPLAIN["integrated_gradients"]()(net, image, target), target=target)
    random = deletion(net, image, torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)), target=target)
    assert informed.shape == (21, 8) and informed.mean() < random.mean()
    with torch.no_grad():
        assert informed[0] == pytest.approx(net(image).softmax(1)[torch.arange(8), target].numpy(), abs=1e-6)
        assert informed[-1] == pytest.approx(net(torch.zeros_like(image)).softmax(1)[torch.arange(8), target].numpy(), abs=1e-6)


def test_nonsense_is_refused():
    for words in ({"steps": 0}, {"samples": 0}, {"noise": -1.0}):
        name = "integrated_gradients" if "steps" in words else "smooth_grad"
        with pytest.raises(UsageError):
            EXPLAIN[name](**words)
