"""Which way scans lie: do the cases of a data set look like each other as they are, and would they mirrored?

Every case becomes a thumbnail. Where the mean correlation of pairs falls when one of the two is mirrored along an axis,
patients always lie the same way along it, and a network that is shown mirrored scans learns what it will never meet.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.order import furthest
from vesalius.core.space import Array

SIDES = {2: 32, 3: 16}  # of a thumbnail
MOST = 64  # cases that are compared
Floats = NDArray[np.float32]


def thumbnail(image: Array) -> Floats:
    """`image` (C, *S) as block means on a small cube, each channel standardised, then their mean; NaN counts as 0."""
    small = np.asarray(block_means(image, SIDES[image.ndim - 1]), np.float32)
    flat = small.reshape(len(small), -1)
    flat = (flat - flat.mean(1, keepdims=True)) / (flat.std(1, keepdims=True) + 1e-6)
    return np.asarray(flat.mean(0).reshape(small.shape[1:]), np.float32)


def block_means(image: Array, side: int) -> NDArray[np.float64]:
    """(C, side, ...): `image` (C, *S) as means of `side` blocks along each axis, whose ends are shared where they are no whole voxels;
    NaN counts as 0. One block of planes at a time, so that a large scan is never held in another kind of number."""
    across = furthest(image)
    means = np.stack([_mean(image, across, at) for at in _blocks(image.shape[across], side)], axis=across)
    for axis in (axis for axis in range(1, image.ndim) if axis != across):
        means = np.moveaxis(np.moveaxis(means, axis, -1) @ _shares(image.shape[axis], side), -1, axis)
    return means


def _blocks(length: int, side: int) -> list[slice]:
    return [slice(k * length // side, -(-(k + 1) * length // side)) for k in range(side)]


@cache
def _shares(length: int, side: int) -> NDArray[np.float64]:
    """(length, side): what each voxel of a line adds to the mean of each block."""
    shares = np.zeros((length, side))
    for k, at in enumerate(_blocks(length, side)):
        shares[at, k] = 1 / (at.stop - at.start)
    return shares


def _mean(image: Array, axis: int, at: slice) -> NDArray[np.float64]:
    """Mean of some planes of `image`."""
    part = image[(*(slice(None),) * axis, at)]
    mean = np.add.reduce(part, axis, dtype=np.float64) / (at.stop - at.start)
    return np.asarray(mean if np.isfinite(mean).all() else np.nan_to_num(np.asarray(part, np.float32)).mean(axis, dtype=np.float64))


def every(count: int) -> int:
    """Of `count` cases each so many-th is compared."""
    return max(1, -(-count // MOST))


def poses(thumbnails: Sequence[Floats]) -> dict[str, Any]:
    """{"cases", "same": mean correlation of pairs, "mirrored": the same with one of each pair mirrored, per axis}."""
    step = every(len(thumbnails))
    if len(thumbnails) < 2:
        return {"cases": len(thumbnails), "same": 0.0, "mirrored": []}
    some = np.stack(thumbnails[::step])
    mirrored = [_correlation(some, np.flip(some, axis)) for axis in range(1, some.ndim)]
    return {"cases": len(some), "same": _correlation(some, some), "mirrored": mirrored}


def _correlation(first: Floats, second: Floats) -> float:
    """Mean correlation of first[i] with second[j] over i != j."""
    a, b = (_unit(part.reshape(len(part), -1)) for part in (first, second))
    table = a @ b.T
    return float(table[~np.eye(len(table), dtype=bool)].mean())


def _unit(rows: Floats) -> Floats:
    centred = rows - rows.mean(1, keepdims=True)
    return np.asarray(centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-9), np.float32)
