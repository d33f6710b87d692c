"""Cells of a coarse grid in which several classes can be the largest, and the labels of the output voxels in them.

A hit is a border cell and one of its candidates. Hits come class by class, because the sums of one class lie together, and wait until there
are enough for long runs. Then cells are taken together that hold equally many output voxels along each axis, those with the most
candidates first: the first candidates of all of them are mixed at once, the second ones of all of them, the third ones of the first so
many, and so on.

Shapes: C border cells, H hits, (corners, H) with 2 corners or 1 per axis, (slots per axis ..., C) for the output voxels in cells.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vesalius.core.space import Array
from vesalius.engine.lines import Line

HITS = 2**17  # that wait at the most: some 5 MB, if there are so many
FEW = 2**10  # cells of a kind that are not worth calls of their own
MANY = 4  # candidates; cells with more are taken together whatever their kind
Shares = list[tuple[Tensor, Tensor] | None]


@dataclass(frozen=True, eq=False)
class Hits:
    """The `cell` (H,) of each hit, how many candidates of this cell come before it (`rank`), the `number` of its class, and the bits of
    its sums at the `corners` (corners, H)."""

    cell: Array
    rank: Array
    number: Array
    corners: Array

    def part(self, first: int, stop: int) -> "Hits":
        return Hits(self.cell[first:stop], self.rank[first:stop], self.number[first:stop], self.corners[:, first:stop])


class Borders:
    """Border cells that wait for their labels; `lines` are the axes in the order in which places of cells name them, and `steps` how far
    voxels along them are apart in `labels` (flat, uint8). `sums` is the type of the sums of logits."""

    def __init__(self, lines: list[Line], labels: Array, steps: list[int], *, sums: torch.dtype) -> None:
        self.lines, self.labels, self.steps, self.sums = lines, torch.from_numpy(labels), steps, sums
        self.places = np.empty((len(lines), HITS // 2), np.int32)
        self.counts = np.empty(HITS // 2, np.uint16)
        corners = np.empty((math.prod(1 + one.reach for one in lines), HITS), np.uint32 if sums.itemsize == 4 else np.uint16)
        self.hits = Hits(np.empty(HITS, np.int32), np.empty(HITS, np.uint8), np.empty(HITS, np.uint8), corners)
        self.cells = self.used = 0  # cells and hits that wait

    def add(self, places: Sequence[Array], counts: Array) -> tuple[int, Hits]:
        """The number of the first of the cells at `places` (axes, C), and room to be filled with their candidates, `counts` (C,) of each:
        2 at least, and `HITS` at most in all."""
        number = int(counts.sum(dtype=np.int64))
        if self.used + number > HITS:
            self.decide()
        first, room = self.cells, self.hits.part(self.used, self.used + number)
        self.cells, self.used = first + len(counts), self.used + number
        self.places[:, first : self.cells] = places
        self.counts[first : self.cells] = counts
        return first, room

    def decide(self) -> None:
        """Labels of the cells that wait."""
        if not self.cells:
            return
        counts, hits = self.counts[: self.cells], self.hits.part(0, self.used)
        kind, mixed = self._kind()
        order, back, runs = arranged(kind, counts, hits)
        numbers, start = hits.number.take(back), 0
        for values in hits.corners:
            values[:] = values.take(back)
        values = torch.from_numpy(hits.corners.view(np.int32 if self.sums.itemsize == 4 else np.int16)).view(self.sums)
        for number, (cells, lengths) in enumerate(zip(np.split(order, runs[:, 0].cumsum()[:-1]), runs.tolist(), strict=True)):
            if len(cells):
                slots = [len(one.where) if number == mixed else int(one.count[place[cells[0]]]) for one, place in self._along()]
                stop = start + sum(lengths)
                several = torch.split(values[:, start:stop], [length for length in lengths if length], 1)
                self._label(cells, several, torch.from_numpy(numbers[start:stop]), slots=slots)
                start = stop
        self.cells = self.used = 0

    def _along(self) -> Iterable[tuple[Line, Array]]:
        """Each axis and the places of the cells along it."""
        return zip(self.lines, self.places, strict=True)

    def _kind(self) -> tuple[Array, int]:
        """A number for each cell: equal where they hold equally many output voxels along each axis. Those that are few of their kind, or
        have many candidates, share a number, the second that is given."""
        kind = np.zeros(self.cells, np.uint16)
        for one, place in self._along():
            kind *= np.uint16(one.kinds)
            kind += one.kind.take(place[: self.cells])
        size = np.bincount(kind)
        kind = np.where(size < FEW, len(size), np.arange(len(size))).astype(np.uint16).take(kind)
        kind[self.counts[: self.cells] > MANY] = len(size)
        return kind, len(size)

    def _label(self, cells: Array, corners: Iterable[Tensor], numbers: Tensor, *, slots: list[int]) -> None:
        """Labels of `cells`, all of one kind; `corners` are those of their first, second ... candidates, (corners, C or fewer) each, and
        `numbers` the classes of all these hits."""
        where = [torch.from_numpy(place.take(cells)) for place in self.places]
        shape = [1 + one.reach for one in self.lines]
        hit = largest((values.float().view(*shape, -1) for values in corners), self._shares(where, slots))
        hit = hit.long().add_(torch.arange(len(cells)))
        target = self._targets(where, slots)
        chosen = numbers.index_select(0, hit.flatten()).view(hit.shape)
        self.labels.scatter_(0, target.flatten(), chosen.expand_as(target).flatten())

    def _targets(self, places: list[Tensor], slots: list[int]) -> Tensor:
        """Where the output voxels (slots per axis ..., C) of the cells at `places` lie in the labels."""
        target = torch.zeros((), dtype=torch.int64)
        for axis, (one, place, step, count) in enumerate(zip(self.lines, places, self.steps, slots, strict=True)):
            where = torch.from_numpy(one.where[:count] * step)
            target = target + _along(where.index_select(1, place), axis, len(places))
        return target

    def _shares(self, places: list[Tensor], slots: list[int]) -> Shares:
        """What the nearer and the further corner count at the output voxels of the cells at `places`, axis by axis."""
        shares: Shares = []
        for axis, (one, place, count) in enumerate(zip(self.lines, places, slots, strict=True)):
            if one.share is None:
                shares.append(None)
                continue
            far = torch.from_numpy(one.share[:count]).index_select(1, place)
            shares.append((_along(1 - far, axis, len(places)), _along(far, axis, len(places))))
        return shares


def arranged(kind: Array, counts: Array, hits: Hits) -> tuple[Array, Array, Array]:
    """Cells (C,) by kind, those with the most candidates first; hits (H,) by kind and rank, in the order of their cells; and how many cells
    of each kind have a first, second ... candidate (kinds, most)."""
    order = np.argsort((kind + 1) * 256 - counts, kind="stable")
    most = np.int32(counts.max())
    row = kind * most
    held = np.bincount(row + counts - 1, minlength=(int(kind.max()) + 1) * int(most)).reshape(-1, most)
    runs = held[:, ::-1].cumsum(1)[:, ::-1]
    start, first = (runs.cumsum() - runs.ravel()).reshape(runs.shape), runs[:, :1].cumsum(0) - runs[:, :1]
    position, cell = np.empty(len(order), np.int32), hits.cell.astype(np.intp)
    position[order] = np.arange(len(order), dtype=np.int32)
    place = (start - first).astype(np.int32).ravel().take(row.take(cell) + hits.rank) + position.take(cell)
    back = np.empty(len(place), np.int64)
    back[place] = np.arange(len(place))
    return order, back, runs


def largest(corners: Iterable[Tensor], shares: Shares) -> Tensor:
    """Of first, second ... candidates with sums at their corners, (2 or 1 per axis ..., C or fewer) each: how many hits before the largest
    come, at every output voxel of the cells (slots per axis ..., C), if all hits stand in one row. The first of equals."""
    items = iter(corners)
    best = _mixed(next(items), shares)
    before, offset = torch.zeros_like(best), best.shape[-1]
    for values in items:
        value, left = _mixed(values, shares), values.shape[-1]
        greater = torch.gt(value, best[..., :left], out=torch.empty_like(value))
        torch.maximum(best[..., :left], value, out=best[..., :left])
        torch.maximum(before[..., :left], greater.mul_(offset), out=before[..., :left])
        offset += left
    return before


def _mixed(values: Tensor, shares: Shares) -> Tensor:
    """`values` at the corners of cells (2 or 1 per axis ..., C), mixed for every output voxel in them."""
    for axis, share in enumerate(shares):
        if share is not None:
            (near, far), count = torch.split(values, 1, axis), values.shape[-1]
            values = (near * share[0][..., :count]).addcmul_(far, share[1][..., :count])
    return values


def _along(values: Tensor, axis: int, count: int) -> Tensor:
    """(slots, C) as the axis number `axis` of `count`, and C last."""
    return values.reshape(*[1] * axis, len(values), *[1] * (count - axis - 1), -1)
