"""Put an image on another grid: nearest (order 0, masks), linear (1), or cubic B-spline (3).

Grids whose axes are parallel (the common case: another spacing, crop or order of axes) are resampled one axis at a time,
at a fraction of the cost; any other pair takes the general path, slab by slab. No low-pass filter is applied.
Cubic: Unser, Splines: a perfect fit for signal and image processing, IEEE Signal Processing Magazine 1999.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from vesalius.core.errors import GeometryError
from vesalius.core.space import Array, Space
from vesalius.io.image import Image

_PARALLEL = 1e-4  # largest cross term, in voxels across the whole grid times this, that still counts as parallel
_SLAB = 1 << 22  # voxels computed at a time on the general path
_CACHED = 1 << 17  # voxels computed at a time along one axis: half a megabyte each of in, coefficients and out


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
    """One axis at a time, axes that shrink first."""
    n = len(shape)
    main = np.abs(step[:n, :n] * np.asarray(shape, float)).argmax(axis=1)  # old axis a runs along new axis main[a]
    out = array.transpose(0, *(1 + int(np.flatnonzero(main == new)[0]) for new in range(n)))
    kind = array.dtype
    inside = []
    jobs = []
    for new in range(n):
        old = int(np.flatnonzero(main == new)[0])
        place = step[old, new] * np.arange(shape[new]) + step[old, n]
        inside.append((place > -0.5 - 1e-6) & (place < array.shape[1 + old] - 0.5 + 1e-6))
        jobs.append((shape[new] / array.shape[1 + old], new, np.clip(place, 0, array.shape[1 + old] - 1)))
    for _, new, place in sorted(jobs, key=lambda job: job[:2]):
        out = _along(out, 1 + new, place, order=order)
    out = _as_kind(out, kind)
    for new, seen in enumerate(inside):
        if not seen.all():
            out = np.array(out) if out.base is not None else out
            out[(slice(None),) * (1 + new) + (~seen,)] = fill
    return np.ascontiguousarray(out)


def _along(array: Array, axis: int, place: Array, *, order: int) -> Array:
    """Values of `array` at the fractional indices `place` (within bounds) of one axis."""
    from scipy import ndimage, sparse

    whole = np.rint(place)
    if order == 0 or np.abs(place - whole).max() < 1e-4:
        near = np.floor(place + 0.5 - 1e-6).astype(np.intp) if order == 0 else whole.astype(np.intp)
        return np.asarray(array.take(np.clip(near, 0, array.shape[axis] - 1), axis=axis))
    kind, n = np.result_type(array.dtype, np.float32), array.shape[axis]
    taps, weights = _taps(place, n, order)
    rows = np.repeat(np.arange(len(place)), taps.shape[1])
    matrix = sparse.csr_array((weights.ravel().astype(kind.type(0).real.dtype), (rows, taps.ravel())), shape=(len(place), n))
    out = np.empty((*array.shape[:axis], len(place), *array.shape[axis + 1 :]), kind)
    for at in _slabs(array, axis):
        part = array[at].astype(kind, copy=False)
        if order == 3:
            part = ndimage.spline_filter1d(part, 3, axis=axis, output=kind, mode="mirror")
        front = np.moveaxis(part, axis, 0)
        mixed = matrix @ np.ascontiguousarray(front).reshape(n, -1)
        out[at] = np.moveaxis(mixed.reshape(len(place), *front.shape[1:]), 0, axis)
    return out


def _slabs(array: Array, axis: int) -> Iterator[tuple[slice, ...]]:
    """Places of parts of `array` (C, *S) that fit the cache, cut across another axis than `axis`: that which is widest apart in memory."""
    across = max((a for a in range(1, array.ndim) if a != axis), key=lambda a: abs(array.strides[a]))
    thick = max(1, _CACHED * array.shape[across] // array.size)
    for start in range(0, array.shape[across], thick):
        yield (*(slice(None),) * across, slice(start, start + thick))


def _taps(place: Array, n: int, order: int) -> tuple[Array, Array]:
    """(indices, weights), each (places, order + 1): hat function, or the cubic B-spline on coefficients mirrored at the ends."""
    base = np.floor(place).astype(np.intp)
    t = place - base
    if order == 1:
        return np.stack([base, np.minimum(base + 1, n - 1)], 1), np.stack([1 - t, t], 1)
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3], 1) / 6
    taps = np.abs(base[:, None] + np.arange(-1, 3))
    taps = np.where(taps > n - 1, 2 * (n - 1) - taps, taps)
    return np.clip(taps, 0, n - 1), weights


def _general(array: Array, step: Array, shape: tuple[int, ...], *, order: int, fill: float) -> Array:
    """Any affine, in slabs along the first new axis so that coordinates are never held for the whole grid."""
    from scipy import ndimage

    n = len(shape)
    work = array if order == 0 else array.astype(np.result_type(array.dtype, np.float32), copy=False)
    if order == 3:
        work = np.stack([ndimage.spline_filter(channel, 3, output=work.dtype, mode="mirror") for channel in work])
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
            values: Any = ndimage.map_coordinates(channel, index, order=order, mode="mirror", prefilter=False)
            result[first:last] = np.where(seen, _as_kind(np.asarray(values), array.dtype), array.dtype.type(fill))
    return out


def _indices(linear: Array, offset: Array, shape: tuple[int, ...]) -> Array:
    """Old indices (n, *shape) of every voxel of a slab."""
    n = len(shape)
    total = np.empty((n, *shape))
    for old in range(n):
        terms = [linear[old, new] * np.arange(side).reshape([-1 if a == new else 1 for a in range(n)]) for new, side in enumerate(shape)]
        total[old] = offset[old] + sum(terms)
    return total


def _as_kind(array: Array, kind: np.dtype[Any]) -> Array:
    """Rounded and clipped into an integer kind; floats as they came."""
    if array.dtype == kind or kind.kind not in "iub":
        return array.astype(kind, copy=False)
    if kind.kind == "b":
        return array >= 0.5
    limits = np.iinfo(kind)
    return np.clip(np.rint(array), limits.min, limits.max).astype(kind)
