"""The largest of many classes on a finer grid, of which only those are interpolated that can be the largest.

Linear interpolation weighs the corners of a cell of the coarse grid with numbers that are not negative and add up to one. Two things
follow. A class that leads at every corner of a cell leads throughout it: the cell has its number, and nothing of it is interpolated. And
a class lies between its least and its largest corner: in the other cells, the borders, a class whose largest corner is below the least
corner of another is nowhere the largest. What is left are the candidates of that cell, and they alone are interpolated
(`engine/borders.py`). The labels are those of all classes interpolated, but for ties within rounding (one voxel of 1,728,000 in
benchmarks/levers.py).

To find candidates takes the order of sums alone, and floating-point numbers of one sign have the order of their bits: these are compared
as unsigned integers (`Rolling.bits`), of which the largest logit has the least. "Depth" is short for how far a sum is below 0.

Shapes: a block is (T, *plane), T rows of the coarse grid along the streaming axis, laid out flat, N voxels; the cell between a voxel and
the next along every axis has the place of that voxel, and the cells of the last voxels are closed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np

from vesalius.core.space import Array
from vesalius.engine.borders import HITS, Borders, Hits
from vesalius.engine.lines import Line
from vesalius.engine.rolling import Rolling

BLOCK = 2**17  # voxels of one class in a block: 256 KB of depths, a quarter of what the cache of a core holds
PAIRS = 3 * 2**21  # classes times voxels in a block at the most: a byte each
PAYS = 1.5  # output voxels for each voxel from which on passes over the coarse grid cost less than they save
Depths = Callable[[int], Array]


def pays(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether candidates are looked for at all: not on an output grid that is hardly finer."""
    return math.prod(new) >= PAYS * math.prod(old)


class Winners:
    """Labels uint8 (1, *S) from the sums of logits in `rolling`; `lines` are the axes in their own order."""

    def __init__(self, rolling: Rolling, lines: list[Line], labels: Array) -> None:
        axis = rolling.cut.axis
        self.rolling, self.labels = rolling, np.moveaxis(labels[0], axis, 0)
        axes = [axis, *(other for other in range(len(lines)) if other != axis)]
        self.lines = [lines[axis] for axis in axes]
        self.plane = tuple(rolling.cut.shape[axis] for axis in axes[1:])
        self.borders = Borders(self.lines, labels.reshape(-1), list(self.labels.strides), sums=rolling.sums.dtype)

    def decide(self, span: slice) -> None:
        """Labels of the output rows `span`, whose cells are complete."""
        cell = self.lines[0].cell
        low, high = int(cell[span.start]), int(cell[span.stop - 1]) + 1
        step = max(1, min(BLOCK, PAIRS // len(self.rolling.bits)) // math.prod(self.plane))
        for first in range(low, high, step):
            self._block(first, min(first + step, high))
        self.borders.decide()

    def _block(self, first: int, stop: int) -> None:
        """Labels of the output rows in the rows of cells from `first` to `stop`, but for the borders, which wait."""
        shape = (stop - first + self.lines[0].reach, *self.plane)
        steps = [math.prod(shape[axis + 1 :]) for axis, one in enumerate(self.lines) if one.reach]

        depths = self.rolling.depths(first, shape)
        found = candidates(depths, self._opened(first, stop, shape), steps, classes=len(self.rolling.bits))
        self._fill(found.leading.reshape(shape), first, stop)
        for part in found.parts():
            cells = (part.start + np.flatnonzero(found.counts[part])).astype(np.int32)
            row, *places = _unraveled(cells, shape)
            start, room = self.borders.add([row + first, *places], found.counts.take(cells))
            handed(found, part, room, depths=depths, steps=steps, cells=(start, cells))

    def _opened(self, first: int, stop: int, shape: tuple[int, ...]) -> Array:
        """Which cells of a block hold output voxels and are of it."""
        rows = np.zeros(shape[0], bool)
        rows[: stop - first] = self.lines[0].count[first:stop]
        return reduce(lambda a, b: a[..., None] & b, [rows, *(one.count > 0 for one in self.lines[1:])]).ravel()

    def _fill(self, leading: Array, first: int, stop: int) -> None:
        """Every output voxel in these rows of cells gets the number that leads at the first corner of its cell."""
        cell = self.lines[0].cell
        rows = slice(*np.searchsorted(cell, (first, stop)))
        for axis in reversed(range(1, leading.ndim)):
            leading = leading.take(self.lines[axis].cell, axis)
        self.labels[rows] = leading.take(cell[rows] - first, 0)


@dataclass(frozen=True, eq=False)
class Found:
    """Of a block of N voxels: `leading` (N,) the number of the largest class at each, `can` (K, N) which classes are candidates of which
    border cells, `counts` (N,) how many are."""

    leading: Array
    can: Array
    counts: Array

    def parts(self) -> list[slice]:
        """Runs of cells that hold borders, with at most `HITS` candidates together."""
        total, least = int(self.counts.sum(dtype=np.int64)), HITS - 256  # a cell has 256 at the most
        stops = [len(self.counts)]
        if total > least:
            stops = [*np.searchsorted(self.counts.cumsum(dtype=np.int64), np.arange(least, total, least)).tolist(), *stops]
        return [slice(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True) if self.counts[a:b].any()]


def candidates(depths: Depths, opened: Array, steps: list[int], *, classes: int) -> Found:
    """Which classes can be the largest in which of the `opened` cells (N,); `depths(number)` are those of a class, unsigned integers (N,),
    and `steps` the distances between corners."""
    leading, bound = _leading(depths, steps, classes=classes)
    low, high = (_pooled(leading, np.zeros((2, len(leading)), np.uint8), steps, extreme=extreme) for extreme in (np.minimum, np.maximum))
    bound += 1
    bound[~(opened & (low != high))] = 0  # nothing is below that
    both = np.empty((2, len(bound)), bound.dtype)
    can, counts = np.empty((classes, len(opened)), bool), np.zeros(len(opened), np.uint8 if classes < 256 else np.uint16)
    for number, here in enumerate(can):
        np.less(_pooled(depths(number), both, steps, extreme=np.minimum), bound, out=here)
        np.add(counts, here.view(np.uint8), out=counts)
    return Found(leading, can, counts)


def _leading(depths: Depths, steps: list[int], *, classes: int) -> tuple[Array, Array]:
    """The number of the largest class at each voxel, the first of equals; and of every cell the least of the largest depths of classes."""
    least = depths(0).copy()
    both = np.zeros((2, len(least)), least.dtype)
    bound = _pooled(least, both, steps, extreme=np.maximum).copy()
    leading, ahead = np.zeros((2, len(least)), np.uint8)
    for number in range(1, classes):
        now = depths(number)
        np.less(now, least, out=ahead.view(bool))
        np.minimum(now, least, out=least)
        np.maximum(leading, np.multiply(ahead, np.uint8(number), out=ahead), out=leading)
        np.minimum(bound, _pooled(now, both, steps, extreme=np.maximum), out=bound)
    return leading, bound


def handed(found: Found, part: slice, room: Hits, *, depths: Depths, steps: list[int], cells: tuple[int, Array]) -> None:
    """Fill `room` with the candidates of the border `cells` (number of the first, places in the block) in `part` of the block."""
    column, seen, done = np.empty(part.stop - part.start, np.int32), np.zeros(part.stop - part.start, np.uint8), 0
    column[cells[1] - part.start] = np.arange(cells[0], cells[0] + len(cells[1]), dtype=np.int32)
    shifts = [part.start + sum(corner) for corner in product(*((0, step) for step in steps))]
    for number, can in enumerate(found.can[:, part]):
        here = np.flatnonzero(can)
        if not len(here):
            continue
        hits, sums = room.part(done, done + len(here)), depths(number)
        for values, shift in zip(hits.corners, shifts, strict=True):
            sums[shift:].take(here, out=values, mode="clip")
        column.take(here, out=hits.cell, mode="clip")
        seen.take(here, out=hits.rank, mode="clip")
        np.add(seen, can.view(np.uint8), out=seen)
        hits.number[:] = number
        done += len(here)


def _pooled(now: Array, spare: Array, steps: list[int], *, extreme: np.ufunc) -> Array:
    """The least (or largest) corner of every cell, in one of the two `spare` arrays; `now` itself where there are no steps."""
    out, other = spare
    for step in steps:
        extreme(now[:-step], now[step:], out=out[:-step])
        now, out, other = out, other, out
    return now


def _unraveled(flat: Array, shape: tuple[int, ...]) -> list[Array]:
    """Indices along each axis; numpy's own takes six times as long."""
    indices: list[Array] = []
    for side in reversed(shape[1:]):
        rest = flat // np.int32(side)
        indices.append(flat - rest * np.int32(side))
        flat = rest
    return [flat, *reversed(indices)]
