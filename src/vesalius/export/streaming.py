"""From networks without torch and a volume to labels on the output grid; as `engine/stream.py` does it with torch, tile by tile.

Where labels of exclusive classes are all that is wanted the kernels make them (`engine/parts.py`). Overlapping labels, how certain an
answer is, probabilities, and machines without kernels go from row to row of sums of all classes, which are one patch thick.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import prod
from pathlib import Path

import numpy as np

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.core.space import Array
from vesalius.engine import cells
from vesalius.engine.lines import line
from vesalius.engine.parts import Parts
from vesalius.engine.probabilities import TOGETHER, Probabilities, filled
from vesalius.engine.sums import AIR, LIMIT, beyond
from vesalius.engine.tiles import ArraySource, Cut, Index, Piece, Tiling, VolumeSource, ahead, pieces
from vesalius.export.deciding import above, largest, sigmoid, softmax
from vesalius.export.numbers import Singles, singles
from vesalius.io.separable import Along, on_axes, stacked

Network = Callable[[Singles], Array]
Progress = Callable[[int, int], None]
MOST = 256  # exclusive classes that 8 bits can tell apart


@dataclass(frozen=True)
class Wanted:
    """What is to be made: labels on a grid of `shape` of classes that are `exclusive` or overlap; `certainty`, an array of the form of the
    labels that is filled with how certain each is (log odds in 8 bits); `probabilities`, a .npy file for float16 (K, *shape)."""

    shape: tuple[int, ...]
    exclusive: bool
    certainty: Array | None = None
    probabilities: Path | None = None


def stream(networks: Sequence[Network], volume: VolumeSource | Array, wanted: Wanted, *, tiling: Tiling, threads: int = 1,
           progress: Progress | None = None) -> Array:  # fmt: skip
    """Labels of `volume` (a source, or an array (C, *S)) on a grid with the same field of view, uint8: (1, *shape) class numbers, or
    (K, *shape) of 0 and 1 where they overlap. Of several networks and mirrored passes the mean of the logits counts."""
    source = ArraySource(volume) if isinstance(volume, np.ndarray) else volume
    cut = Cut(source.shape, tiling)
    if len(wanted.shape) != len(cut.shape) or min(wanted.shape) < 1:
        raise UsageError(f"The output grid {wanted.shape} does not suit a volume {cut.shape}: they need the same number of sides.")
    return filled(wanted.probabilities, lambda beside: _run(networks, source, cut, wanted=replace(wanted, probabilities=beside),
                                                            threads=threads, progress=progress))  # fmt: skip


def _run(networks: Sequence[Network], source: VolumeSource, cut: Cut, *, wanted: Wanted, threads: int, progress: Progress | None) -> Array:
    """The labels; probabilities go straight into their file."""
    target: _Swift | _Rows | None = None
    done = 0
    for piece in ahead(pieces(source, cut)):
        if piece.images is not None:
            logits = mean_of(networks, piece.images, cut.tiling.mirror)
            target = target or _target(cut, logits.shape[1], wanted, threads=threads)
            _add(target, piece.tiles, logits)
            del logits  # the next call of a network needs its room
        assert target is not None  # the first tile is never air
        for index in piece.air:
            target.add_air(index)
        target.flush(piece)
        done += len(piece.tiles) + len(piece.air)
        if progress is not None:
            progress(done, cut.count)
        del piece
    assert target is not None
    return target.answer()


def _add(target: "_Swift | _Rows", tiles: Sequence[Index], logits: Array) -> None:
    """Add what came of `tiles`; no tile is held once this is over."""
    for index, tile in zip(tiles, logits, strict=True):
        target.add(index, tile)


def mean_of(networks: Sequence[Network], images: Singles, mirror: Sequence[tuple[int, ...]]) -> Array:
    """Logits (B, K, *patch) over networks and mirrored passes; of one pass as the network leaves them."""
    passes = [(network, tuple(2 + axis for axis in axes)) for network in networks for axes in ((), *mirror)]
    if len(passes) == 1:
        return _logits(passes[0][0], images)
    total: Singles | None = None
    for network, axes in passes:
        logits = singles(np.flip(_logits(network, np.ascontiguousarray(np.flip(images, axes))), axes))
        if total is not None and total.shape != logits.shape:
            raise VesaliusError(f"Expected {total.shape[1]} classes of every network, as of the first; got {logits.shape[1]}.")
        total = logits.copy() if total is None else np.add(total, logits, out=total)
    assert total is not None
    return np.divide(total, np.float32(len(passes)), out=total)


def _logits(network: Network, images: Singles) -> Array:
    """What a network says of them, which has to lie on them."""
    logits = network(images)
    if logits.ndim != images.ndim or (logits.shape[0], *logits.shape[2:]) != (images.shape[0], *images.shape[2:]):
        expected = f"({len(images)}, K, {', '.join(map(str, images.shape[2:]))})"
        raise VesaliusError(f"Expected logits of shape {expected} from the network; got {logits.shape}.")
    return logits


def _target(cut: Cut, classes: int, wanted: Wanted, *, threads: int) -> "_Swift | _Rows":
    if wanted.exclusive and not 2 <= classes <= MOST:
        raise VesaliusError(f"Exclusive labels in 8 bits need 2 to {MOST} classes; the network gives {classes}.")
    alone = wanted.certainty is None and wanted.probabilities is None
    if wanted.exclusive and alone and cells.suit(cut.tiling.precision, "cpu", len(cut.shape)):
        return _Swift(cut, classes, wanted, threads=threads)
    return _Rows(cut, classes, wanted, threads=threads)


class _Swift:
    """By the kernels."""

    def __init__(self, cut: Cut, classes: int, wanted: Wanted, *, threads: int) -> None:
        self.labels: Array = np.empty((1, *wanted.shape), np.uint8)
        self.parts = Parts(cut, classes, self.labels[0], threads=threads)

    def add(self, index: Index, logits: Array) -> None:
        self.parts.add(index, cells.laid(logits))

    def add_air(self, index: Index) -> None:
        self.parts.add_air(index)

    def flush(self, piece: Piece) -> None:
        self.parts.after(piece)

    def answer(self) -> Array:
        return self.labels


class _Rows:
    """By numpy, from sums (K, *S) float16 of the rows that are not final along the streaming axis; the kernels add to them where there are
    any. Rows that no later tile touches are decided, some at a time, and dropped."""

    def __init__(self, cut: Cut, classes: int, wanted: Wanted, *, threads: int) -> None:
        self.cut, self.wanted, self.threads = cut, wanted, threads
        self.swift = cells.suit(cut.tiling.precision, "cpu", len(cut.shape))
        sides = [cut.thickness if axis == cut.axis else side for axis, side in enumerate(cut.shape)]
        self.sums: Array = np.zeros((classes, *sides), np.float16)
        self.labels: Array = np.empty((1 if wanted.exclusive else classes, *wanted.shape), np.uint8)
        self.file = Probabilities(wanted.probabilities, (classes, *wanted.shape)) if wanted.probabilities else None
        self.lines = [line(old, new, nearest=axis in cut.tiling.nearest)
                      for axis, (old, new) in enumerate(zip(cut.shape, wanted.shape, strict=True))]  # fmt: skip
        self.together = max(1, TOGETHER * wanted.shape[cut.axis] // prod(wanted.shape))
        if self.file:  # every class at once
            self.together = min(self.together, self.file.rows(cut.axis))
        self.first = self.done = 0  # the row of the volume with which sums begin, and output rows that are decided

    def add(self, index: Index, logits: Array) -> None:
        if len(logits) != len(self.sums):
            raise VesaliusError(f"Expected logits of {len(self.sums)} classes of a tile, as of the first; got {len(logits)}.")
        sums, inside, weights = self._place(index)
        exclusive = self.wanted.exclusive
        if self.swift:
            here = cells.laid(logits)[(slice(None), *inside)]
            if not cells.add(sums, here, weights, exclusive=exclusive, limit=LIMIT, threads=self.threads):
                raise beyond()
            return
        values = singles(logits[(slice(None), *inside)])
        if exclusive:  # the largest is 0: half precision is finest where classes compete (engine/rolling.py)
            with np.errstate(invalid="ignore"):
                values = values - values.max(0)
        if not np.abs(values).max(initial=0) <= LIMIT:
            raise beyond()
        weight = _product(weights)
        for total, value in zip(sums, values, strict=True):
            total += value * weight

    def add_air(self, index: Index) -> None:
        sums, _, weights = self._place(index)
        sums[: 1 if self.wanted.exclusive else None] += np.float32(AIR if self.wanted.exclusive else -AIR) * _product(weights)

    def flush(self, piece: Piece) -> None:
        """Decide every output row that the rows below the final one support, and let go what no later one needs."""
        rows, axis = self.lines[self.cut.axis], self.cut.axis
        stop = rows.ready(piece.final)
        for first in range(self.done, stop, self.together):
            self._decide(slice(first, min(first + self.together, stop)))
        self.done = max(self.done, stop)
        if 0 < piece.final < self.cut.shape[axis]:
            self._release(min(piece.final, rows.needed(self.done)))

    def answer(self) -> Array:
        return self.labels

    def _place(self, index: Index) -> tuple[Array, tuple[slice, ...], list[Singles]]:
        """The sums (K, *box) where tile `index` lies, the same box within the tile, and how much it counts there along each axis."""
        spans = [self.cut.rows(axis, number) for axis, number in enumerate(index)]
        starts = [self.cut.starts[axis][number] for axis, number in enumerate(index)]
        inside = tuple(slice(a - start, b - start) for (a, b), start in zip(spans, starts, strict=True))
        low, high = spans[self.cut.axis]
        spans[self.cut.axis] = low - self.first, high - self.first
        weights = [share[number, box] for share, number, box in zip(self.cut.shares, index, inside, strict=True)]
        return self.sums[(slice(None), *(slice(*span) for span in spans))], inside, weights

    def _decide(self, span: slice) -> None:
        """Labels of the output rows `span`, and what is wanted beside them."""
        place, sure = (*(slice(None),) * (1 + self.cut.axis), span), self.wanted.certainty
        values: Iterable[Singles] = self._grown(span)
        if self.file:
            values = stacked(values, len(self.sums))
        decide = largest if self.wanted.exclusive else above
        decide(values, self.labels[place], None if sure is None else sure[place])
        if self.file:
            self.file.write((softmax if self.wanted.exclusive else sigmoid)(np.asarray(values)), place)

    def _grown(self, span: slice) -> Iterator[Singles]:
        """Each class at the output rows `span`, interpolated linearly, edge to edge."""
        axis, rows = self.cut.axis, self.lines[self.cut.axis]
        low, high = int(rows.cell[span.start]), int(rows.cell[span.stop - 1]) + rows.reach + 1
        places = [np.asarray(one.cell + one.part if one.reach else one.cell, np.float64) for one in self.lines]
        places[axis] = places[axis][span] - low
        axes = [Along(place) for place in places]
        for sums in self.sums:
            part = sums[(*(slice(None),) * axis, slice(low - self.first, high - self.first))]
            yield on_axes(np.asarray(part[None], np.float32), axes, order=1)[0]

    def _release(self, stop: int) -> None:
        """Rows below `stop` are not needed any more."""
        for sums in np.moveaxis(self.sums, 1 + self.cut.axis, 1):
            left = sums[stop - self.first :].copy()
            sums[: len(left)], sums[len(left) :] = left, 0
        self.first = stop


def _product(weights: Sequence[Singles]) -> Singles:
    """What a tile counts at each voxel."""
    return reduce(lambda a, b: a[..., None] * b, weights)
