"""Sampling in runs gives what torch's `grid_sample` gives; gamma, blur and contrast what their formulas say in double precision."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn.functional import grid_sample

from vesalius.augment import _sampling
from vesalius.augment._gamma import gamma_curve
from vesalius.augment._sampling import Look, Places, sample
from vesalius.augment.blur import blurred
from vesalius.augment.contrast import Contrast

TURNS = {2: [[0.0, 0.4], [-0.4, 0.0]], 3: [[0.0, 0.4, -0.2], [-0.4, 0.0, 0.3], [0.2, -0.3, 0.0]]}
SIZES = [((15, 11, 13), (9, 8, 7)), ((9, 8, 7), (9, 8, 7)), ((1, 8, 7), (3, 8, 7)), ((15, 11), (9, 8))]


def looked(source, patch, *, scale=1.0, bent=False):
    """Places that turn about the centre, and the same as `grid_sample` counts them."""
    linear = scale * torch.linalg.matrix_exp(torch.tensor(TURNS[len(patch)]).double())
    offset = (torch.tensor(source).double() - 1) / 2 - linear @ ((torch.tensor(patch).double() - 1) / 2)
    field = torch.randn(len(patch), *patch, generator=torch.Generator().manual_seed(1)) if bent else None
    numbers = torch.stack(torch.meshgrid(*(torch.arange(side).double() for side in patch), indexing="ij"))
    places = torch.einsum("ab,b...->a...", linear, numbers) + offset.reshape(-1, *[1] * len(patch)) + (0 if field is None else field)
    grid = torch.stack([(2 * place + 1) / side - 1 for place, side in zip(places, source, strict=True)][::-1], -1)
    return Places(linear, offset, patch, field), grid[None]


def sampled(source, places, *, nearest, outside):
    """What one sample shows."""
    out = torch.empty(len(source), *places.shape, dtype=source.dtype)
    sample([Look(source, out, nearest)], places, outside=outside)
    return out


@pytest.mark.parametrize("run", [1, 100, 2**16])
@pytest.mark.parametrize(("scale", "bent"), [(0.3, False), (1.0, False), (2.0, False), (0.5, True)])
@pytest.mark.parametrize("outside", ["zeros", "border"])
@pytest.mark.parametrize(("source", "patch"), SIZES)
def test_linear_is_that_of_grid_sample(monkeypatch, source, patch, outside, scale, bent, run):
    monkeypatch.setattr(_sampling, "RUN", run)
    values = torch.randn(2, *source, generator=torch.Generator().manual_seed(0))
    places, grid = looked(source, patch, scale=scale, bent=bent)
    expected = grid_sample(values[None].double(), grid, mode="bilinear", padding_mode=outside, align_corners=False)[0]
    torch.testing.assert_close(sampled(values, places, nearest=False, outside=outside), expected.float(), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("scale", "bent"), [(0.3, False), (1.0, False), (2.0, False), (0.5, True)])
@pytest.mark.parametrize(("source", "patch"), SIZES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_nearest_is_that_of_grid_sample(source, patch, scale, bent, dtype):
    values = torch.randint(0, 5, (1, *source), generator=torch.Generator().manual_seed(0)).to(dtype)
    places, grid = looked(source, patch, scale=scale, bent=bent)
    expected = grid_sample(values[None].double(), grid, mode="nearest", padding_mode="zeros", align_corners=False)[0]
    found = sampled(values, places, nearest=True, outside="zeros")
    between = (torch.stack([g * side / 2 for g, side in zip(grid[0].unbind(-1), reversed(source), strict=True)]) % 1).sub(0.5).abs() < 1e-5
    assert found.dtype == dtype
    assert torch.equal(found[0].double()[~between.any(0)], expected[0][~between.any(0)])


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_gamma_is_its_formula(offset):
    image = torch.randn(2, 3, 40, 41, 43, generator=torch.Generator().manual_seed(0)) + offset
    gamma = torch.tensor([[0.7, 1.0, 1.5], [0.8, 1.2, 1.4]])
    exact = image.double().numpy()
    for b, c in np.ndindex(2, 3):
        values = exact[b, c]
        curve = ((values - values.min()) / np.ptp(values)) ** float(gamma[b, c])
        wanted = (curve - curve.mean()) / curve.std() * values.std() + values.mean()
        np.testing.assert_allclose(gamma_curve(image, gamma)[b, c], wanted, rtol=1e-6, atol=2e-4)


def test_a_constant_channel_stays_under_gamma():
    assert torch.allclose(gamma_curve(torch.full((1, 1, 4, 4), 3.0), torch.tensor([[0.8]])), torch.tensor(3.0))


@pytest.mark.parametrize("shape", [(9, 8, 7), (2, 1, 20), (12, 30)])
def test_blur_is_a_truncated_gaussian(shape):
    image = torch.randn(2, 2, *shape, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([[0.5, 1.0], [0.7, 0.0]])
    for axis in range(len(shape)):
        found = blurred(image, sigma, axis=axis + 2, radius=3)
        for b, c in np.ndindex(2, 2):
            weights = np.exp(-0.5 * (np.arange(-3, 4) / max(float(sigma[b, c]), 1e-3)) ** 2)
            wanted = ndimage.correlate1d(image[b, c].double().numpy(), weights / weights.sum(), axis=axis, mode="nearest")
            np.testing.assert_allclose(found[b, c], wanted, atol=1e-6)


def test_contrast_keeps_the_range_of_each_channel():
    image = torch.randn(2, 2, 9, 8, generator=torch.Generator().manual_seed(0)) + 1
    factor = torch.tensor([[0.75, 1.25], [1.1, 1.0]])
    found = Contrast((0.75, 1.25)).apply(image, {"factor": factor})
    for b, c in np.ndindex(2, 2):
        values = image[b, c].double().numpy()
        wanted = np.clip((values - values.mean()) * float(factor[b, c]) + values.mean(), values.min(), values.max())
        np.testing.assert_allclose(found[b, c], wanted, atol=1e-6)
