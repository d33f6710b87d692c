"""The rows of a volume that are in the making, as `engine/rolling.py` has them, kept in parts for the kernels of `engine/cells.py`.

A layer of tiles is cut into parts where its columns of tiles begin, along the axis in which these come in turn. Once a column is computed,
the part before it can be decided and makes room, while the next column is computed: less than the layer is ever kept. A part begins anew
for the next layer and takes over the rows that later ones need.

Shapes: three axes, those that a volume lacks in front with sides of 1. A part is float16 (K, *box), the rows of the streaming axis
outermost in memory unless it is the last, so that what is not yet written takes no memory.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from vesalius.core.memory import give_back
from vesalius.core.space import Array
from vesalius.engine import cells
from vesalius.engine.lines import Line, line
from vesalius.engine.sums import AIR, LIMIT, beyond
from vesalius.engine.tiles import Cut, Index, Piece

OWN = 2**17  # bytes, from which on sums are a mapping of their own
HUGE = 2**21  # bytes of a page that a system can hand out at once: a hundredth of the calls
Spans = list[tuple[int, int]]


@dataclass(eq=False)
class Part:
    """Sums (K, *box) of the voxels first ... stop of each axis."""

    sums: Array
    spans: Spans


class Parts:
    """Labels uint8 (*output) of exclusive classes, decided as soon as they can be, by so many threads."""

    def __init__(self, cut: Cut, classes: int, labels: Array, *, threads: int = 1) -> None:
        self.cut, self.classes, self.threads = cut, classes, threads
        lacking = cells.AXES - len(cut.shape)
        self.lacking, self.shape = lacking, (1,) * lacking + cut.shape
        self.labels = labels.reshape((1,) * lacking + labels.shape)
        self.axis = cut.axis + lacking
        self.across = 1 if self.axis == 0 else 0
        nearest = {axis + lacking for axis in cut.tiling.nearest}
        self.lines: list[Line] = [line(old, new, nearest=axis in nearest)
                                  for axis, (old, new) in enumerate(zip(self.shape, self.labels.shape, strict=True))]  # fmt: skip
        self.alone = [((share == 1) | (share == 0)).all(1) for share in cut.shares]
        self.bounds = self._bounds()
        self.ends = [cut.rows(cut.axis, stop - 1)[1] for _, stop in cut.layers()]  # of the rows of each layer
        self.parts = [self._part(number, 0) for number in range(len(self.bounds) - 1)]
        self.layer, self.layers = 0, [0] * len(self.parts)  # which is computed, and which each part is for
        self.done = self.side = 0  # output rows that are decided, and voxels across those that come next

    def add(self, index: Index, logits: cells.Laid) -> None:
        """`logits` (K, *patch) of tile `index`, by its share of each voxel."""
        alone = all(ones[number] for ones, number in zip(self.alone, index, strict=True))
        logits = logits[(slice(None), *[None] * self.lacking)]
        for sums, inside in self._boxes(index):
            weights = [] if alone else self._weights(index, inside)
            here = logits[(slice(None), *inside)]
            if not cells.add(sums, here, weights, exclusive=True, limit=LIMIT, threads=self.threads):
                raise beyond()

    def add_air(self, index: Index) -> None:
        """Tile `index` as background without the network."""
        for sums, inside in self._boxes(index):
            air = cells.laid(np.broadcast_to(np.float32(AIR), sums[:1].shape))
            cells.add(sums[:1], air, self._weights(index, inside), exclusive=False, limit=LIMIT, threads=self.threads)

    def after(self, piece: Piece) -> None:
        """Decide what is final after `piece`."""
        if piece.final:
            self.end(piece.final)
        elif piece.side:
            self.flush(piece.rows, piece.side)

    def end(self, rows: int) -> None:
        """A layer is computed: decide what the rows below `rows` support. Parts come and go between what the network takes and frees, so
        that without giving back the process would grow with every layer."""
        self._decide(rows, self.shape[self.across])
        give_back()
        self.layer, self.done, self.side = self.layer + 1, self.lines[self.axis].ready(rows), 0

    def flush(self, rows: int, side: int) -> None:
        """So much of a layer is computed that nothing more comes to what is below `rows` along the streaming axis and below `side` along
        `cut.across`. Of less than three axes, which are soon computed, that waits for the end."""
        if not self.lacking:
            self._decide(rows, side)

    def _decide(self, rows: int, side: int) -> None:
        """Labels of what these voxels support; parts that no later tile or voxel needs are let go."""
        rest, across = self.lines[self.axis], self.lines[self.across]
        stop, ready = rest.ready(rows), across.ready(side)
        box = [slice(0, new) for new in self.labels.shape]
        box[self.axis], box[self.across] = slice(self.done, stop), slice(self.side, ready)
        cells.decide(self.labels, self._rows(), self.lines, box=box, classes=self.classes, threads=self.threads)
        for number, end in enumerate(self.bounds[1:]):
            if end <= min(side, across.needed(ready)) and self.layers[number] == self.layer:
                self._begin(number, min(rows, rest.needed(stop)))
        self.side = ready

    def _bounds(self) -> list[int]:
        """Where parts begin, and the end: a voxel before each column of tiles, for the cells between the columns, and where one ends, so
        that no part takes memory before its own column is computed."""
        side, own = self.shape[self.across], self.across - self.lacking
        if self.lacking:
            return [0, side]
        columns = [self.cut.rows(own, number) for number in range(len(self.cut.starts[own]))]
        return sorted({0, side, *(max(0, start - self.lines[own].reach) for start, _ in columns), *(stop for _, stop in columns)})

    def _part(self, number: int, layer: int, *, first: int = 0) -> Part:
        """Empty sums of a part for a layer, from row `first` on. Classes do not lie powers of two apart: a cache is slow at that."""
        spans = [(0, side) for side in self.shape]
        spans[self.axis], spans[self.across] = (first, self.ends[layer]), (self.bounds[number], self.bounds[number + 1])
        sides = [stop - start for start, stop in spans]
        outermost = self.axis if self.axis < cells.AXES - 1 else None
        plane = [1 if axis == outermost else side for axis, side in enumerate(sides)]
        apart = prod(plane) + (96 - prod(plane)) % 64  # an odd number of lines of the cache
        steps = [self.classes * apart if axis == outermost else prod(plane[axis + 1 :]) for axis in range(cells.AXES)]
        numbers = _zeros(self.classes * apart * prod(sides) // prod(plane))
        strides = [numbers.itemsize * step for step in (apart, *steps)]
        return Part(np.ndarray((self.classes, *sides), np.float16, numbers, strides=strides), spans)

    def _begin(self, number: int, needed: int) -> None:
        """A part is for the next layer from now on, which takes over its rows from `needed` on; it goes where there is none."""
        layer, old = self.layer + 1, self.parts[number]
        self.layers[number] = layer
        if layer == len(self.ends):
            self.parts[number] = Part(np.empty((0,) * old.sums.ndim, np.float16), old.spans)
            return
        stop = old.spans[self.axis][1]
        new = self._part(number, layer, first=needed)
        if stop > needed:
            before = (slice(None),) * (1 + self.axis)
            new.sums[(*before, slice(0, stop - needed))] = old.sums[(*before, slice(needed - old.spans[self.axis][0], None))]
        self.parts[number] = new

    def _boxes(self, index: Index) -> Iterator[tuple[Array, list[slice]]]:
        """Where tile `index` lies in each part: the sums there, and the same box within the tile."""
        spans = [(0, 1)] * self.lacking + [self.cut.rows(axis, number) for axis, number in enumerate(index)]
        starts = [0] * self.lacking + [self.cut.starts[axis][number] for axis, number in enumerate(index)]
        for part in self.parts:
            here = list(spans)
            low, high = part.spans[self.across]
            here[self.across] = max(spans[self.across][0], low), min(spans[self.across][1], high)
            if here[self.across][0] >= here[self.across][1]:
                continue
            place = [slice(a - first, b - first) for (a, b), (first, _) in zip(here, part.spans, strict=True)]
            yield part.sums[(slice(None), *place)], [slice(a - start, b - start) for (a, b), start in zip(here, starts, strict=True)]

    def _weights(self, index: Index, inside: Sequence[slice]) -> list[Array]:
        """What tile `index` counts along each axis in the box `inside` of it."""
        own = zip(self.cut.shares, index, inside[self.lacking :], strict=True)
        return [np.ones(1, np.float32)] * self.lacking + [share[number, box] for share, number, box in own]

    def _rows(self) -> cells.Rows:
        """Where the rows along the last axis are."""
        other = 1 - self.across
        address, step, classes = np.zeros((3, self.shape[self.across]), np.int64)
        low = size = 0
        for part, layer in zip(self.parts, self.layers, strict=True):
            if layer != self.layer:
                continue
            first, stop = part.spans[self.across]
            low, size = part.spans[-1][0], part.spans[-1][1] - part.spans[-1][0]
            apart, *steps = cells.steps(part.sums)
            step[first:stop], classes[first:stop] = steps[other], apart
            places = np.arange(stop - first) * steps[self.across] - part.spans[other][0] * steps[other]
            address[first:stop] = part.sums.ctypes.data + part.sums.itemsize * places
        return cells.Rows(address, step, classes, self.across, low, size)


def _zeros(count: int) -> Array:
    """Float16 zeros; many are a mapping of their own, which takes memory page by page as it is written and gives it back at the end.
    Between what a network takes and frees they would keep the C library from giving back what lies around them."""
    size = 2 * count
    if size < OWN:
        return np.zeros(count, np.float16)
    huge = size >= 2 * HUGE and hasattr(mmap, "MADV_HUGEPAGE")
    memory = mmap.mmap(-1, -(-size // HUGE) * HUGE if huge else size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge:
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.float16, count)
