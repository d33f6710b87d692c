"""The rows of a volume that are in the making: sums of logits one patch thick, and their way to the output grid.

`T` rows along the streaming axis are kept in a ring; `R` rows of one class are worked on at a time, (R, *plane).
"""

import math
from collections.abc import Callable, Iterable
from functools import cached_property, reduce

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vesalius.core.space import Array
from vesalius.engine import cells
from vesalius.engine.sums import AIR, CODES_PER_UNIT, EVEN, LIMIT, beyond
from vesalius.engine.tiles import Cut, Index

CHUNK = 2**17  # elements of a tile that are added at once on a CPU: 512 KB, so that they stay in its cache with what is made of them
WORK = {"cpu": 2**20, "cuda": 2**24}  # output voxels of one class that are decided at once
LANES = 16  # rows that are interpolated together: float32 numbers in the widest vector register
KINDS = {torch.float32: cells.FLOAT, torch.bfloat16: cells.SHORT}  # of logits that the kernels take as they are


class Rolling:
    """Sums of logits for the rows that are not final, (K, *S) with `thickness` rows along the streaming axis: row r of
    the volume is row r modulo `thickness` of the ring.

    Of exclusive classes the largest logit of each voxel is first set to 0, which changes neither softmax nor decision: half
    precision is then finest where classes compete, and labels change about ten times less than with plain logits."""

    def __init__(self, cut: Cut, classes: int, *, exclusive: bool, device: torch.device) -> None:
        self.cut, self.exclusive = cut, exclusive
        self.thickness = cut.thickness
        sides = [self.thickness if a == cut.axis else n for a, n in enumerate(cut.shape)]
        self.sums = torch.full((classes, *sides), -0.0, dtype=getattr(torch, cut.tiling.precision), device=device)
        self.shares = [torch.from_numpy(share).to(device) for share in cut.shares]
        self.alone = [((share == 1) | (share == 0)).all(1) for share in cut.shares]  # tiles that no other overlaps
        self.released = 0

    def add(self, index: Index, logits: Tensor) -> None:
        """`logits` (K, *patch) of tile `index`, by its share of each voxel."""
        logits = logits.to(self.sums.device)
        rest = math.prod(logits.shape[2:]) * len(logits)
        step = max(1, CHUNK // rest) if self.sums.device.type == "cpu" else logits.shape[1]
        alone = all(ones[number] for ones, number in zip(self.alone, index, strict=True))
        by_kernel = cells.suit(self.cut.tiling.precision, self.sums.device.type, len(self.cut.shape))
        laid = laid_out(logits) if by_kernel else None
        for inside, place in self._segments(index):
            if laid is not None:
                weights = [] if alone else [line.numpy() for line in self._lines(index, inside)]
                sums, here = self.sums[_every(place)].numpy(), laid[_every(inside)]
                if not cells.add(sums, here, weights, exclusive=self.exclusive, limit=LIMIT, threads=torch.get_num_threads()):
                    raise beyond()
                continue
            shift = place[0].start - inside[0].start
            for first in range(inside[0].start, inside[0].stop, step):
                stop = min(first + step, inside[0].stop)
                part = [slice(first, stop), *inside[1:]]
                place[0] = slice(first + shift, stop + shift)
                target = self.sums[_every(place)]
                weighted = self._weighted(logits[_every(part)], None if alone else self._weight(index, part))
                target.copy_(weighted if alone else weighted.add_(target.contiguous()))  # whole passes; += runs along short rows

    def add_air(self, index: Index) -> None:
        """Tile `index` as background without the network."""
        for inside, place in self._segments(index):
            weight = (AIR * self._weight(index, inside)).to(self.sums.dtype)
            target = self.sums[_every(place)]
            if self.exclusive:
                target[0] += weight
            else:
                target -= weight

    def rows(self, number: int, indices: Tensor) -> Tensor:
        """Float32 (R, *plane) of class `number` at the rows `indices` of the volume."""
        axis = self.cut.axis
        return self.sums[number].index_select(axis, indices % self.thickness).movedim(axis, 0).float()

    @cached_property
    def bits(self) -> Array:
        """The sums (K, T, *plane) as unsigned integers, in memory of the processor. Sums of exclusive classes are not above 0, and these
        have the order of how far they are below it: zeros are negative zeros. Background where tiles are skipped is above 0: its bits are
        less than those of all other classes."""
        unsigned = {2: np.uint16, 4: np.uint32}[self.sums.itemsize]
        signed = {2: torch.int16, 4: torch.int32}[self.sums.itemsize]
        return np.moveaxis(self.sums.view(signed).numpy().view(unsigned), 1 + self.cut.axis, 1)

    def depths(self, first: int, shape: tuple[int, ...]) -> Callable[[int], Array]:
        """A function from the number of a class to its bits, flat, in the T rows from row `first` of the volume on; `shape` is (T, *plane).
        What it gave before is overwritten."""
        runs, bits = [slice(*run) for run in _wrap(first, first + shape[0], self.thickness)], self.bits
        if len(runs) == 1 and self.cut.axis == 0:
            return lambda number: bits[number, runs[0]].reshape(-1)
        spare = np.empty(shape, bits.dtype)
        return lambda number: np.concatenate([bits[number, run] for run in runs], out=spare).reshape(-1)

    def release(self, stop: int) -> None:
        """Rows below `stop` are not needed any more."""
        for first, last in _wrap(self.released, stop, self.thickness):
            self.sums.narrow(1 + self.cut.axis, first, last - first).fill_(-0.0)
        self.released = max(stop, self.released)

    def _weighted(self, logits: Tensor, weight: Tensor | None) -> Tensor:
        """Copy of `logits` (K, *box) times `weight` (*box), or 1, in the precision of the sums, checked."""
        if logits.stride(-1) != 1:
            logits = logits.contiguous()  # channels last: one transposing copy is cheaper than strided sums
        logits = logits.float()
        below = logits.amax(0) - logits if self.exclusive else -logits
        if weight is not None:
            below.mul_(weight)
        low, high = (below.new_zeros(()), below.amax()) if self.exclusive else torch.aminmax(below)  # the largest is at 0
        if not (low.item() > -LIMIT and high.item() < LIMIT):
            raise beyond()
        return below.to(self.sums.dtype).neg_()  # -0 where it is the largest, see `bits`

    def _segments(self, index: Index) -> list[tuple[list[slice], list[slice]]]:
        """Where tile `index` lies in the ring: boxes within the tile and the same boxes within the ring, one or two."""
        axis, pairs = self.cut.axis, []
        spans = [self.cut.rows(a, number) for a, number in enumerate(index)]
        starts = [self.cut.starts[a][number] for a, number in enumerate(index)]
        row = spans[axis][0]
        for first, stop in _wrap(*spans[axis], self.thickness):
            place = [slice(*span) for span in spans]
            place[axis] = slice(first, stop)
            inside = [slice(a - start, b - start) for (a, b), start in zip(spans, starts, strict=True)]
            inside[axis] = slice(row - starts[axis], row - starts[axis] + stop - first)
            row += stop - first
            pairs.append((inside, place))
        return pairs

    def _weight(self, index: Index, part: Iterable[slice]) -> Tensor:
        return reduce(lambda a, b: a.unsqueeze(-1) * b, self._lines(index, part))

    def _lines(self, index: Index, part: Iterable[slice]) -> list[Tensor]:
        """What tile `index` counts along each axis in the box `part` of it."""
        return [share[number, box] for share, number, box in zip(self.shares, index, part, strict=True)]


def laid_out(logits: Tensor) -> cells.Laid:
    """Where `logits` lie for the kernels: brought to memory of the processor, and to float32 where these read no such numbers."""
    here = logits.to("cpu", logits.dtype if logits.dtype in KINDS else torch.float32)
    return cells.Laid(here.data_ptr(), tuple(here.shape), here.stride(), KINDS[here.dtype], here)


class Grid:
    """From rows of the model grid to rows of the output grid, linear or nearest per axis."""

    def __init__(self, cut: Cut, output_shape: tuple[int, ...], device: torch.device) -> None:
        self.axis = axis = cut.axis
        self.old, self.new, self.nearest = cut.shape, output_shape, cut.tiling.nearest
        place = (np.arange(output_shape[axis]) + 0.5) * cut.shape[axis] / output_shape[axis] - 0.5
        if axis in self.nearest:
            place = np.floor(place + 0.5)
        place = place.clip(0, cut.shape[axis] - 1)
        self.low = np.floor(place).astype(np.int64)
        self.high = np.minimum(self.low + 1, cut.shape[axis] - 1)
        self.fraction = place - self.low
        self.exact = not self.fraction.any()
        if self.exact:
            self.high = self.low
        self.device = device
        self.plane = [a for a in range(len(self.old)) if a != axis]

    def chunk(self) -> int:
        """Output rows that are worked on together: few enough for the cache, and where planes are interpolated enough to
        fill a vector register (half of one where planes are large)."""
        plane = math.prod(self.new) // self.new[self.axis]
        rows = WORK.get(self.device.type, WORK["cpu"]) // plane
        if all(self.old[a] == self.new[a] for a in self.plane):
            return max(1, rows)
        return max(LANES // 2, rows // LANES * LANES)

    def ready(self, final: int) -> int:
        """How many output rows can be made of the model rows below `final`."""
        return int(np.searchsorted(self.high, final, side="left"))

    def needed(self, done: int) -> int:
        """First model row that output rows from `done` on still need."""
        return int(self.low[done]) if done < len(self.low) else self.old[self.axis]

    def resample(self, rolling: Rolling, number: int, span: slice) -> Tensor:
        """Float32 (R, *output plane): output rows `span` of class `number`."""
        rows = rolling.rows(number, self._index(self.low[span]))
        if not self.exact:
            fraction = torch.from_numpy(self.fraction[span].astype(np.float32)).to(self.device)
            high = rolling.rows(number, self._index(self.high[span]))
            rows = torch.lerp(rows, high, fraction.reshape(-1, *[1] * len(self.plane)))
        return self._in_plane(rows)

    def _in_plane(self, rows: Tensor) -> Tensor:
        sides = list(rows.shape[1:])
        for dim, axis in enumerate(self.plane):
            if axis in self.nearest and self.old[axis] != self.new[axis]:
                place = np.floor((np.arange(self.new[axis]) + 0.5) * self.old[axis] / self.new[axis])
                rows = rows.index_select(1 + dim, self._index(place.clip(0, self.old[axis] - 1).astype(np.int64)))
                sides[dim] = self.new[axis]
        wanted = [self.new[axis] for axis in self.plane]
        if sides == wanted:
            return rows
        # Rows as channels, channels last: the interpolation then runs along whole vector registers.
        stack = rows[None].contiguous(memory_format=torch.channels_last) if len(wanted) == 2 else rows[None]
        return F.interpolate(stack, size=wanted, mode="bilinear" if len(wanted) == 2 else "linear", align_corners=False)[0]

    def _index(self, numbers: Array) -> Tensor:
        return torch.from_numpy(numbers).to(self.device)


def running_argmax(values: Iterable[Tensor]) -> Tensor:
    """Uint8 number of the largest of `values`, float32 tensors of one shape that come one after the other; the first of
    equals. They may be overwritten. Float arithmetic throughout: a comparison into bool is five times slower on a CPU."""
    items = iter(values)
    best = next(items)
    number, greater = torch.zeros_like(best), torch.empty_like(best)
    for k, value in enumerate(items, start=1):
        torch.gt(value, best, out=greater)
        torch.maximum(best, value, out=best)
        torch.maximum(number, greater.mul_(k), out=number)
    return number.to(torch.uint8)


def argmax_with_odds(values: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """The same, and beside it the log odds of that class against all others together."""
    items = iter(values)
    best = next(items).clone()
    number, others = torch.zeros_like(best, dtype=torch.uint8), torch.full_like(best, -torch.inf)
    for k, value in enumerate(items, start=1):
        others = torch.logaddexp(others, torch.minimum(best, value))
        number[value > best] = k
        best = torch.maximum(best, value)
    return number, best - others


def coded(odds: Tensor) -> Tensor:
    """Log odds as uint8: 128 is even odds, an eighth of a unit a step, cut at about +-16."""
    return (odds.float() * CODES_PER_UNIT + EVEN).round().clamp(0, 255).to(torch.uint8)


def _every(box: Iterable[slice]) -> tuple[slice, ...]:
    """`box` of every class."""
    return (slice(None), *box)


def _wrap(first: int, stop: int, thickness: int) -> list[tuple[int, int]]:
    """Rows first ... stop of the volume as one or two runs of the ring."""
    if stop <= first:
        return []
    start, length = first % thickness, stop - first
    assert length <= thickness
    if start + length <= thickness:
        return [(start, start + length)]
    return [(start, thickness), (0, start + length - thickness)]
