"""Put an image on another grid: nearest (order 0, masks), linear (1), or cubic B-spline (3).

Grids whose axes are parallel (the common case: another spacing, crop or order of axes) are resampled one axis at a time,
at a fraction of the cost; any other pair takes the general path, slab by slab. No low-pass filter is applied.
Cubic: Unser, Splines: a perfect fit for signal and image processing, IEEE Signal Processing Magazine 1999.
"""

from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from vesalius.core.errors import GeometryError
from vesalius.core.space import Array, Space
from vesalius.io.image import Image
from vesalius.io.separable import Along, as_kind, coefficients, on_axes, outwards, taps

_PARALLEL = 1e-4  # largest cross term, in voxels across the whole grid times this, that still counts as parallel
_SLAB = 1 << 22  # voxels whose places are held on the general path
_CACHED = 1 << 14  # voxels computed at a time there


def resample(image: Image, space: Space, *, order: int = 1, fill: float | None = None) -> Image:
    """`image` on the grid of `space`, in its own kind of number (integers are rounded).

    Voxels outside the old field of view (edge to edge) take `fill`: by default 0 for order 0, else the smallest value,
    which is air in CT and background in MR.
    """
    if order not in (0, 1, 3):
        raise GeometryError(f"Resampling has order 0 (nearest), 1 (linear) or 3 (cubic); got {order}.")
    if image.space.ndim != space.ndim or image.space.physical != space.physical:
        raise GeometryError(
            f"An image of {image.space.ndim} axes in {image.space.unit} cannot lie on a grid of {space.ndim} axes in {space.unit}. "
            "Give both the same form: cut a slice, or write the spacing into the file."
        )
    if image.space.same_as(space):
        return Image(image.array, space, image.source)
    step = np.linalg.inv(image.space.affine) @ space.affine  # old index = step @ (new index, 1)
    outside = _default_fill(image.array, order) if fill is None else fill
    resampled = _separable if _parallel(step, space.shape) else _general
    array = resampled(image.array, step, space.shape, order=order, fill=outside)
    return Image(array, space, image.source)


def _default_fill(array: Array, order: int) -> float:
    if order == 0 or array.dtype.kind not in "iuf":
        return 0.0
    smallest = array.min()
    if not np.isfinite(smallest):
        smallest = np.nanmin(array) if np.isfinite(array).any() else 0.0
    return float(smallest)


def _parallel(step: Array, shape: tuple[int, ...]) -> bool:
    """Whether each old index depends on one new index alone, to a small part of a voxel at the far corner."""
    n = len(shape)
    reach = np.abs(step[:n, :n]) * np.asarray(shape, float)
    main = reach.argmax(axis=1)
    cross = reach.sum(axis=1) - reach[np.arange(n), main]
    return len(set(main.tolist())) == n and bool((cross <= _PARALLEL * np.maximum(1, reach.max(axis=1)) + 1e-3).all())


def _separable(array: Array, step: Array, shape: tuple[int, ...], *, order: int, fill: float) -> Array:
    """One axis at a time."""
    n = len(shape)
    main = np.abs(step[:n, :n] * np.asarray(shape, float)).argmax(axis=1)  # old axis a runs along new axis main[a]
    along = [int(np.flatnonzero(main == new)[0]) for new in range(n)]
    places = [step[old, new] * np.arange(side) + step[old, n] for new, (old, side) in enumerate(zip(along, shape, strict=True))]
    seen = [(place > -0.5 - 1e-6) & (place < array.shape[1 + old] - 0.5 + 1e-6) for place, old in zip(places, along, strict=True)]
    axes = [Along(np.clip(place, 0, array.shape[1 + old] - 1)) for place, old in zip(places, along, strict=True)]
    out = on_axes(array.transpose(0, *(1 + old for old in along)), axes, order=order)
    for new, line in enumerate(seen):
        if not line.all():
            out[(slice(None),) * (1 + new) + (~line,)] = fill
    return out


def _general(array: Array, step: Array, shape: tuple[int, ...], *, order: int, fill: float) -> Array:
    """Any affine, in slabs along the first new axis so that coordinates are never held for the whole grid."""
    n, turn = len(shape), outwards(array[0])
    array, step = array.transpose(0, *(1 + axis for axis in turn)), step[[*turn, n]]  # as it lies in memory
    kind = array.dtype if order == 0 else np.result_type(array.dtype, np.float32)
    work = [np.ascontiguousarray(channel, kind) for channel in array]
    if order == 3:
        work = [coefficients(channel) for channel in work]
    out = np.empty((len(array), *shape), array.dtype)
    thick = max(1, _SLAB // int(np.prod(shape[1:])))
    for first, last in pairwise([*range(0, shape[0], thick), shape[0]]):
        offset = step[:n, n] + step[:n, 0] * first
        part = (last - first, *shape[1:])
        index = _indices(step[:n, :n], offset, part)
        sides = np.asarray(array.shape[1:]).reshape(-1, *([1] * n))
        seen = ((index > -0.5 - 1e-6) & (index < sides - 0.5 + 1e-6)).all(axis=0)
        np.clip(index, 0, sides - 1, out=index)
        for channel, result in zip(work, out, strict=True):
            values = _at(channel, index.reshape(n, -1), order=order).reshape(part)
            result[first:last] = np.where(seen, as_kind(values, array.dtype), array.dtype.type(fill))
    return out


def _at(channel: Array, index: Array, *, order: int) -> Array:
    """The values of (*S), or of the splines with these coefficients, at old indices (n, places), in double precision between."""
    if order == 0:
        return np.asarray(channel[tuple(np.floor(index + 0.5).astype(np.intp))])
    out = np.empty(index.shape[1], channel.dtype)
    steps = [prod(channel.shape[axis + 1 :]) for axis in range(channel.ndim)]
    for start in range(0, len(out), _CACHED):
        part = slice(start, start + _CACHED)
        each = [taps(place[part], side, order) for place, side in zip(index, channel.shape, strict=True)]
        axes = [(near.T.copy() * step, weights.T.copy()) for (near, weights), step in zip(each, steps, strict=True)]
        with np.errstate(invalid="ignore", over="ignore"):  # holes spread without a word
            out[part] = _summed(channel.ravel(), axes)
    return out


def _summed(values: Array, axes: list[tuple[Array, Array]], *, at: Array | int = 0) -> Array:
    """Sums of `values` that lie `at` some places and by the `axes` beyond: (taps, places) voxels with their weights for each."""
    out: Any = 0
    for near, weights in zip(*axes[0], strict=True):
        out = out + weights * (values.take(at + near) if len(axes) == 1 else _summed(values, axes[1:], at=at + near))
    return np.asarray(out)


def _indices(linear: Array, offset: Array, shape: tuple[int, ...]) -> Array:
    """Old indices (n, *shape) of every voxel of a slab."""
    n = len(shape)
    total = np.empty((n, *shape))
    for old in range(n):
        terms = [linear[old, new] * np.arange(side).reshape([-1 if a == new else 1 for a in range(n)]) for new, side in enumerate(shape)]
        total[old] = offset[old] + sum(terms)
    return total
