"""Sampling on a processor where each output voxel looks at its own place in the source.

`grid_sample` takes some 36 ns a voxel of a volume there: it works voxel by voxel. Here a run of output voxels that fits the cache goes
through each step together (places, corners, shares), images and masks at the same places, always in the same few buffers
(benchmarks/levers.py); in a small patch the start of a step counts, so all axes take one together and what is few is counted in plain
numbers. Values are those of `grid_sample` within rounding; a voxel of a mask differs where it looks at the border between two voxels.

Places are voxels of the source counted from 0, with fractions; C channels, (C, *L) in and (C, *S) out. A place outside the source is
moved to the nearest one inside, and counts 1 less its distance to that, 0 from one voxel on: what linear interpolation with zeros
outside gives.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from torch import Tensor

RUN = 2**16  # output voxels that are worked on together
EDGE = 2.0**-12  # voxels by which places must lie within the first and the last to be inside, whatever rounding does
EXACT = 2**24  # up to here float32 holds whole numbers


@dataclass(frozen=True, eq=False)
class Places:
    """Where output voxels look: `linear` (n, n) and `offset` (n,), float64, from their numbers to source voxels, and the displacement
    `field` (n, *shape) in source voxels on top of it, None where there is none."""

    linear: Tensor
    offset: Tensor
    shape: tuple[int, ...]
    field: Tensor | None = None

    @cached_property
    def parts(self) -> tuple[Tensor, Tensor]:
        """What the first axis (n, side, 1) and all others (n, 1, rest) add to the places, float32."""
        linear, others = self.linear.numpy(), self.offset.numpy()
        for axis, side in enumerate(self.shape[1:], start=1):
            others = others[..., None] + linear[:, axis].reshape(-1, *(1,) * axis) * np.arange(side)
        line = linear[:, :1, None] * np.arange(self.shape[0])[:, None]
        return torch.from_numpy(line.astype(np.float32)), torch.from_numpy(others.reshape(len(line), 1, -1).astype(np.float32))

    @cached_property
    def bounds(self) -> list[tuple[float, float, float]]:
        """Along each axis, the least and the greatest of what all but the first axis of the output gives, and what a step of that adds."""
        found = []
        for axis, (slopes, place) in enumerate(zip(self.linear.tolist(), self.offset.tolist(), strict=True)):
            ends = [slope * (side - 1) for slope, side in zip(slopes[1:], self.shape[1:], strict=True)]
            less, more = (0.0, 0.0) if self.field is None else (float(self.field[axis].amin()), float(self.field[axis].amax()))
            found.append((place + less + sum(min(0.0, end) for end in ends), place + more + sum(max(0.0, end) for end in ends), slopes[0]))
        return found

    def beyond(self, rows: range, sides: Sequence[int]) -> list[int]:
        """Axes along which some place of output rows may lie outside a source of `sides`."""
        found = []
        for axis, (side, (low, high, slope)) in enumerate(zip(sides, self.bounds, strict=True)):
            ends = slope * rows[0], slope * rows[-1]
            if low + min(ends) < EDGE or high + max(ends) > side - 1 - EDGE:
                found.append(axis)
        return found


@dataclass(frozen=True, eq=False)
class Look:
    """One sample (C, *L) and the room for what it shows, `out` (C, *S): the nearest voxel and 0 outside, or linear between the corners;
    half precision is shown in single."""

    sample: Tensor
    out: Tensor
    nearest: bool


@dataclass(frozen=True, eq=False)
class Room:
    """Buffers of a run: `places` and `spare` (n, rows, rest), the same flat for each axis, `away` how far outside places are, `kept` what
    they count for that, flat `number` and `index` of voxels."""

    places: Tensor
    spare: Tensor
    axes: list[Tensor]
    spares: list[Tensor]
    away: Tensor
    kept: Tensor
    number: Tensor
    index: Tensor

    @classmethod
    def of(cls, sides: Sequence[int], rows: int, rest: int) -> "Room":
        """For `rows` times `rest` output voxels from a source of `sides`."""
        count = len(sides)
        axes = torch.empty(2 * count + 2, rows, rest)
        flat = axes.flatten(1).unbind()
        number = torch.empty(rows * rest, dtype=torch.float32 if math.prod(sides) < EXACT else torch.float64)
        index = torch.empty(rows * rest, dtype=torch.int32)
        return cls(axes[:count], axes[count:-2], list(flat[:count]), list(flat[count:-2]), flat[-2], flat[-1], number, index)

    def look(self, places: Places, rows: range) -> None:
        """Fill `places` with those of output rows."""
        line, others = places.parts
        torch.add(others, line[:, rows.start : rows.stop], out=self.places)
        if places.field is not None:
            self.places.add_(places.field[:, rows.start : rows.stop].flatten(2))

    def hold(self, sides: Sequence[int], beyond: Sequence[int]) -> None:
        """Move places outside to the nearest inside; note how far they were away and what they count."""
        for axis in beyond:
            places, held = self.axes[axis], self.spares[0]
            last = float(np.nextafter(np.float32(sides[axis] - 1), np.float32(0)))  # so that there is a voxel behind the one before it
            torch.clamp(places, 0, last, out=held)
            first = axis == beyond[0]
            away = torch.sub(places, held, out=self.away if first else places).abs_()
            if not first:
                torch.maximum(self.away, away, out=self.away)
            counts = torch.sub(1, away, out=self.kept if first else away).clamp_(min=0)
            if not first:
                self.kept.mul_(counts)
            places.copy_(held)

    def count(self, sides: Sequence[int]) -> None:
        """Fill `index` with the flat numbers of the voxels whose numbers along each axis are in `spare`."""
        number = self.spares[0]
        for axis, side in enumerate(sides[1:], start=1):
            number = torch.add(self.spares[axis], number, alpha=side, out=self.number)
        self.index.copy_(number)


Channel = tuple[list[Tensor], Tensor]  # what is looked at, flat: from each corner of a cell on; and what shows it, flat


def sample(looks: Sequence[Look], places: Places, *, outside: str) -> None:
    """Fill every `out` with what its sample, all of one size, shows at `places`; outside, images hold 0, or with "border" what is near."""
    sides, total, rest = looks[0].sample.shape[1:], places.shape[0], math.prod(places.shape[1:])
    masks, images = ([_channels(look) for look in looks if look.nearest == nearest] for nearest in (True, False))
    step = -(-total // -(-total // max(1, RUN // rest)))  # runs of about one length
    room = Room.of(sides, step, rest)
    for first in range(0, total, step):
        rows = range(first, min(first + step, total))
        room = room if len(rows) == step else Room.of(sides, len(rows), rest)
        beyond = places.beyond(rows, sides)
        room.look(places, rows)
        room.hold(sides, beyond)
        now = slice(rows.start * rest, rows.stop * rest)
        _nearest(chain(*masks), now, sides, room=room, fading=bool(beyond))
        _linear(chain(*images), now, sides, room=room, fading=bool(beyond) and outside == "zeros")


def _channels(look: Look) -> list[Channel]:
    """The channels of `look`; a mask is looked at from the first corner alone, and so is an axis of one voxel."""
    sides, steps = look.sample.shape[1:], [0]
    for axis in range(0 if look.nearest else len(sides)):
        steps = [start + further for start in steps for further in (0, math.prod(sides[axis + 1 :]) * (sides[axis] > 1))]
    flat = look.sample.flatten(1).to(look.out.dtype)
    return [([source[step:] for step in steps], out) for source, out in zip(flat, look.out.flatten(1), strict=True)]


def _nearest(channels: Iterable[Channel], now: slice, sides: Sequence[int], *, room: Room, fading: bool) -> None:
    """Fill a run of each channel with the voxels nearest to the places."""
    torch.round(room.places, out=room.spare)
    room.count(sides)
    inside = room.away.le(0.5).view(torch.uint8) if fading else None
    for (source,), out in channels:
        torch.index_select(source, 0, room.index, out=out[now])
        if inside is not None:
            out[now].mul_(inside)


def _linear(channels: Iterable[Channel], now: slice, sides: Sequence[int], *, room: Room, fading: bool) -> None:
    """Fill a run of each channel with what is linear between the corners around the places, which become shares of the further corner."""
    room.places.sub_(torch.floor(room.places, out=room.spare))
    room.count(sides)
    for corners, out in channels:
        values = out[now]
        _mix(corners, values, room.axes, room=room)
        if fading:
            values.mul_(room.kept)


def _mix(corners: Sequence[Tensor], out: Tensor, shares: Sequence[Tensor], *, room: Room) -> None:
    """Fill `out` with the voxels at `corners`, the nearer half of them mixed with the further by the first of the `shares`, and so on."""
    if not shares:
        torch.index_select(corners[0], 0, room.index, out=out)
        return
    half, further = len(corners) // 2, room.spares[len(shares) - 1]
    _mix(corners[:half], out, shares[1:], room=room)
    _mix(corners[half:], further, shares[1:], room=room)
    torch.lerp(out, further, shares[0], out=out)
