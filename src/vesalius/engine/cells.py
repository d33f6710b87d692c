"""Sums of logits and the labels made of them by the kernels in C (`core/kernels/sums.c`, `labels.c`): what `engine/rolling.py` and
`engine/candidates.py` do in torch and numpy, read from memory once.

A tile goes into the sums in one pass, from whatever layout the network leaves it in. Of each cell of the coarse grid the kernel finds the
classes that can be the largest and interpolates those in registers, so no class exists on the finer grid. Which weights, which cells and
which shares are the same; sums are bit for bit those of torch, labels differ where two classes are equal up to the rounding of float32.

Shapes: sums float16 (K, *S) with the streaming axis in a ring; fewer than three axes are three with sides of 1 in front.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vesalius.core.kernels import Kernel, kernel
from vesalius.core.space import Array
from vesalius.engine.lines import Line

AXES = 3
MANY = 2**16  # numbers from which on several threads share the work: it takes longer than they take to start
BACK = 2**25  # bytes of sums from which on what is done with is given back to the system
TYPES = {torch.float32: 0, torch.bfloat16: 1}  # of logits, as the kernel numbers them
NOTHING = np.zeros(1, np.int64)


def decides() -> Kernel | None:
    """Labels from sums."""
    return kernel("largest_of_classes", "pppiiip")


def adds() -> Kernel | None:
    """Logits to sums."""
    return kernel("add_tile", "pdip")


def suits(sums: torch.dtype, device: torch.device, ndim: int) -> bool:
    """Whether the kernels can be had for sums of this type on this device."""
    there = decides() is not None and adds() is not None
    return there and sums == torch.float16 and device.type == "cpu" and 1 <= ndim <= AXES


def blank(shape: Sequence[int]) -> Tensor:
    """Sums (K, *S) that take no memory before they are written. Classes do not lie a power of two apart, which a cache is slow at."""
    classes, rest = shape[0], math.prod(shape[1:])
    apart = rest + (96 - rest) % 64  # odd in cache lines of 32 numbers
    return torch.from_numpy(np.zeros((classes, apart), np.float16))[:, :rest].unflatten(1, tuple(shape[1:]))


def empty(sums: Tensor, *, back: bool) -> None:
    """Zeros in `sums`, part of those of `blank`; `back` gives their memory back."""
    call = kernel("empty_sums", "pppi")
    assert call is not None and sums.stride(-1) == 1
    sides, steps = _three(sums.shape[1:]), _three(sums.stride()[1:-1], length=AXES - 1)
    width = sums.itemsize
    many = np.array([len(sums), *sides[:2], sides[2] * width], np.int64)
    far = np.array([sums.stride(0) * width, *(step * width for step in steps)], np.int64)
    call(sums.data_ptr(), many.ctypes.data, far.ctypes.data, int(back))


def add(sums: Tensor, logits: Tensor, weights: Sequence[Tensor], *, exclusive: bool, limit: float) -> bool:
    """`logits` (K, *box) times the product of `weights`, one line per axis, added to `sums`; put there where there are none. False where
    one of them is not finite or beyond `limit`."""
    call = adds()
    assert call is not None and sums.stride(-1) == 1 and sums.shape == logits.shape
    if logits.dtype not in TYPES:
        logits = logits.float()
    sides = _three(sums.shape[1:])
    lines = [torch.ones(1)] * (AXES - len(weights)) + [line.contiguous() for line in weights]
    addresses = [line.data_ptr() for line in lines] if weights else [0] * AXES
    words = [sums.data_ptr(), logits.data_ptr(), *addresses, len(sums), *sides, sums.stride(0), *_three(sums.stride()[1:-1], length=AXES - 1),
             logits.stride(0), *_three(logits.stride()[1:]), TYPES[logits.dtype], int(exclusive)]  # fmt: skip
    tile, beyond = np.array(words, np.int64), np.ones(1, np.int64)
    call(tile.ctypes.data, limit, threads(logits.numel()), beyond.ctypes.data)
    return not beyond[0]


def threads(numbers: int) -> int:
    """How many are worth it for so many numbers."""
    return torch.get_num_threads() if numbers >= MANY else 1


class Cells:
    """Labels uint8 (*output) from `sums` (K, *S); `lines` are their axes. What lies beyond a side of `sums` lies at the remainder."""

    def __init__(self, sums: Tensor, lines: Sequence[Line], labels: Array) -> None:
        self.sums, self.lines, self.labels = sums, lines, labels

    def decide(self, box: Sequence[slice]) -> None:
        """Labels of the output voxels in `box`."""
        call, done = decides(), np.zeros(1, np.int64)
        assert call is not None
        if any(part.stop <= part.start for part in box):
            return
        axes, kept = self._axes(box)
        many = math.prod(part.stop - part.start for part in box) * len(self.sums)
        call(self.sums.data_ptr(), self.labels.ctypes.data, axes.ctypes.data, len(self.sums), self.sums.stride(0), threads(many), done.ctypes.data)
        if not done[0]:
            raise MemoryError("There is no memory left for the way from logits to labels.")
        del kept

    def _axes(self, box: Sequence[slice]) -> tuple[Array, list[Array]]:
        """The axes as the kernel has them, (3, 7), and what they name."""
        rows, kept = [], []
        for axis, (line, part) in enumerate(zip(self.lines, box, strict=True)):
            cell, share = np.ascontiguousarray(line.cell), np.ascontiguousarray(line.part)
            address = share.ctypes.data if line.reach else 0
            steps = self.sums.stride(1 + axis), self.labels.strides[axis]
            rows.append([cell.ctypes.data, address, part.start, part.stop, self.sums.shape[1 + axis], *steps])
            kept += [cell, share]
        whole = [[NOTHING.ctypes.data, 0, 0, 1, 1, 0, 0]] * (AXES - len(rows))
        return np.array([*whole, *rows], np.int64), kept


def _three(numbers: Sequence[int], *, length: int = AXES) -> list[int]:
    """`numbers` with ones in front."""
    return [1] * (length - len(numbers)) + list(numbers)
