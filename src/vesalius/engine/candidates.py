"""The largest of many classes on a finer grid, of which only those are interpolated that can be the largest.

Linear interpolation weighs the corners of a cell of the coarse grid with numbers that are not negative and add up to one, so inside
a cell a class lies between the least and the largest of its corners. Where its largest corner is below the least corner of another
class, it is nowhere the largest: what is left are the candidates of that cell. A cell with one candidate has its number throughout;
in the others (the borders) the candidates alone are interpolated. The labels are those of all classes interpolated, bit for bit: what
is within rounding stays a candidate.

Shapes: a block is (T, *plane), T rows of the coarse grid along the streaming axis, laid out flat; the cell between a voxel and the next
along every axis has the place of that voxel, and the cells of the last voxels are closed. C cells with several candidates are worked on
at once, (slots, C) output voxels: where a cell holds fewer of them than another, its last is written twice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np
import torch
from torch import Tensor

from vesalius.core.space import Array
from vesalius.engine.rolling import Rolling

BLOCK = 2**17  # voxels of one class in a block: 512 KB, half of what the cache of a core holds
PAIRS = 3 * 2**21  # classes times voxels in a block at the most: were all of them candidates, they would take some 50 MB
WITHIN = 2.0**-20  # of a logit and of 1: more than rounding changes
Shares = tuple[Tensor, Tensor] | None
PAYS = 1.5  # output voxels for each voxel from which on passes over the coarse grid cost less than they save


@dataclass(frozen=True, eq=False)
class Line:
    """One axis on its way to the output grid. `cell` (new,): the cell that holds each output voxel. `where` (slots, old): the output
    voxels in each cell; `share` (slots, old): how much of the further corner each takes, None where voxels are picked, not mixed."""

    cell: Array
    where: Array
    share: Array | None
    open: Array  # (old,): whether a cell holds any output voxel

    @property
    def reach(self) -> int:
        """Steps from the first corner of a cell to its last."""
        return 0 if self.share is None else 1


def line(old: int, new: int, *, nearest: bool) -> Line:
    """The way from `old` voxels to `new` on the same length."""
    place = (np.arange(new) + 0.5) * old / new - 0.5
    picked = nearest or old in (1, new)
    cell = (np.floor(place + 0.5).clip(0, old - 1) if picked else np.floor(place).clip(0, old - 2)).astype(np.int64)
    first, stop = (np.searchsorted(cell, np.arange(old), side=side) for side in ("left", "right"))
    slots = np.arange((stop - first).max())[:, None]
    where = np.minimum(first + slots, stop - 1).clip(0)
    share = (place.clip(0, old - 1) - cell).astype(np.float32)
    return Line(cell, where, None if picked else share[where], stop > first)


def pays(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Whether candidates are looked for at all: not on an output grid that is hardly finer."""
    return math.prod(new) >= PAYS * math.prod(old)


@dataclass(frozen=True, eq=False)
class Found:
    """Candidates of a block: `only` (T * prod(plane),) the number of one of them, `cells` (C,) those with several, the most first, and
    `numbers` (most, C + 1) of these, in ascending order, of which the first `counts` (C,) hold."""

    only: Array
    cells: Array
    counts: Array
    numbers: Array


class Winners:
    """Labels uint8 (1, *S) from the sums of logits in `rolling`; `lines` are the axes in their own order."""

    def __init__(self, rolling: Rolling, lines: list[Line], labels: Array) -> None:
        self.rolling, self.labels = rolling, labels
        self.axes = [rolling.cut.axis, *(axis for axis in range(len(lines)) if axis != rolling.cut.axis)]
        self.lines = [lines[axis] for axis in self.axes]
        self.plane = tuple(rolling.cut.shape[axis] for axis in self.axes[1:])

    def decide(self, span: slice) -> None:
        """Labels of the output rows `span`, whose cells are complete."""
        cell = self.lines[0].cell
        low, high = int(cell[span.start]), int(cell[span.stop - 1]) + 1
        step = max(1, min(BLOCK, PAIRS // len(self.rolling.sums)) // math.prod(self.plane))
        for first in range(low, high, step):
            self._block(first, min(first + step, high))

    def _block(self, first: int, stop: int) -> None:
        """Labels of the output rows in the rows of cells from `first` to `stop`."""
        shape = (stop - first + self.lines[0].reach, *self.plane)
        closed = self._closed(first, stop, shape)
        rows = slice(*np.searchsorted(self.lines[0].cell, (first, stop)))
        steps = [math.prod(shape[axis + 1 :]) for axis, one in enumerate(self.lines) if one.reach]

        def rows_of(number: int, out: Tensor) -> None:
            self.rolling.block(number, first, out.view(shape))

        found = candidates(rows_of, closed, steps, classes=len(self.rolling.sums))
        picked = found.only.reshape(shape)
        for axis in reversed(range(len(shape))):
            cell = self.lines[axis].cell
            picked = picked.take(cell if axis else cell[rows] - first, axis)
        np.moveaxis(self.labels[0], self.axes[0], 0)[rows] = picked
        if len(found.cells):
            self._border(found, first, shape)

    def _closed(self, first: int, stop: int, shape: tuple[int, ...]) -> Tensor:
        """Which cells of a block hold no output voxel, or are not of it."""
        rows = np.zeros(shape[0], bool)
        rows[: stop - first] = self.lines[0].open[first:stop]
        opened = reduce(lambda a, b: a[..., None] & b, [rows, *(one.open for one in self.lines[1:])])
        return torch.from_numpy(~opened).flatten()

    def _border(self, found: Found, first: int, shape: tuple[int, ...]) -> None:
        """Labels of the cells with several candidates."""
        places = [torch.from_numpy(place) for place in np.unravel_index(found.cells, shape)]
        places[0] = places[0] + first
        rank = largest(found, self._corners(places), self._shares(places))
        entry = rank.to(torch.int32).mul_(found.numbers.shape[1]).add_(torch.arange(len(found.cells), dtype=torch.int32))
        chosen = torch.from_numpy(found.numbers.ravel()).index_select(0, entry.flatten()).view(rank.shape)
        target = self._targets(places)
        torch.from_numpy(self.labels).view(-1).scatter_(0, target.flatten(), chosen.expand_as(target).flatten())

    def _targets(self, places: list[Tensor]) -> Tensor:
        """Where the output voxels (slots per axis ..., C) of the cells at `places` lie in the flat labels."""
        target = torch.zeros((), dtype=torch.int64)
        for axis, (one, place) in enumerate(zip(self.lines, places, strict=True)):
            where = torch.from_numpy(one.where * self.labels.strides[1 + self.axes[axis]])
            target = target + _along(where.index_select(1, place), axis, len(places))
        return target

    def _shares(self, places: list[Tensor]) -> list[Shares]:
        """What the nearer and the further corner count at the output voxels of the cells at `places`, axis by axis."""
        shares: list[Shares] = []
        for axis, (one, place) in enumerate(zip(self.lines, places, strict=True)):
            if one.share is None:
                shares.append(None)
                continue
            far = torch.from_numpy(one.share).index_select(1, place)
            shares.append((_along(1 - far, axis, len(places)), _along(far, axis, len(places))))
        return shares

    def _corners(self, places: list[Tensor]) -> Callable[[Array], Tensor]:
        """A function from class numbers of the first cells of `places` to their float32 corners, (2 or 1 per axis ..., C)."""
        sums, rows = self.rolling.sums, self.rolling.thickness
        strides = [sums.stride(1 + axis) for axis in self.axes]
        flat, reach = sums.view(-1), [range(1 + one.reach) for one in self.lines]
        low = sum((place * stride for place, stride in zip(places[1:], strides[1:], strict=True)), places[0] % rows * strides[0])
        further = ((places[0] + 1) % rows - places[0] % rows) * strides[0]
        shifts = [sum(step * stride for step, stride in zip(steps, strides[1:], strict=True)) for steps in product(*reach[1:])]

        def corners(numbers: Array) -> Tensor:
            base = torch.from_numpy(numbers).long().mul_(sums.stride(0)).add_(low[: len(numbers)])
            made = torch.empty(len(reach[0]), len(shifts), len(base), dtype=sums.dtype)
            for row in made:
                for values, shift in zip(row, shifts, strict=True):
                    torch.index_select(flat[shift:], 0, base, out=values)
                base += further[: len(base)]
            return made.float().view(*map(len, reach), len(base))

        return corners


def candidates(block: Callable[[int, Tensor], None], closed: Tensor, steps: list[int], *, classes: int) -> Found:
    """Which classes can be the largest in which cells; `block(number, out)` fills `out` with a class, `steps` are the distances between
    corners in a flat block."""
    now, spare = torch.empty(2, len(closed))
    lower = torch.full_like(now, -torch.inf)
    for number in range(classes):
        block(number, now)
        torch.maximum(lower, _pooled(now, spare, steps, least=torch.minimum), out=lower)
    lower = (lower - WITHIN * (1 + lower.abs())).masked_fill_(closed, torch.nan)  # nothing is at least that
    counts = np.zeros(len(closed), np.uint8 if classes < 256 else np.uint16)
    only, can = np.zeros(len(closed), np.uint8), np.empty(len(closed), bool)
    cells, ranks = [], []
    for number in range(classes):
        block(number, now)
        np.greater_equal(_pooled(now, spare, steps, least=torch.maximum).numpy(), lower.numpy(), out=can)
        here = np.flatnonzero(can).astype(np.int32)
        cells.append(here)
        ranks.append(counts.take(here))
        only[here] = number
        np.add(counts, can.view(np.uint8), out=counts)
    return _sorted(only, counts, cells=cells, ranks=ranks)


def _pooled(now: Tensor, spare: Tensor, steps: list[int], *, least: Callable[..., Tensor]) -> Tensor:
    """The least (or largest) corner of every cell; both buffers are overwritten."""
    for step in steps:
        least(now[:-step], now[step:], out=spare[:-step])
        now, spare = spare, now
    return now


def _sorted(only: Array, counts: Array, *, cells: list[Array], ranks: list[Array]) -> Found:
    """`cells` that have class k as a candidate, and how many candidates come before it, as a table."""
    several = np.flatnonzero(counts > 1)
    several = several[np.argsort(counts.max(initial=0) - counts[several], kind="stable")]
    most, count = int(counts.max(initial=0)), len(several)
    places = np.full(len(counts), count, np.int32)  # cells with one candidate share a last column
    places[several] = np.arange(count, dtype=np.int32)
    numbers = np.zeros((most, count + 1), np.uint8)
    table = numbers.ravel()
    for number, (here, rank) in enumerate(zip(cells, ranks, strict=True)):
        table[rank * np.int32(count + 1) + places.take(here)] = number
    return Found(only, several, counts[several].astype(np.int32), numbers)


def largest(found: Found, corners: Callable[[Array], Tensor], shares: list[Shares]) -> Tensor:
    """Which of its candidates is the largest at every output voxel of the border cells, (slots per axis ..., C); the first of equals."""
    best = _mixed(corners(found.numbers[0, :-1]), shares)
    rank = torch.zeros_like(best)
    for number in range(1, len(found.numbers)):
        left = int(np.searchsorted(-found.counts, -number))  # cells with more candidates than that
        value = _mixed(corners(found.numbers[number, :left]), shares)
        greater = torch.gt(value, best[..., :left], out=torch.empty_like(value))
        torch.maximum(best[..., :left], value, out=best[..., :left])
        torch.maximum(rank[..., :left], greater.mul_(number), out=rank[..., :left])
    return rank


def _mixed(values: Tensor, shares: list[Shares]) -> Tensor:
    """`values` at the corners of cells (2 or 1 per axis ..., C), mixed for every output voxel in them."""
    for axis, share in enumerate(shares):
        if share is not None:
            (near, far), count = torch.split(values, 1, axis), values.shape[-1]
            values = (near * share[0][..., :count]).addcmul_(far, share[1][..., :count])
    return values


def _along(values: Tensor, axis: int, count: int) -> Tensor:
    """(slots, C) as the axis number `axis` of `count`, and C last."""
    return values.reshape(*[1] * axis, len(values), *[1] * (count - axis - 1), -1)
