"""Sampling on a processor where each output voxel looks at its own place in the source.

`grid_sample` takes some 36 ns a voxel of a volume there: it works voxel by voxel. Here a run of output voxels that fits the cache goes
through each step together (places, corners, shares), images and masks at the same places, always in the same few buffers
(benchmarks/levers.py). Values are those of `grid_sample` within rounding; a voxel of a mask differs where it looks at the border between
two voxels.

Places are voxels of the source counted from 0, with fractions; C channels, (C, *L) in and (C, *S) out. A place outside the source is
moved to the nearest one inside, and counts 1 less its distance to that, 0 from one voxel on: what linear interpolation with zeros
outside gives.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

RUN = 2**16  # output voxels that are worked on together
EDGE = 2.0**-12  # voxels by which places must lie within the first and the last to be inside, whatever rounding does
EXACT = 2**24  # up to here float32 holds whole numbers


@dataclass(frozen=True, eq=False)
class Places:
    """Where output voxels look: `linear` (n, n) and `offset` (n,) from their numbers to source voxels, and the displacement `field`
    (n, *shape) in source voxels on top of it, None where there is none."""

    linear: Tensor
    offset: Tensor
    shape: tuple[int, ...]
    field: Tensor | None = None

    @cached_property
    def rest(self) -> list[Tensor]:
        """What the axes after the first add to the places along each axis, float32 (rest,)."""
        lines = [torch.arange(side).double() for side in self.shape[1:]]
        found = []
        for axis in range(len(self.shape)):
            total = self.offset[axis].reshape(())
            for number, one in enumerate(lines, start=1):
                total = total[..., None] + one * self.linear[axis, number]
            found.append(total.flatten().float())
        return found

    @cached_property
    def bounds(self) -> list[tuple[float, float]]:
        """The least and the largest that the rest and the displacement add along each axis."""
        bent = [(0.0, 0.0)] * len(self.shape) if self.field is None else [_ends(field) for field in self.field]
        return [(low + less, high + more) for (low, high), (less, more) in zip(map(_ends, self.rest), bent, strict=True)]

    def look(self, rows: range, room: Sequence[Tensor]) -> None:
        """Fill `room`, one buffer for each axis, with the places of output rows."""
        for axis, (places, rest) in enumerate(zip(room, self.rest, strict=True)):
            line = torch.arange(rows.start, rows.stop, dtype=torch.float64).mul_(self.linear[axis, 0]).float()
            torch.add(rest, line[:, None], out=places.view(len(rows), -1))
            if self.field is not None:
                places += self.field[axis, rows.start : rows.stop].flatten()

    def beyond(self, rows: range, sides: Sequence[int]) -> list[int]:
        """Axes along which some place of the rows may lie outside a source of `sides`."""
        found = []
        for axis, (side, (low, high), slope) in enumerate(zip(sides, self.bounds, self.linear[:, 0].tolist(), strict=True)):
            ends = slope * rows[0], slope * rows[-1]
            if low + min(ends) < EDGE or high + max(ends) > side - 1 - EDGE:
                found.append(axis)
        return found


def _ends(values: Tensor) -> tuple[float, float]:
    return float(values.amin()), float(values.amax())


@dataclass(frozen=True, eq=False)
class Look:
    """One sample (C, *L) and the room for what it shows, `out` (C, *S): the nearest voxel and 0 outside, or linear between the corners;
    half precision is shown in single."""

    sample: Tensor
    out: Tensor
    nearest: bool


@dataclass(frozen=True, eq=False)
class Room:
    """Buffers of a run: `axes` its places, `away` how far outside they are, `kept` what they count for that, `spare` to work in, flat
    `number` and `index` of voxels."""

    axes: list[Tensor]
    away: Tensor
    kept: Tensor
    spare: list[Tensor]
    number: Tensor
    index: Tensor

    @classmethod
    def of(cls, sides: Sequence[int], count: int) -> "Room":
        """For `count` output voxels from a source of `sides`."""
        axes, away, kept, spare = torch.split(torch.empty(2 * len(sides) + 2, count), [len(sides), 1, 1, len(sides)])
        number = torch.empty(count, dtype=torch.float32 if math.prod(sides) < EXACT else torch.float64)
        return cls(list(axes), away[0], kept[0], list(spare), number, torch.empty(count, dtype=torch.int32))


def sample(looks: Sequence[Look], places: Places, *, outside: str) -> None:
    """Fill every `out` with what its sample, all of one size, shows at `places`; outside, images hold 0, or with "border" what is near."""
    sides, rest = looks[0].sample.shape[1:], math.prod(places.shape[1:])
    step = min(max(1, RUN // rest), places.shape[0])
    room = Room.of(sides, step * rest)
    flat = [(look, look.sample.flatten(1).to(look.out.dtype), look.out.flatten(1)) for look in looks]
    for first in range(0, places.shape[0], step):
        rows = range(first, min(first + step, places.shape[0]))
        room = room if len(rows) == step else Room.of(sides, len(rows) * rest)
        places.look(rows, room.axes)
        beyond = places.beyond(rows, sides)
        _held(room, sides, beyond)
        now = slice(rows.start * rest, rows.stop * rest)
        for nearest, take in ((True, _nearest), (False, _linear)):
            chosen = [(source, out[:, now]) for look, source, out in flat if look.nearest == nearest]
            if chosen:
                take(chosen, sides, room, fading=bool(beyond) and (nearest or outside == "zeros"))


def _held(room: Room, sides: Sequence[int], beyond: list[int]) -> None:
    """Move places outside to the nearest inside; note how far they were away and what they count."""
    for axis in beyond:
        places, held = room.axes[axis], room.spare[0]
        last = float(np.nextafter(np.float32(sides[axis] - 1), np.float32(0)))  # so that there is a voxel behind the one before it
        torch.clamp(places, 0, last, out=held)
        away = places.sub_(held).abs_()
        room.axes[axis], room.spare[0] = held, places
        counts = room.spare[1] if len(sides) > 1 else room.number
        if axis == beyond[0]:
            room.away.copy_(away)
            torch.neg(away, out=room.kept).add_(1).clamp_(min=0)
            continue
        torch.maximum(room.away, away, out=room.away)
        room.kept.mul_(torch.neg(away, out=counts).add_(1).clamp_(min=0))


Chosen = Sequence[tuple[Tensor, Tensor]]  # flat channels and the run of theirs, (C, prod(L)) and (C, run)


def _nearest(chosen: Chosen, sides: Sequence[int], room: Room, *, fading: bool) -> None:
    """Fill each run with the voxels nearest to the places."""
    for axis, side in enumerate(sides):
        _count(torch.round(room.axes[axis], out=room.spare[0]), room.number, side if axis else 0)
    room.index.copy_(room.number)
    inside = room.away <= 0.5 if fading else None
    for source, out in chosen:
        for channel, values in zip(source, out, strict=True):
            torch.index_select(channel, 0, room.index, out=values)
            if inside is not None:
                values.mul_(inside)


def _linear(chosen: Chosen, sides: Sequence[int], room: Room, *, fading: bool) -> None:
    """Fill each run with what is linear between the corners around the places, which become shares of the further corner."""
    for axis, side in enumerate(sides):
        low = torch.floor(room.axes[axis], out=room.spare[0])
        room.axes[axis].sub_(low)
        _count(low, room.number, side if axis else 0)
    room.index.copy_(room.number)
    steps = [math.prod(sides[axis + 1 :]) for axis in range(len(sides))]
    axes = [(step, share) for step, share, side in zip(steps, room.axes, sides, strict=True) if side > 1]
    for source, out in chosen:
        for channel, values in zip(source, out, strict=True):
            _mix(channel, values, axes, room=room)
            if fading:
                values.mul_(room.kept)


def _count(whole: Tensor, number: Tensor, side: int) -> None:
    """Add an axis of `side` voxels to flat numbers; 0 for the first."""
    if side:
        torch.add(whole, number, alpha=side, out=number)
    else:
        number.copy_(whole)


def _mix(channel: Tensor, out: Tensor, axes: Sequence[tuple[int, Tensor]], *, room: Room) -> None:
    """Fill `out` with the voxels of a flat `channel`, mixed along each of `axes` (step to the next voxel, its share) with those behind."""
    if not axes:
        torch.index_select(channel, 0, room.index, out=out)
        return
    (step, share), further = axes[0], room.spare[len(axes) - 1]
    _mix(channel, out, axes[1:], room=room)
    _mix(channel[step:], further, axes[1:], room=room)
    torch.lerp(out, further, share, out=out)
