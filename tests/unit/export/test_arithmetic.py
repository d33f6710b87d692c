"""The steps of a network in numpy, against torch in double precision."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vesalius.export import arithmetic
from vesalius.export.numbers import halves, room, singles, whole

CONVOLVE = {2: F.conv2d, 3: F.conv3d}
RAISE = {2: F.conv_transpose2d, 3: F.conv_transpose3d}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def there(x):
    """As torch wants it: (B, C, *S) in double precision."""
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy()).double()


def back(x):
    return np.moveaxis(x.numpy(), 1, -1)


@pytest.mark.parametrize(
    ("sides", "kernel", "step", "pad"),
    [
        ((5, 6, 7), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
        ((5, 6, 7), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
        ((4, 6, 7), (1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ((5, 6), (3, 3), (2, 1), (1, 1)),
        ((1, 1), (3, 3), (1, 1), (1, 1)),
        ((5, 6), (1, 1), (1, 1), (0, 0)),
        ((8, 6), (5, 3), (3, 2), (2, 0)),
    ],
)
@pytest.mark.parametrize("biased", [False, True])
def test_convolution(sides, kernel, step, pad, biased):
    x, weight, bias = noise(2, *sides, 3), noise(4, 3, *kernel, seed=1), noise(4, seed=2) if biased else None
    wanted = CONVOLVE[len(sides)](there(x), torch.from_numpy(weight).double(), None if bias is None else torch.from_numpy(bias).double(),
                                  stride=step, padding=pad)  # fmt: skip
    np.testing.assert_allclose(arithmetic.convolution(x, weight, bias, step=step, pad=pad), back(wanted), atol=2e-5)


@pytest.mark.parametrize(("sides", "step"), [((3, 4, 2), (2, 2, 2)), ((3, 4, 2), (1, 2, 2)), ((3, 4), (2, 3))])
@pytest.mark.parametrize("biased", [False, True])
def test_transposed(sides, step, biased):
    x, weight, bias = noise(2, *sides, 3), noise(3, 5, *step, seed=1), noise(5, seed=2) if biased else None
    wanted = RAISE[len(sides)](there(x), torch.from_numpy(weight).double(), None if bias is None else torch.from_numpy(bias).double(),
                               stride=step)  # fmt: skip
    np.testing.assert_allclose(arithmetic.transposed(x, weight, bias, step=step), back(wanted), atol=1e-5)


@pytest.mark.parametrize("slope", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("affine", [False, True])
def test_normalisation(slope, affine):
    x = 3 * noise(2, 4, 5, 6, 3) + 100
    weight, bias = (noise(3, seed=1), noise(3, seed=2)) if affine else (None, None)
    given = [None if one is None else torch.from_numpy(one).double() for one in (weight, bias)]
    wanted = F.leaky_relu(F.instance_norm(there(x), weight=given[0], bias=given[1], eps=1e-5), slope)
    np.testing.assert_allclose(arithmetic.normalisation(x, weight, bias, added=1e-5, slope=slope), back(wanted), atol=1e-4)


def test_pools_leave_out_what_fills_no_block():
    x = noise(2, 5, 6, 7, 3)
    np.testing.assert_allclose(arithmetic.mean_pool(x, step=(2, 2, 3)), back(F.avg_pool3d(there(x), (2, 2, 3))), atol=1e-6)
    np.testing.assert_array_equal(arithmetic.max_pool(x, step=(2, 2, 3)), back(F.max_pool3d(there(x), (2, 2, 3))))


def test_halves_are_rounded_as_torch_rounds():
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, np.uint32)
    ties = np.arange(2**16, dtype=np.uint32) << 16 | 0x8000  # halfway between two neighbours in bf16
    x = np.concatenate([bits, ties, np.array([0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x00000001], np.uint32)]).view(np.float32)
    wanted = torch.from_numpy(x).bfloat16().float().numpy()
    np.testing.assert_array_equal(singles(halves(x)), wanted)


def test_every_half_comes_back():
    every = np.arange(2**16, dtype=np.uint16)
    number = ~np.isnan(singles(every))
    np.testing.assert_array_equal(halves(singles(every))[number], every[number])


@pytest.mark.parametrize("shape", [(3,), (2, 3, 5), (1, 1)])
def test_room_begins_with_a_line_of_the_cache(shape):
    for kind in (np.float32, np.uint16):
        made = room(shape, kind)
        assert made.shape == shape and made.dtype == kind and made.ctypes.data % 64 == 0
        assert made.flags.c_contiguous and made.flags.writeable


def test_whole_keeps_what_is_whole():
    x = room((2, 3), np.float32)
    x[...] = np.arange(6).reshape(2, 3)
    assert whole(x) is x
    turned = whole(x.T)
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(turned, x.T)
