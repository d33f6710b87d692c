"""Resampling along one axis at a time, in parts of a scan: beside what comes in and what goes out little memory is needed.

All axes but one are resampled plane by plane, into the memory of what goes out; that one follows in the same place.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.kernels import Kernel, kernel
from vesalius.core.order import TILE, fill, furthest
from vesalius.core.space import Array

_SLAB = 1 << 22  # voxels resampled plane by plane at a time
_TOGETHER = 16  # planes at least that go at once to where neighbours lie across them: a line of the cache
_CACHED = 1 << 17  # voxels computed at a time along one axis: half a megabyte each of in, coefficients and out
_LANES = 32  # lines that the kernel takes at a time
_POLE = 3**0.5 - 2  # of the filter that makes coefficients of cubic B-splines
_TERMS = 40  # values of which the first coefficient is the sum: the next would count 1e-23 times
_NEAR = 1e-4  # voxels that a place may be off a whole one and still be that


@dataclass(frozen=True)
class Along:
    """New voxels along one axis at the fractional indices `place` of the old ones (none beyond the ends), which are blurred by a Gaussian
    of deviation `sigma` voxels before."""

    place: Array
    sigma: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether voxels are only taken."""
        return not self.sigma and float(np.abs(self.place - np.rint(self.place)).max()) < _NEAR

    def nearest(self, order: int) -> NDArray[np.intp]:
        """The old voxel nearest to each; halves go down where no others are wanted (order 0)."""
        return np.asarray(np.floor(self.place + 0.5 - 1e-6) if order == 0 else np.rint(self.place), np.intp)

    def keeps(self, side: int) -> bool:
        """Whether all of `side` old voxels stay in their places."""
        return self.whole and np.array_equal(np.rint(self.place), np.arange(side))


def on_axes(array: Array, axes: Sequence[Along], *, order: int) -> Array:
    """`array` (C, *S) at the places of `axes`, C-contiguous and new, in its own kind of number (integers are rounded); where voxels are
    only taken (always with order 0) they are not computed with."""
    if order == 0 or all(along.whole for along in axes):
        near = [np.clip(along.nearest(order), 0, side - 1) for along, side in zip(axes, array.shape[1:], strict=True)]
        return stacked((taken(channel, near) for channel in array), len(array))
    kind = np.result_type(array.dtype, np.float32)
    made = (resampled(channel, axes, order=order, made=lambda part: part.astype(kind, copy=False), kind=kind) for channel in array)
    return stacked((as_kind(channel, array.dtype) for channel in made), len(array))


def stacked(channels: Iterable[Array], count: int) -> Array:
    """(C, *S) of so many arrays (*S), each let go before the next is made; of one alone a view."""
    left = iter(channels)
    channel = next(left)
    out = channel.reshape(1, *channel.shape) if count == 1 else np.empty((count, *channel.shape), channel.dtype)
    for number in range(1, count):
        out[number - 1] = channel
        del channel
        channel = next(left)
    out[-1] = channel
    next(left, None)  # whatever is paired strictly looks whether more is left
    return out


def taken(channel: Array, near: Sequence[NDArray[np.intp]]) -> Array:
    """The voxels `near` along each axis of (*S), C-contiguous and new."""
    out = np.empty([len(one) for one in near], channel.dtype)
    turn = outwards(channel)
    base, there = channel.transpose(turn), out.transpose(turn)
    for start in range(0, len(there), TILE):
        part = base.take(near[turn[0]][start : start + TILE], 0)
        for axis, old in enumerate(turn[1:], start=1):
            part = part.take(near[old], axis)
        fill(there[start : start + TILE][None], part[None])
    return out


def outwards(array: Array) -> list[int]:
    """The axes, that which is furthest apart in memory first."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def resampled(channel: Array, axes: Sequence[Along], *, order: int, made: Callable[[Array], Array], kind: np.dtype[Any]) -> Array:
    """`channel` (*S) at the places of `axes`, C-contiguous, in floating point of a `kind`; `made` makes the values of a part of it."""
    last = _last(channel, axes)
    old, side = channel.shape[last], len(axes[last].place)
    shape = [old if axis == last else len(along.place) for axis, along in enumerate(axes)]
    outer, inner = prod(shape[:last]), prod(shape[last + 1 :])
    whole = np.empty(outer * inner * max(old, side), kind)
    held = whole[outer * inner * max(0, side - old) :][: outer * inner * old]
    _in_planes(channel, held.reshape(shape), axes, last=last, order=order, made=made)
    _in_place(whole, held.reshape(outer, old, inner), axes[last], order=order)
    del held
    whole.resize(outer * inner * side, refcheck=False)  # nobody has seen it yet
    shape[last] = side
    return whole.reshape(shape)


def _last(channel: Array, axes: Sequence[Along]) -> int:
    """The axis that comes last: the one that is furthest apart in memory, unless that shrinks to less than half; then the one that grows
    most, so that what is held between is no more than twice what goes out."""
    growth = [len(along.place) / side for along, side in zip(axes, channel.shape, strict=True)]
    far = furthest(channel[None]) - 1
    return far if growth[far] >= 0.5 else int(np.argmax(growth))


def _in_planes(channel: Array, held: Array, axes: Sequence[Along], *, last: int, order: int, made: Callable[[Array], Array]) -> None:
    """All axes but the last, those that shrink first, into `held`: a part at a time, and then as many planes as fill lines of the cache."""
    rest = sorted((len(along.place) / channel.shape[axis], axis) for axis, along in enumerate(axes) if axis != last)
    before, side, rooms = (slice(None),) * last, channel.shape[last], [_Room(held.dtype) for _ in axes]

    def planes(first: int, stop: int) -> Array:
        part = made(channel[(*before, slice(first, stop))])
        for (_, axis), room in zip(rest, rooms, strict=False):
            part = along_axis(part, axis, axes[axis], order=order, room=room)
        return part

    thick = max(1, _SLAB * side // max(1, channel.size))
    for start in range(0, side, thick * -(-_TOGETHER // thick)):
        stop = min(side, start + thick * -(-_TOGETHER // thick))
        parts = (planes(first, min(first + thick, stop)) for first in range(start, stop, thick))
        fill(held[(*before, slice(start, stop))][None], _joined(parts, last, stop - start, room=rooms[-1])[None])


class _Room:
    """Memory for one array after the other: what is asked for anew costs more than what is computed in it."""

    def __init__(self, kind: np.dtype[Any]) -> None:
        self.values = np.empty(0, kind)

    def array(self, shape: Sequence[int]) -> Array:
        """Of any values; the array before it is lost."""
        if self.values.size < prod(shape):
            self.values = np.empty(prod(shape), self.values.dtype)
        return self.values[: prod(shape)].reshape(shape)


def _joined(parts: Iterator[Array], axis: int, side: int, *, room: _Room) -> Array:
    """`parts` one after the other along an axis, which together has this `side`, with the order of axes in memory that they have."""
    part = next(parts)
    if part.shape[axis] == side:
        return part
    turn, done = outwards(part), 0
    out = room.array([side if old == axis else part.shape[old] for old in turn]).transpose(np.argsort(turn))
    for some in chain((part,), parts):
        out[(*(slice(None),) * axis, slice(done, done + some.shape[axis]))] = some
        done += some.shape[axis]
    return out


def _in_place(whole: Array, held: Array, along: Along, *, order: int) -> None:
    """The middle axis of `held` (outer, n, inner), which begins the values `whole`, or ends them where more is made of it: that begins
    them. A part is read before it is written over."""
    outer, old, inner = held.shape
    side = len(along.place)
    if along.keeps(old):
        return
    out = whole[: outer * inner * side].reshape(outer, side, inner)
    for at in _parts(held.shape):
        out[at] = _lines(held[at], along, order=order)


def _parts(sides: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Places of parts of (outer, n, inner) with whole lines along the middle, one after the other in memory."""
    outer, old, inner = sides
    across, each = (0, old * inner) if outer > 1 else (2, old)
    thick = max(1, _CACHED // max(1, each))
    for start in range(0, sides[across], thick):
        yield (*(slice(None),) * across, slice(start, start + thick))


def along_axis(part: Array, axis: int, along: Along, *, order: int, room: _Room | None = None) -> Array:
    """`part` (*S) at the places of one axis, its axes as far apart in memory as they were, in its own kind of floating point."""
    if along.keeps(part.shape[axis]):
        return part
    turn = outwards(part)
    base = part.transpose(turn)
    middle = turn.index(axis)
    shape = list(base.shape)
    outer, inner = prod(shape[:middle]), prod(shape[middle + 1 :])
    out = room.array((outer, len(along.place), inner)) if room else None
    found = _lines(base.reshape(outer, shape[middle], inner), along, order=order, out=out)
    shape[middle] = len(along.place)
    return found.reshape(shape).transpose(np.argsort(turn))


def _lines(block: Array, along: Along, *, order: int, out: Array | None = None) -> Array:
    """(outer, n, inner) -> (outer, places, inner), a copy."""
    place, (outer, old, inner) = along.place, block.shape
    out = np.empty((outer, len(place), inner), block.dtype) if out is None else out
    if along.whole:
        return np.asarray(block.take(np.clip(along.nearest(order), 0, old - 1), axis=1, out=out, mode="clip"))
    _filter(block, _Filter(*taps(place, old, order), _gaussian(along.sigma), order == 3), out)
    return out


def coefficients(channel: Array) -> Array:
    """(*S) of floating point, C-contiguous, as coefficients of cubic B-splines; at the ends the scan is mirrored."""
    shape = channel.shape
    for axis, side in enumerate(shape):
        alone = _Filter(np.arange(side)[:, None], np.ones((side, 1)), _gaussian(0.0), cubic=True)
        block = channel.reshape(prod(shape[:axis]), side, prod(shape[axis + 1 :]))
        channel = np.empty_like(block)
        _filter(block, alone, channel)
    return channel.reshape(shape)


@dataclass(frozen=True)
class _Filter:
    """New voxels from `taps` (places, count) of the old ones with `weights`, after a symmetric filter of which `blur` is the half, and
    after these have become coefficients where it is `cubic`."""

    taps: Array
    weights: Array
    blur: NDArray[np.float64]
    cubic: bool


def _filter(block: Array, how: _Filter, out: Array) -> None:
    """Lines of (outer, n, inner) along the middle into `out`."""
    quick = kernel("resample_lines", "ppiiiippiipip") if block.dtype == np.float32 else None
    if quick is None:
        _by_numpy(block, how, out)
    else:
        _by_kernel(block, how, out, quick=quick)


def _by_kernel(block: Array, how: _Filter, out: Array, *, quick: Kernel) -> None:
    block, (side, count) = np.ascontiguousarray(block), how.taps.shape
    outer, old, inner = block.shape
    taps, weights, blur = how.taps.astype(np.int32), how.weights.astype(np.float32), how.blur.astype(np.float32)
    scratch = np.empty(_LANES * (2 * len(blur) + 2 * old + side), np.float32)
    quick(block.ctypes.data, out.ctypes.data, outer, old, inner, side, taps.ctypes.data, weights.ctypes.data, count, how.cubic,
          blur.ctypes.data, len(blur) - 1, scratch.ctypes.data)  # fmt: skip


def _by_numpy(block: Array, how: _Filter, out: Array) -> None:
    """The same without the kernel, in any kind of floating point: every step goes along all lines of a part together."""
    old, (side, _) = block.shape[1], how.taps.shape
    weights = how.weights.astype(block.real.dtype)
    for at in _parts(block.shape):
        front = np.moveaxis(block[at], 1, 0)
        rows = np.array(front, order="C").reshape(old, -1)
        with np.errstate(invalid="ignore", over="ignore"):  # holes spread without a word, as in the kernel
            if len(how.blur) > 1:
                rows = _blurred(rows, how.blur.astype(block.real.dtype))
            if how.cubic:
                _to_coefficients(rows)
            mixed = _mixed(rows, how.taps.T, weights.T)
        out[at] = np.moveaxis(mixed.reshape(side, *front.shape[1:]), 0, 1)


def _blurred(rows: Array, half: Array) -> Array:
    """The symmetric filter of which `half` is known, along rows; beyond the ends the last one goes on."""
    far = len(half) - 1
    long = np.concatenate([rows[:1].repeat(far, 0), rows, rows[-1:].repeat(far, 0)])
    both, out = np.empty_like(rows), np.asarray(rows * half[0])
    for k in range(1, far + 1):
        np.add(long[far - k :][: len(rows)], long[far + k :][: len(rows)], out=both)
        both *= half[k]
        out += both
    return out


def _to_coefficients(rows: Array) -> None:
    """Rows become coefficients of cubic B-splines, where they lie; mirrored at the ends, about the last sample: Unser 1999, from one end to
    the other and back."""
    n = len(rows)
    if n < 2:
        return
    period = 2 * n - 2
    first = rows[0] + _POLE ** (n - 1) * rows[-1]
    for k in range(1, min(n - 1, _TERMS)):
        first += (_POLE**k + _POLE ** (period - k)) * rows[k]
    rows[0], step = first / (1 - _POLE**period), np.empty_like(first)
    for row, before in zip(rows[1:], rows[:-1], strict=True):
        row += np.multiply(before, _POLE, out=step)
    rows[-1] = (rows[-1] + _POLE * rows[-2]) * (6 * _POLE / (_POLE**2 - 1))
    for row, after in zip(rows[-2::-1], rows[:0:-1], strict=True):
        row *= -6 * _POLE
        row += np.multiply(after, _POLE, out=step)


def _mixed(rows: Array, taps: Array, weights: Array) -> Array:
    """New rows, the sum of those that `taps` (count, new) name times `weights`."""
    out = np.zeros((taps.shape[1], rows.shape[1]), rows.dtype)
    part = np.empty_like(out)
    for some, weight in zip(taps, weights, strict=True):
        out += np.multiply(rows.take(some, 0, out=part, mode="clip"), weight[:, None], out=part)
    return out


def _gaussian(sigma: float) -> NDArray[np.float64]:
    """Half of a Gaussian cut at three deviations, from its middle outwards; the whole sums to 1."""
    far = np.arange(int(3 * sigma + 0.5) + 1)
    half = np.exp(-0.5 * (far / max(sigma, 1e-9)) ** 2)
    return np.asarray(half / (2 * half.sum() - 1))


def taps(place: Array, n: int, order: int) -> tuple[Array, Array]:
    """(indices, weights), each (places, order + 1): hat function, or the cubic B-spline on coefficients mirrored at the ends."""
    base = np.floor(place).astype(np.intp)
    t = place - base
    if order == 1:
        return np.stack([base, np.minimum(base + 1, n - 1)], 1), np.stack([1 - t, t], 1)
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3], 1) / 6
    near = np.abs(base[:, None] + np.arange(-1, 3))
    near = np.where(near > n - 1, 2 * (n - 1) - near, near)
    return np.clip(near, 0, n - 1), weights


def as_kind(array: Array, kind: np.dtype[Any]) -> Array:
    """Rounded and clipped into an integer kind; floats as they came."""
    if array.dtype == kind or kind.kind not in "iub":
        return array.astype(kind, copy=False)
    if kind.kind == "b":
        return array >= 0.5
    limits, out = np.iinfo(kind), np.empty(array.shape, kind)
    for plane, values in zip(out, array, strict=True):
        plane[...] = np.clip(np.rint(values), limits.min, limits.max)
    return out
