"""The kernels in C for logits on their way to labels (`core/kernels/sums.c`, `labels.c`), in terms of tensors.

A tile goes into sums in one pass, from whatever layout a network leaves it in: bit for bit what `Rolling.add` does in torch. Labels come
out of sums in another: of each cell of the coarse grid the kernel finds the classes that can be the largest (`engine/candidates.py` says
how) and interpolates those in registers. They differ from labels made by torch where two classes are equal up to the rounding of float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vesalius.core.errors import VesaliusError
from vesalius.core.kernels import Kernel, kernel
from vesalius.core.space import Array
from vesalius.engine.lines import Line

AXES = 3
MOST = 256  # classes
MANY = 2**16  # numbers from which on several threads share the work: less is done before they have started
TYPES = {torch.float32: 0, torch.bfloat16: 1}  # of logits, as the kernel numbers them


def adds() -> Kernel | None:
    """Logits to sums."""
    return kernel("add_tile", "pdip")


def decides() -> Kernel | None:
    """Sums to labels."""
    return kernel("largest_of_classes", "pppiip")


def suit(sums: torch.dtype, device: torch.device, ndim: int) -> bool:
    """Whether the kernels can be had for such sums of a volume of `ndim` axes."""
    there = adds() is not None and decides() is not None
    return there and sums == torch.float16 and device.type == "cpu" and 1 <= ndim <= AXES


def threads(numbers: int) -> int:
    """How many are worth it for so many numbers."""
    return torch.get_num_threads() if numbers >= MANY else 1


def add(sums: Tensor, logits: Tensor, weights: Sequence[Tensor], *, exclusive: bool, limit: float) -> bool:
    """`logits` (K, *box) times the product of `weights`, one line for each axis, added to `sums`; put there where there are none. False
    where one of them is not finite or beyond `limit`."""
    call = adds()
    assert call is not None and sums.dtype == torch.float16
    if sums.shape != logits.shape:
        raise VesaliusError(f"Expected logits {tuple(sums.shape)} of a tile, as many classes as of the first; got {tuple(logits.shape)}.")
    if not sums.numel():
        return True
    assert sums.stride(-1) == 1
    logits = logits.to(sums.device, logits.dtype if logits.dtype in TYPES else torch.float32)
    lines = [torch.ones(1)] * (AXES - len(weights)) + [line.contiguous() for line in weights]
    addresses = [line.data_ptr() if len(weights) else 0 for line in lines]
    words = [sums.data_ptr(), logits.data_ptr(), *addresses, len(sums), *_three(sums.shape[1:]),
             sums.stride(0), *_three(sums.stride()[1:])[:-1], logits.stride(0), *_three(logits.stride()[1:]),
             TYPES[logits.dtype], int(exclusive)]  # fmt: skip
    tile, beyond = np.array(words, np.int64), np.ones(1, np.int64)
    call(tile.ctypes.data, limit, threads(logits.numel()), beyond.ctypes.data)
    if beyond[0] == 2:
        raise MemoryError("There is no memory left to add logits to the sums of a volume.")
    return not beyond[0]


@dataclass(frozen=True, eq=False)
class Rows:
    """Where the rows of sums along the last of three axes are: for each place along the axis `along` (0 or 1), the `address` of that row
    of class 0 which is at 0 along the other (though it need not exist), and steps in numbers: to the next (`step`) and to the next class
    (`classes`). `low` and `size`: voxels of a row, the first and how many."""

    address: Array
    step: Array
    classes: Array
    along: int
    low: int
    size: int


def decide(labels: Array, rows: Rows, lines: Sequence[Line], *, box: Sequence[slice], classes: int) -> None:
    """Labels uint8 (*output) of the output voxels in `box`, three axes each; `lines` lead there from the coarse grid."""
    call, done = decides(), np.zeros(1, np.int64)
    assert call is not None and labels.ndim == AXES and labels.strides[-1] == 1 and labels.dtype == np.uint8 and classes <= MOST
    if any(part.stop <= part.start for part in box):
        return
    shares = [line.part.ctypes.data if line.reach else 0 for line in lines]
    ends = [(0, 0), (0, 0), (rows.low, rows.size)]
    axes = np.array([[line.cell.ctypes.data, share, part.start, part.stop, *end, step]
                     for line, share, part, end, step in zip(lines, shares, box, ends, labels.strides, strict=True)], np.int64)  # fmt: skip
    parts = np.array([rows.address.ctypes.data, rows.step.ctypes.data, rows.classes.ctypes.data, rows.along], np.int64)
    many = classes * int(np.prod([part.stop - part.start for part in box]))
    call(parts.ctypes.data, labels.ctypes.data, axes.ctypes.data, classes, threads(many), done.ctypes.data)
    if not done[0]:
        raise MemoryError("There is no memory left to make labels of logits.")


def _three(numbers: Sequence[int]) -> list[int]:
    """`numbers` with ones in front."""
    return [1] * (AXES - len(numbers)) + list(numbers)
