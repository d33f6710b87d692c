"""What a critic is shown: nothing changes at probability 0, resampling is what its matrix says, and no distribution is lost below 0.8."""

import math

import numpy as np
import pytest
import torch

from vesalius.core.errors import UsageError
from vesalius.methods._chance import Chance
from vesalius.methods._views import CONTRAST, Views, moved, resampled, toned, turned


def drawn(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(6, 2, 7, 5), (6, 1, 5, 4, 6)])
def test_nothing_changes_at_probability_zero(shape):
    image = drawn(*shape)
    assert torch.equal(Views().shown(image, torch.tensor(0.0), Chance(0, 0), bounds=(-1, 1)), image)


@pytest.mark.parametrize("shape", [(1, 1, 6, 6), (1, 1, 6, 6, 6)])
def test_matrices_are_the_moves_that_they_say(shape):
    image, n = drawn(*shape), len(shape) - 2
    still, eye = torch.zeros(1, n), torch.eye(n)[None]
    torch.testing.assert_close(resampled(image, eye, still), image)
    for axis in range(n):
        mirror, shift = eye.clone(), still.clone()
        mirror[0, axis, axis], shift[0, axis] = -1, 1 / shape[axis + 2]
        torch.testing.assert_close(resampled(image, mirror, still), image.flip(axis + 2), rtol=1e-4, atol=1e-4)
        inside = resampled(image, eye, shift).narrow(axis + 2, 0, shape[axis + 2] - 1)
        torch.testing.assert_close(inside, image.narrow(axis + 2, 1, shape[axis + 2] - 1), rtol=1e-4, atol=1e-4)
    quarter = turned(torch.tensor([math.pi / 2]), (0, n - 1), n)
    around = [resampled(image, q, still) for q in (quarter, quarter.transpose(1, 2))]
    want = [torch.rot90(image, k, (2, n + 1)) for k in (1, -1)]
    assert min(float((around[0] - w).abs().max()) for w in want) < 1e-4
    torch.testing.assert_close(around[0], around[1].flip(2, n + 1), rtol=1e-4, atol=1e-4)


def test_a_turn_keeps_millimetres_on_oblong_images():
    """A bright disc stays round when an image of 24 x 12 is turned by 45 degrees."""
    grid = torch.stack(torch.meshgrid(torch.arange(24.0) - 11.5, torch.arange(12.0) - 5.5, indexing="ij"))
    disc = torch.exp(-grid.square().sum(0) / 8)[None, None]
    found = resampled(disc, turned(torch.tensor([math.pi / 4]), (0, 1), 2), torch.zeros(1, 2))
    near = grid.square().sum(0) < 36  # farther off, what was reflected comes in
    torch.testing.assert_close(found[0, 0, near], disc[0, 0, near], rtol=0, atol=0.06)


def expected_operator(probability, copies=400):
    """What `moved` makes of each of 9 unit images on average: columns of a matrix."""
    unit = torch.eye(9).reshape(9, 1, 3, 3).repeat_interleave(copies, 0)
    shown = moved(unit, torch.tensor(probability), Chance(0, 0))
    return shown.reshape(9, copies, 9).mean(1).T.numpy()


def test_moves_can_be_undone_in_distribution():
    """The expected image is a linear map of the image; it is the identity at 0 and can be inverted at 0.5, and hardly if all is moved."""
    least = {p: np.linalg.svd(expected_operator(p), compute_uv=False).min() for p in (0.0, 0.5, 1.0)}
    assert least[0.0] == pytest.approx(1) and least[0.5] > 0.05 and least[1.0] < least[0.5] / 2


def test_tones_can_be_undone_in_distribution():
    """The mean of a shown image is that of the image around the middle, times 1 - p + p E[2^(n / 2)] > 0: bijective for every p."""
    image, p = torch.full((60000, 1, 1, 1), 0.7), 0.5
    shown = toned(image, torch.tensor(p), Chance(0, 0), bounds=(0.0, 1.0))
    factor = 1 - p + p * math.exp((CONTRAST * math.log(2)) ** 2 / 2)
    assert float(shown.mean()) == pytest.approx(0.5 + 0.2 * factor, abs=4 * float(shown.std()) / math.sqrt(60000))


def test_a_gradient_comes_through():
    image = drawn(16, 1, 6, 5).requires_grad_()
    Views().shown(image, torch.tensor(0.8), Chance(0, 0), bounds=(-1, 1)).square().sum().backward()
    assert float(image.grad.abs().amax((1, 2, 3)).min()) > 0


def test_a_probability_that_leaks_is_refused():
    with pytest.raises(UsageError, match="leaks"):
        Views(probability=0.9)
