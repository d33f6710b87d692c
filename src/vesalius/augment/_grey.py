"""Changes of grey value by kernels in C, which go over a sample once where torch goes over it for each step of a formula.

A sample is (C, *S), float32, on the CPU, and is changed where it lies; each function says whether it did so. Where it did not, `apply` of
the transform is to be taken, whose formulas are the judge of the kernels in the tests.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vesalius.core.kernels import kernel

WIDEST = 64  # radius of a blur


def changeable(sample: Tensor) -> bool:
    """Whether kernels may change `sample` where it lies."""
    plain = sample.dtype == torch.float32 and sample.device.type == "cpu" and sample.ndim in (3, 4) and sample.is_contiguous()
    return plain and not sample.requires_grad and sample.numel() > 0 and not torch.compiler.is_compiling()


def scale(sample: Tensor, factors: Tensor) -> bool:
    """Multiply each channel by its factor (C,)."""
    return _each("grey_scale", sample, factors)


def contrast(sample: Tensor, factors: Tensor) -> bool:
    """Draw each channel from its mean by its factor (C,), range kept."""
    return _each("grey_contrast", sample, factors)


def gamma(sample: Tensor, powers: Tensor, *, inverted: bool) -> bool:
    """Bend each channel by its power (C,), mean and deviation kept."""
    bend, powers = kernel("grey_gamma", "ppiii"), _numbers(powers)
    if bend is None or powers.shape != (len(sample),):
        return False
    bend(sample.data_ptr(), powers.data_ptr(), len(sample), sample.numel() // len(sample), inverted)
    return True


def noise(sample: Tensor, table: Tensor, *, seed: int, deviation: float) -> bool:
    """Add `deviation` times entries of the `table` (65,536,), each named by 16 bits of numpy's PCG64."""
    add = kernel("grey_noise", "ppiif")
    if add is None or table.shape != (2**16,):
        return False
    add(sample.data_ptr(), table.data_ptr(), seed, sample.numel(), deviation)
    return True


def blur(sample: Tensor, sigma: Tensor, *, radius: int) -> bool:
    """Blur each channel by its sigma (C, n) voxels, cut at `radius`, where it is not 0; edges repeat."""
    smooth, sigma = kernel("grey_blur", "pppiiiiii"), _numbers(sigma)
    if smooth is None or radius > WIDEST or sigma.shape != (len(sample), sample.ndim - 1):
        return False
    planes, rows, columns = _sides(sample)
    spare = torch.empty((2 * radius + 1) * rows * columns + rows * (columns + 2 * radius))
    at = sample.data_ptr(), sigma.data_ptr(), spare.data_ptr()
    smooth(*at, radius, sample.ndim - 1, len(sample), planes, rows, columns)
    return True


def coarsen(sample: Tensor, sizes: Sequence[Sequence[int]]) -> bool:
    """Show each channel as it looks on a grid of its own size, none finer than the sample."""
    lose, sides = kernel("grey_coarsen", "pppiiii"), sample.shape[1:]
    none_finer = all(1 <= size <= side for one in sizes for size, side in zip(one, sides, strict=True))
    if lose is None or len(sizes) != len(sample) or not none_finer:
        return False
    wanted = np.array([one if len(one) == 3 else (one[0], 1, one[1]) for one in sizes], np.int64)
    planes, rows, columns = _sides(sample)
    spare = torch.empty(3 * rows * columns + 3 * (planes + rows + columns) + columns + 17)
    lose(sample.data_ptr(), wanted.ctypes.data, spare.data_ptr(), len(sample), planes, rows, columns)
    return True


def bias(sample: Tensor, coefficients: Tensor, *, strength: float) -> bool:
    """Multiply what is above the least value of each channel by the exponential of a polynomial whose largest magnitude is `strength`;
    `coefficients` (4, ...) are those of the powers of places from -1 to 1."""
    bend, coefficients = kernel("grey_bias", "pppfiiiiii"), _numbers(coefficients)
    if bend is None or coefficients.shape != (4,) * (sample.ndim - 1):
        return False
    lows = torch.empty(len(sample))
    at = sample.data_ptr(), coefficients.data_ptr(), lows.data_ptr()
    bend(*at, strength, 4, 4 if sample.ndim == 4 else 1, len(sample), *_sides(sample))
    return True


def _each(name: str, sample: Tensor, numbers: Tensor) -> bool:
    change, numbers = kernel(name, "ppii"), _numbers(numbers)
    if change is None or numbers.shape != (len(sample),):
        return False
    change(sample.data_ptr(), numbers.data_ptr(), len(sample), sample.numel() // len(sample))
    return True


def _numbers(parameter: Tensor) -> Tensor:
    return parameter.float().contiguous()


def _sides(sample: Tensor) -> tuple[int, int, int]:
    """Planes, rows and columns; a picture has planes of one row."""
    sides = sample.shape[1:]
    return (sides[0], 1, sides[1]) if len(sides) == 2 else (sides[0], sides[1], sides[2])
