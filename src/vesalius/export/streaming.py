"""From networks without torch and a volume to labels on the output grid; as `engine/stream.py` does it with torch, tile by tile.

Where labels of exclusive classes are all that is wanted the kernels make them (`engine/parts.py`). Overlapping labels, how certain an
answer is, and machines without kernels take sums of all classes on the networks' grid, and one class after the other from there.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.core.space import Array
from vesalius.engine import cells
from vesalius.engine.parts import Parts
from vesalius.engine.sums import AIR, CODES_PER_UNIT, EVEN, LIMIT, beyond
from vesalius.engine.tiles import ArraySource, Cut, Index, Piece, Tiling, VolumeSource, ahead, pieces
from vesalius.export.numbers import Singles, singles

Network = Callable[[Singles], Array]
Progress = Callable[[int, int], None]
MOST = 256  # exclusive classes that 8 bits can tell apart


@dataclass(frozen=True)
class Wanted:
    """What is to be made: labels on a grid of `shape` of classes that are `exclusive` or overlap; `certainty`, an array of the form of the
    labels that is filled with how certain each is (log odds in 8 bits)."""

    shape: tuple[int, ...]
    exclusive: bool
    certainty: Array | None = None


def stream(networks: Sequence[Network], volume: VolumeSource | Array, wanted: Wanted, *, tiling: Tiling, threads: int = 1,
           progress: Progress | None = None) -> Array:  # fmt: skip
    """Labels of `volume` (a source, or an array (C, *S)) on a grid with the same field of view, uint8: (1, *shape) class numbers, or
    (K, *shape) of 0 and 1 where they overlap. Of several networks and mirrored passes the mean of the logits counts."""
    source = ArraySource(volume) if isinstance(volume, np.ndarray) else volume
    cut = Cut(source.shape, tiling)
    if len(wanted.shape) != len(cut.shape) or min(wanted.shape) < 1:
        raise UsageError(f"The output grid {wanted.shape} does not suit a volume {cut.shape}: they need the same number of sides.")
    target: _Swift | _Whole | None = None
    done = 0
    for piece in ahead(pieces(source, cut)):
        if piece.images is not None:
            logits = mean_of(networks, piece.images, tiling.mirror)
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


def _add(target: "_Swift | _Whole", tiles: Sequence[Index], logits: Array) -> None:
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


def _target(cut: Cut, classes: int, wanted: Wanted, *, threads: int) -> "_Swift | _Whole":
    if wanted.exclusive and not 2 <= classes <= MOST:
        raise VesaliusError(f"Exclusive labels in 8 bits need 2 to {MOST} classes; the network gives {classes}.")
    if wanted.exclusive and wanted.certainty is None and cells.suit(cut.tiling.precision, "cpu", len(cut.shape)):
        return _Swift(cut, classes, wanted, threads=threads)
    return _Whole(cut, classes, wanted)


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


class _Whole:
    """By numpy, from sums (K, *S) float16 of the whole volume."""

    def __init__(self, cut: Cut, classes: int, wanted: Wanted) -> None:
        self.cut, self.wanted = cut, wanted
        self.sums: Array = np.zeros((classes, *cut.shape), np.float16)

    def add(self, index: Index, logits: Array) -> None:
        if len(logits) != len(self.sums):
            raise VesaliusError(f"Expected logits of {len(self.sums)} classes of a tile, as of the first; got {len(logits)}.")
        place, inside, weight = self._place(index)
        values = singles(logits[(slice(None), *inside)])
        if self.wanted.exclusive:  # the largest is 0: half precision is finest where classes compete (engine/rolling.py)
            with np.errstate(invalid="ignore"):
                values = values - values.max(0)
        if not np.abs(values).max(initial=0) <= LIMIT:
            raise beyond()
        for sums, value in zip(self.sums, values, strict=True):
            sums[place] += value * weight

    def add_air(self, index: Index) -> None:
        place, _, weight = self._place(index)
        for sums in self.sums[:1] if self.wanted.exclusive else self.sums:
            sums[place] += np.float32(AIR if self.wanted.exclusive else -AIR) * weight

    def flush(self, piece: Piece) -> None:
        """Nothing is decided before the end."""

    def _place(self, index: Index) -> tuple[tuple[slice, ...], tuple[slice, ...], Singles]:
        """Where tile `index` lies in the volume, the same box within the tile, and how much it counts at each voxel there."""
        spans = [self.cut.rows(axis, number) for axis, number in enumerate(index)]
        starts = [self.cut.starts[axis][number] for axis, number in enumerate(index)]
        inside = tuple(slice(a - start, b - start) for (a, b), start in zip(spans, starts, strict=True))
        weight = np.ones((), np.float32)
        for share, number, box in zip(self.cut.shares, index, inside, strict=True):
            weight = weight[..., None] * share[number, box]
        return tuple(slice(*span) for span in spans), inside, weight

    def answer(self) -> Array:
        """Labels, class by class; how certain they are beside them."""
        sure = self.wanted.certainty
        if not self.wanted.exclusive:
            labels = np.empty((len(self.sums), *self.wanted.shape), np.uint8)
            for region, value in enumerate(self._grown()):
                labels[region] = value > 0
                if sure is not None:
                    sure[region] = coded(value)
            return labels
        items = self._grown()
        best = next(items)
        number, others = np.zeros(self.wanted.shape, np.uint8), np.full(best.shape, -np.inf, np.float32)
        for k, value in enumerate(items, start=1):
            if sure is not None:
                others = np.logaddexp(others, np.minimum(best, value))
            number[value > best] = k
            best = np.maximum(best, value)
        if sure is not None:
            sure[0] = coded(best - others)
        return number[None]

    def _grown(self) -> Iterator[Singles]:
        """Each class on the output grid, interpolated linearly, edge to edge."""
        from vesalius.io.separable import Along, on_axes

        nearest = self.cut.tiling.nearest
        places = [(np.arange(new) + 0.5) * old / new - 0.5 for old, new in zip(self.cut.shape, self.wanted.shape, strict=True)]
        ends = [place.clip(0, old - 1) for place, old in zip(places, self.cut.shape, strict=True)]
        axes = [Along(np.floor(end + 0.5) if axis in nearest else end) for axis, end in enumerate(ends)]
        for sums in self.sums:
            yield on_axes(np.asarray(sums[None], np.float32), axes, order=1)[0]


def coded(odds: Singles) -> Array:
    """Log odds as uint8: 128 is even odds, an eighth of a unit a step, cut at about +-16."""
    return np.clip(np.rint(odds * CODES_PER_UNIT + EVEN), 0, 255).astype(np.uint8)
