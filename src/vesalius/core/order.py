"""Arrays whose axes lie in another order in memory: copied tile by tile, since a copy in one go misses the cache at every step.

Files hold the first axis of a scan closest together, arrays the last. A large scan is copied from one to the other several times as fast in
tiles.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

from vesalius.core.space import Array

TILE = 64  # indices of the axis that is closest together where the copy goes
SMALL = 1 << 20  # elements that are copied in one go


def fill(out: Array, array: Array) -> None:
    """out[...] = array, both (C, *S)."""
    here, there = closest(out), closest(array)
    if here == there or out.size < SMALL:
        out[...] = array
        return
    low, high = sorted((here, there))
    for first in range(0, out.shape[here], TILE):
        for others in product(*(range(side) for axis, side in enumerate(out.shape) if axis not in (here, there))):
            at = list[int | slice](others)
            at.insert(low, slice(None))
            at.insert(high, slice(None))
            at[here] = slice(first, first + TILE)
            tile = array[tuple(at)]  # (low, high)
            out[tuple(at)] = np.array(tile, order="F" if there == low else "C")  # from memory once, and turned in the cache


def contiguous(array: Array) -> Array:
    """`array` (C, *S) itself, or a copy whose last axis is closest together."""
    if array.flags.c_contiguous:
        return array
    out = np.empty(array.shape, array.dtype)
    fill(out, array)
    return out


def closest(array: Array) -> int:
    """The axis (not the first, of channels) along which neighbours are closest together in memory; the last of several."""
    return min(range(array.ndim - 1, 0, -1), key=lambda axis: abs(array.strides[axis]) if array.shape[axis] > 1 else np.inf)


def slabs(array: Array, voxels: int, *, least: int = 1) -> Iterator[tuple[slice, ...]]:
    """Places of parts of `array` (C, *S) of about so many `voxels`, and of `least` planes, cut across the axis that is widest apart in
    memory."""
    across = furthest(array)
    thick = max(1, least, voxels * array.shape[across] // max(1, array[0].size))
    for start in range(0, array.shape[across], thick):
        yield (*(slice(None),) * across, slice(start, start + thick))


def furthest(array: Array) -> int:
    """The axis (not the first, of channels) along which neighbours are furthest apart in memory; the first of several."""
    return max(range(1, array.ndim), key=lambda axis: abs(array.strides[axis]) if array.shape[axis] > 1 else -1)
