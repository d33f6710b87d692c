"""How a volume is cut into overlapping tiles, and how much each tile counts at each voxel.

Isensee et al., nnU-Net, Nature Methods 18 (2021) 203: tiles overlap by half and count by a Gaussian, sigma = side / 8.
Ours: tiles stand on a product grid and the Gaussian is a product, so the sum of all weights at a voxel is a product of
one-dimensional sums. Each axis is normalised beforehand: the shares of a voxel add up to one, no volume of weights is
kept, nothing is divided at the end, and no corner underflows in half precision.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from vesalius.core.errors import UsageError
from vesalius.core.space import Array

T = TypeVar("T")
Skip = Callable[[Array], bool]
PRECISIONS = ("float16", "bfloat16", "float32")


@dataclass(frozen=True)
class Tiling:
    """How a volume is cut and how the pieces are joined.

    `patch`      sides of a tile in voxels; a side of 1 sends slices through a 2D network
    `overlap`    least share of a side that neighbours have in common, 0 ... < 1
    `batch`      tiles per call of the network
    `mirror`     axis combinations to flip and average besides the plain pass: ((0,), (1,), (0, 1))
    `sigma`      of the Gaussian weights, as a share of the side
    `fill`       value beyond the border, where the volume is smaller than the patch (after normalisation)
    `skip`       what need not go through the network: a predicate on one tile (C, *patch), or a mask (*S) of the volume
                 that is True where something is; such a tile is background: logit +10 for class 0 (-10 for every region)
    `precision`  of the sums of logits
    `nearest`    axes that are not interpolated on the way to the output grid (order 0), see `nearest_axes`
    `thresholds` probability above which a voxel belongs to region k; 0.5 each where empty
    """

    patch: tuple[int, ...]
    overlap: float = 0.5
    batch: int = 1
    mirror: tuple[tuple[int, ...], ...] = ()
    sigma: float = 1 / 8
    fill: float = 0.0
    skip: Skip | Array | None = None
    precision: str = "float16"
    nearest: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.patch or min(self.patch) < 1:
            raise UsageError(f"Tiling.patch must hold sides of at least 1 voxel; got {self.patch}.")
        if not 0 <= self.overlap < 1:
            raise UsageError(f"Tiling.overlap must be at least 0 and below 1; got {self.overlap}.")
        if self.batch < 1 or self.sigma <= 0:
            raise UsageError(f"Tiling.batch must be at least 1 and sigma above 0; got {self.batch} and {self.sigma}.")
        if self.precision not in PRECISIONS:
            raise UsageError(f"Tiling.precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}.")
        axes = {axis for axes in (*self.mirror, self.nearest) for axis in axes}
        if not axes <= set(range(len(self.patch))):
            raise UsageError(f"Tiling.mirror and nearest name axes {sorted(axes)}; a patch {self.patch} has axes below {len(self.patch)}.")
        if not all(0 < threshold < 1 for threshold in self.thresholds):
            raise UsageError(f"Tiling.thresholds are probabilities between 0 and 1; got {self.thresholds}.")


@runtime_checkable
class VolumeSource(Protocol):
    """A volume on the network's grid (its orientation, spacing and normalisation), of which parts are read at need."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial sides, without channels."""

    def region(self, slices: tuple[slice, ...]) -> Array:
        """Float32 (C, *sides) of the box `slices` inside the volume. Called from one thread at a time, not the main one."""


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An array (C, *S) of any type, memory-mapped or not; `normalise` is applied to each box that is read."""

    array: Array
    normalise: Callable[[Array], Array] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape[1:])

    def region(self, slices: tuple[slice, ...]) -> Array:
        box = np.asarray(self.array[(slice(None), *slices)], dtype=np.float32)
        return box if self.normalise is None else np.asarray(self.normalise(box), dtype=np.float32)


@dataclass(frozen=True)
class AirBelow:
    """`Tiling.skip` for CT and the like: a tile is air where no voxel of any channel exceeds `threshold` (normalised units)."""

    threshold: float

    def __call__(self, tile: Array) -> bool:
        return bool(tile.max() <= self.threshold)


def constant(tile: Array) -> bool:
    """`Tiling.skip` for scans with a masked background: every channel of the tile holds one value."""
    channels = tile.reshape(len(tile), -1)
    return bool((channels.max(axis=1) == channels.min(axis=1)).all())


def nearest_axes(spacing: tuple[float, ...], *, ratio: float = 3.0) -> tuple[int, ...]:
    """nnU-Net's rule ("separate z"): the axis that is more than `ratio` times coarser than the finest is not interpolated."""
    worst = int(np.argmax(spacing))
    return (worst,) if max(spacing) > ratio * min(spacing) else ()


def starts(size: int, patch: int, overlap: float) -> tuple[int, ...]:
    """First voxel of each tile along one axis: evenly spaced from edge to edge, neighbours share at least `overlap`.
    One tile, centred, where the patch is larger: its start is then negative."""
    if size <= patch:
        return (-((patch - size) // 2),)
    stride = max(1, math.floor(patch * (1 - overlap) + 1e-9))
    count = math.ceil((size - patch) / stride) + 1
    return tuple(round(i * (size - patch) / (count - 1)) for i in range(count))


def gaussian(patch: int, sigma: float) -> Array:
    """Weights (patch,) about the middle of a tile, `sigma` as a share of the side; never quite zero."""
    offset = np.arange(patch) - (patch - 1) / 2
    weights: Array = np.maximum(np.exp(-0.5 * (offset / (sigma * patch)) ** 2), 1e-12)
    return weights


def shares(size: int, patch: int, first: tuple[int, ...], *, sigma: float) -> Array:
    """(tiles, patch) along one axis: how much tile i counts at each of its voxels. Sums to one at every voxel of the
    volume; zero beyond it."""
    weights = gaussian(patch, sigma)
    places = np.asarray(first)[:, None] + np.arange(patch)
    inside = (places >= 0) & (places < size)
    raw = np.where(inside, weights, 0.0)
    places = places.clip(0, size - 1)
    total = np.bincount(places.ravel(), weights=raw.ravel(), minlength=size)
    return np.asarray(raw / total[places], dtype=np.float32)


Index = tuple[int, ...]  # which tile: its number along each axis


@dataclass(frozen=True, eq=False)
class Cut:
    """The tiles of a volume of `shape`, and the order in which they are computed: layer by layer along `axis`, the one
    that keeps the fewest unfinished voxels."""

    shape: tuple[int, ...]
    tiling: Tiling

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.tiling.patch) or min(self.shape) < 1:
            raise UsageError(f"A patch {self.tiling.patch} does not suit a volume {self.shape}: they need the same number of sides.")
        mask = self.tiling.skip
        if isinstance(mask, np.ndarray) and mask.shape != self.shape:
            raise UsageError(f"Tiling.skip is a mask of shape {mask.shape}, but the volume is {self.shape}.")

    @cached_property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """Of the tiles along each axis."""
        return tuple(starts(n, p, self.tiling.overlap) for n, p in zip(self.shape, self.tiling.patch, strict=True))

    @cached_property
    def shares(self) -> tuple[Array, ...]:
        """Per axis (tiles, patch); the weight of a tile is the outer product of its rows."""
        sides = zip(self.shape, self.tiling.patch, self.starts, strict=True)
        return tuple(shares(n, p, first, sigma=self.tiling.sigma) for n, p, first in sides)

    @cached_property
    def axis(self) -> int:
        """Streaming axis; the first of equals, because its rows lie together in memory."""
        return min(range(len(self.shape)), key=lambda a: self._thickness(a) * math.prod(self.shape) // self.shape[a])

    @property
    def across(self) -> int:
        """The axis along which the tiles of a layer come in turn: the first that is not the streaming axis (of a line: that itself)."""
        return next((axis for axis in range(len(self.shape)) if axis != self.axis), self.axis)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return math.prod(map(len, self.starts))

    @property
    def thickness(self) -> int:
        """Rows along `axis` that are kept at once: a patch, the row before it (for interpolation), and the further
        planes of tiles that share its batches where one plane does not fill a batch."""
        return self._thickness(self.axis)

    def rows(self, axis: int, number: int) -> tuple[int, int]:
        """First and last + 1 row inside the volume of tile `number` along `axis`."""
        start = self.starts[axis][number]
        return max(start, 0), min(start + self.tiling.patch[axis], self.shape[axis])

    def layers(self, axis: int | None = None) -> tuple[tuple[int, int], ...]:
        """Runs [first, stop) of tile numbers along `axis` that are computed together."""
        axis = self.axis if axis is None else axis
        counts = [len(first) for first in self.starts]
        planes = max(1, self.tiling.batch // (self.count // counts[axis]))
        return tuple((i, min(i + planes, counts[axis])) for i in range(0, counts[axis], planes))

    def tiles(self, layer: tuple[int, int]) -> Iterator[Index]:
        """Every tile of `layer`, last axis fastest."""
        ranges = [range(*layer) if a == self.axis else range(len(first)) for a, first in enumerate(self.starts)]
        return product(*ranges)

    def final(self, layer: tuple[int, int]) -> int:
        """Rows below this one get nothing more once `layer` is computed."""
        stop = layer[1]
        return self.rows(self.axis, stop)[0] if stop < len(self.starts[self.axis]) else self.shape[self.axis]

    def _thickness(self, axis: int) -> int:
        spans = [self.rows(axis, stop - 1)[1] - self.rows(axis, first)[0] for first, stop in self.layers(axis)]
        return min(max(spans) + 1, self.shape[axis])


def buffer_bytes(shape: tuple[int, ...], classes: int, tiling: Tiling) -> int:
    """Bytes of the sums of logits that are kept while a volume of `shape` is predicted: classes x thickness x plane."""
    cut = Cut(shape, tiling)
    width = 4 if tiling.precision == "float32" else 2
    return width * classes * cut.thickness * math.prod(shape) // shape[cut.axis]


@dataclass(frozen=True, eq=False)
class Piece:
    """Work for one call of the network: `images` (b, C, *patch) of `tiles`, tiles that are `air`, and the row below
    which everything is final afterwards (0 where the layer goes on). Where it goes on, the part of the layer is final that is below row
    `rows` and, along the axis `cut.across`, below `side`."""

    tiles: list[Index]
    images: Array | None
    air: list[Index]
    final: int
    rows: int = 0
    side: int = 0


def read(source: VolumeSource, cut: Cut, index: Index) -> Array:
    """Tile `index` as float32 (C, *patch), filled up beyond the border."""
    spans = [cut.rows(axis, number) for axis, number in enumerate(index)]
    box = source.region(tuple(slice(a, b) for a, b in spans))
    first = [cut.starts[axis][number] for axis, number in enumerate(index)]
    before = [a - start for (a, _), start in zip(spans, first, strict=True)]
    after = [p - b + a - n for p, (a, b), n in zip(cut.tiling.patch, spans, before, strict=True)]
    if not any(before) and not any(after):
        return box
    return np.pad(box, [(0, 0), *zip(before, after, strict=True)], constant_values=cut.tiling.fill)


def pieces(source: VolumeSource, cut: Cut) -> Iterator[Piece]:
    """All tiles in the order of computation, read and batched. The very first is never skipped: it tells the number of
    classes."""
    known = False
    for layer in cut.layers():
        tiles: list[Index] = []
        images: list[Array] = []
        air: list[Index] = []
        order = list(cut.tiles(layer))
        for number, index in enumerate(order):
            tile = None if known and _masked(cut, index) else read(source, cut, index)
            if tile is None or (known and callable(cut.tiling.skip) and cut.tiling.skip(tile)):
                air.append(index)
                continue
            known = True
            tiles.append(index)
            images.append(tile)
            if len(tiles) == cut.tiling.batch:
                yield Piece(tiles, _stacked(images), air, 0, cut.final(layer), _side(cut, order[number + 1 :]))
                tiles, images, air = [], [], []
        yield Piece(tiles, _stacked(images) if images else None, air, cut.final(layer))


def _side(cut: Cut, left: list[Index]) -> int:
    """Voxels along `cut.across` before the first of the tiles that are `left` in a layer; 0 where none is."""
    return min((cut.rows(cut.across, index[cut.across])[0] for index in left), default=0)


def _stacked(images: list[Array]) -> Array:
    """(b, C, *patch); a tile that is alone, and not a view of the volume, is not copied."""
    return images[0][None] if len(images) == 1 and images[0].flags.owndata else np.stack(images)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """`items`, the next of which a thread makes while this one is used."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="vesalius-read") as pool:
        waiting = pool.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, items, end)
            yield item  # type: ignore[misc]


def _masked(cut: Cut, index: Index) -> bool:
    """Whether `Tiling.skip` is a mask that holds nothing in tile `index`."""
    mask = cut.tiling.skip
    if not isinstance(mask, np.ndarray):
        return False
    return not mask[tuple(slice(*cut.rows(axis, number)) for axis, number in enumerate(index))].any()
