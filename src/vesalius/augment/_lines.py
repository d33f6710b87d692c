"""Linear interpolation along the axes of a volume, one after another, in runs of output rows that fit the cache on their way through all
axes (benchmarks/levers.py). The same as in one go: what is linear in a cell is the product of what is linear along its edges.

C channels, (C, *L) in and (C, *S) out; a place is a voxel of the source counted from 0, with fractions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RUN = 2**17  # voxels of the source that are worked on together


@dataclass(frozen=True, eq=False)
class Line:
    """One axis: each output voxel lies between the voxels `low` and `high` (side,), takes `share` (side,) of the further one, and counts
    `kept` (side,), None where all count in full."""

    low: Tensor
    high: Tensor
    share: Tensor
    kept: Tensor | None = None

    @classmethod
    def of(cls, places: Tensor, side: int, *, fading: bool = False) -> "Line":
        """Places, float64 (new,), on an axis of `side` voxels: beyond its ends are the last voxels or, `fading`, zeros."""
        held = places.clamp(0, side - 1)
        low = held.floor().long()
        kept = (1 - (places - held).abs()).clamp(min=0) if fading and not torch.equal(places, held) else None
        return cls(low, (low + 1).clamp(max=side - 1), held - low, kept)

    def part(self, rows: slice) -> "Line":
        """Those output voxels alone."""
        return Line(self.low[rows], self.high[rows], self.share[rows], None if self.kept is None else self.kept[rows])


def mix(sample: Tensor, lines: Sequence[Line | None], out: Tensor) -> None:
    """Fill `out` (C, *S) with `sample` (C, *L), both of one real dtype, mixed along every axis that has a line."""
    looked = [(line, *_looked(line, side)) for line, side in zip(lines, sample.shape[1:], strict=True)]
    for axis, (_, first, stop) in enumerate(looked, start=1):
        sample = sample.narrow(axis, first, stop - first)
    lines = [line and Line(line.low - first, line.high - first, line.share.to(out), line.kept) for line, first, _ in looked]
    step = max(1, RUN // math.prod(sample.shape[2:]))
    for channel, values in zip(sample, out, strict=True):
        for first in range(0, len(values), step):
            rows = slice(first, first + step)
            part = channel[rows] if lines[0] is None else _between(channel, lines[0].part(rows), 0)
            for axis, line in enumerate(lines[1:], start=1):
                part = part if line is None else _between(part, line, axis)
            values[rows] = part


def _looked(line: Line | None, side: int) -> tuple[int, int]:
    """From where to where a line looks."""
    return (0, side) if line is None else (int(line.low.min()), int(line.high.max()) + 1)


def _between(part: Tensor, line: Line, axis: int) -> Tensor:
    """`part` mixed along one axis."""
    beside = (-1, *(1,) * (part.ndim - 1 - axis))
    mixed = take(part, axis, line.low).lerp_(take(part, axis, line.high), line.share.reshape(beside))
    return mixed if line.kept is None else mixed.mul_(line.kept.to(mixed).reshape(beside))


def take(part: Tensor, axis: int, voxels: Tensor) -> Tensor:
    """`part` at `voxels` along `axis`. The last axis of rows in a plane is taken five times as fast as that of a volume; of whole numbers
    by numpy four times as fast as by torch."""
    if axis < part.ndim - 1:
        return part.index_select(axis, voxels)
    if part.is_floating_point() or part.device.type != "cpu":
        return part.reshape(-1, part.shape[-1]).index_select(1, voxels).reshape(*part.shape[:-1], -1)
    return torch.from_numpy(part.numpy().take(voxels.numpy(), axis=-1))
