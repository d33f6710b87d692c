"""Connected parts of a mask: voxels that share a face. In C, and by numpy where there are no kernels.

Both go by runs along the last axis, which are far fewer than voxels. By numpy each run that touches an earlier one is put below it, all at
once and again until none is left: Shiloach and Vishkin, An O(log n) parallel connectivity algorithm, Journal of Algorithms 1982.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from vesalius.core.kernels import kernel
from vesalius.core.space import Array

AXES = 3
Numbers = NDArray[np.int32]
Places = NDArray[np.intp]


def numbered(mask: NDArray[np.bool_]) -> tuple[Numbers, int]:
    """The number of the part of each voxel of `mask` (up to three axes), 0 outside, and how many parts there are. They are numbered in
    the order of their first voxels, the last axis fastest."""
    volume = np.ascontiguousarray(mask, bool).reshape(_three(mask))
    quick = kernel("connected", "ppiiip")
    if quick:
        numbers, count = np.zeros(volume.shape, np.int32), np.zeros(1, np.int64)
        quick(volume.ctypes.data, numbers.ctypes.data, *volume.shape, count.ctypes.data)
        if count[0] >= 0:
            return numbers.reshape(mask.shape), int(count[0])
    numbers, many = _numbered(volume)  # also where there was no memory for the kernel
    return numbers.reshape(mask.shape), many


def boxes(numbers: Numbers, count: int) -> list[tuple[slice, ...]]:
    """The smallest box around each of the numbers 1 ... `count` in `numbers`, which holds all of them and none above."""
    volume = np.ascontiguousarray(numbers, np.int32).reshape(_three(numbers))
    quick = kernel("connected_boxes", "ppiiii")
    found = np.empty((count, AXES, 2), np.int64)
    if quick:
        quick(volume.ctypes.data, found.ctypes.data, *volume.shape, count)
    elif count:
        _boxes(volume, found)
    axes = found.transpose(1, 2, 0)[AXES - numbers.ndim :].tolist()
    return list(zip(*(map(slice, first, end) for first, end in axes), strict=True))


def around(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box around all of `mask`; None where it is empty."""
    box: tuple[slice, ...] = ()
    for axis in range(mask.ndim):
        inside = np.flatnonzero(mask[box].any(tuple(other for other in range(mask.ndim) if other != axis)))
        if not inside.size:
            return None
        box = (*box, slice(int(inside[0]), int(inside[-1]) + 1))
    return box


def _three(array: Array) -> tuple[int, ...]:
    """The shape with as many axes of one voxel before it as make three."""
    assert 1 <= array.ndim <= AXES
    return (1,) * (AXES - array.ndim) + array.shape


def _numbered(mask: NDArray[np.bool_]) -> tuple[Numbers, int]:
    wide = mask.shape[-1] + 1
    first, end = _runs(mask)
    row, pairs = first // wide, []
    for axis in (0, 1):
        back = prod(mask.shape[axis + 1 : -1])  # rows from one to the next along that axis
        pairs.append(_touching(first, end, np.flatnonzero(row // back % mask.shape[axis] > 0), back=back * wide))
    of = _joined(len(first), *map(np.concatenate, zip(*pairs, strict=True)))
    roots = of == np.arange(len(of))
    numbers = np.zeros(mask.shape, np.int32)
    numbers[mask] = roots.cumsum(dtype=np.int32)[of].repeat(end - first)
    return numbers, int(roots.sum())


def _runs(values: Array) -> tuple[Places, Places]:
    """Where runs of a number that is not 0 begin and end, counted on rows that are one voxel longer, so that none touches the next row."""
    long = np.zeros((*values.shape[:-1], values.shape[-1] + 1), values.dtype)
    long[..., :-1] = values
    long = long.ravel()
    before = np.roll(long, 1)
    change = long != before
    return np.flatnonzero(change & (long != 0)), np.flatnonzero(change & (before != 0))


def _touching(first: Places, end: Places, some: Places, *, back: int) -> tuple[Places, Places]:
    """Pairs of runs, one of `some` and one that has a place in common with it when it is moved `back`."""
    low = np.searchsorted(end, first[some] - back, "right")
    many = np.searchsorted(first, end[some] - back, "left") - low
    each = np.arange(many.sum()) - (many.cumsum() - many).repeat(many)
    return some.repeat(many), low.repeat(many) + each


def _joined(count: int, one: Places, other: Places) -> Places:
    """The first of all that hang together with each of `count`, by pairs of them."""
    root = np.arange(count)
    while one.size:
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(further := root[root], root):
            root = further
        one, other = root[one], root[other]
        apart = one != other
        one, other = one[apart], other[apart]
    return root


def _boxes(numbers: Numbers, found: NDArray[np.int64]) -> None:
    """By runs of each number, one after the other."""
    first, end = _runs(numbers)
    wide, side = numbers.shape[-1] + 1, numbers.shape[1]
    row = first // wide
    of = numbers.reshape(-1, wide - 1)[row, first % wide]
    order = np.argsort(of, kind="stable")
    begin = np.searchsorted(of[order], np.arange(1, len(found) + 1))
    for axis, (low, high) in enumerate(((row // side, row // side + 1), (row % side, row % side + 1), (first % wide, end - row * wide))):
        found[:, axis, 0] = np.minimum.reduceat(low[order], begin)
        found[:, axis, 1] = np.maximum.reduceat(high[order], begin)
