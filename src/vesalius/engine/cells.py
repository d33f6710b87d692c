"""The kernels in C for logits on their way to labels (`core/kernels/sums.c`, `labels.c`), in terms of arrays.

A tile goes into sums in one pass, from whatever layout a network leaves it in: bit for bit what `Rolling.add` does in torch. Labels come
out of sums in another: of each cell of the coarse grid the kernel finds the classes that can be the largest (`engine/candidates.py` says
how) and interpolates those in registers. They differ from labels made by torch where two classes are equal up to the rounding of float32.

Nothing here needs torch: whoever has tensors hands over where their numbers lie (`engine/rolling.py` does).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from vesalius.core.errors import VesaliusError
from vesalius.core.kernels import Kernel, kernel
from vesalius.core.space import Array
from vesalius.engine.lines import Line

AXES = 3
MOST = 256  # classes
MANY = 2**16  # numbers from which on several threads share the work: less is done before they have started
FLOAT, SHORT = 0, 1  # logits of float32 and of bfloat16, as the kernel numbers them
BYTES = {FLOAT: 4, SHORT: 2}
KINDS = {np.dtype(np.float32): FLOAT, np.dtype(np.uint16): SHORT}


def adds() -> Kernel | None:
    """Logits to sums."""
    return kernel("add_tile", "pdip")


def decides() -> Kernel | None:
    """Sums to labels."""
    return kernel("largest_of_classes", "pppiip")


def suit(precision: str, device: str, ndim: int) -> bool:
    """Whether the kernels can be had for sums of that precision, on that kind of device, of a volume of `ndim` axes."""
    there = adds() is not None and decides() is not None
    return there and precision == "float16" and device == "cpu" and 1 <= ndim <= AXES


def worth(numbers: int, threads: int) -> int:
    """How many of `threads` are worth it for so many numbers."""
    return threads if numbers >= MANY else 1


@dataclass(frozen=True, eq=False)
class Laid:
    """Where logits lie in memory: the `address` of the first, and `strides` in numbers along each axis; `kind` is FLOAT or SHORT. `owner`
    is what must not be freed before them."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    kind: int
    owner: Any

    def __getitem__(self, box: tuple[slice | None, ...]) -> "Laid":
        """A slice of each axis in turn, those that come after whole; None is a further axis with a side of 1."""
        whole = [slice(None)] * (len(self.shape) - sum(part is not None for part in box))
        address, sides, axes = self.address, list[tuple[int, int]](), iter(zip(self.shape, self.strides, strict=True))
        for part in (*box, *whole):
            if part is None:
                sides.append((1, 0))
                continue
            side, stride = next(axes)
            start, stop, step = part.indices(side)
            assert step == 1
            address += start * stride * BYTES[self.kind]
            sides.append((max(0, stop - start), stride))
        return Laid(address, tuple(side for side, _ in sides), tuple(stride for _, stride in sides), self.kind, self.owner)


def laid(array: Array) -> Laid:
    """An array of float32, or of uint16 that hold bfloat16."""
    assert array.dtype in KINDS
    if any(stride % array.itemsize for stride in array.strides):
        array = np.ascontiguousarray(array)
    return Laid(array.ctypes.data, array.shape, steps(array), KINDS[array.dtype], array)


def steps(array: Array) -> tuple[int, ...]:
    """Strides in numbers."""
    return tuple(stride // array.itemsize for stride in array.strides)


def add(sums: Array, logits: Laid, weights: Sequence[Array], *, exclusive: bool, limit: float, threads: int = 1) -> bool:
    """`logits` (K, *box) times the product of `weights`, one line of float32 for each axis, added to `sums`, float16; put there where there
    are none. False where one of them is not finite or beyond `limit`."""
    call = adds()
    assert call is not None and sums.dtype == np.float16
    if sums.shape != logits.shape:
        raise VesaliusError(f"Expected logits {sums.shape} of a tile, as many classes as of the first; got {logits.shape}.")
    if not sums.size:
        return True
    sides, (apart, *rest) = sums.shape[1:], steps(sums)
    assert rest[-1] == 1 or sides[-1] == 1
    lines = [np.ones(1, np.float32)] * (AXES - len(weights)) + [np.ascontiguousarray(line, np.float32) for line in weights]
    addresses = [line.ctypes.data if len(weights) else 0 for line in lines]
    words = [sums.ctypes.data, logits.address, *addresses, len(sums), *_three(sides), apart, *_three(rest)[:-1],
             logits.strides[0], *_three(logits.strides[1:]), logits.kind, int(exclusive)]  # fmt: skip
    tile, beyond = np.array(words, np.int64), np.ones(1, np.int64)
    call(tile.ctypes.data, limit, worth(prod(logits.shape), threads), beyond.ctypes.data)
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


def decide(labels: Array, rows: Rows, lines: Sequence[Line], *, box: Sequence[slice], classes: int, threads: int = 1) -> None:
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
    many = classes * prod(part.stop - part.start for part in box)
    call(parts.ctypes.data, labels.ctypes.data, axes.ctypes.data, classes, worth(many, threads), done.ctypes.data)
    if not done[0]:
        raise MemoryError("There is no memory left to make labels of logits.")


def _three(numbers: Sequence[int]) -> list[int]:
    """`numbers` with ones in front."""
    return [1] * (AXES - len(numbers)) + list(numbers)
