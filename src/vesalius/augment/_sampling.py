"""Sampling of one sample on a processor, where each output voxel looks at its own place in the source.

`grid_sample` takes some 36 ns a voxel of a volume there: it works voxel by voxel. Here a run of output voxels that fits the cache goes
through each step together: places, corners, shares (benchmarks/levers.py). Values are those of `grid_sample` within rounding; a voxel of
a mask differs where it looks at the border between two voxels.

Places are voxels of the source counted from 0, with fractions; C channels, (C, *L) in and (C, *S) out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

RUN = 2**16  # output voxels that are worked on together
EDGE = 2.0**-12  # voxels by which places must lie within the first and the last to be inside, whatever rounding does


@dataclass(frozen=True, eq=False)
class Places:
    """Where output voxels look: `linear` (n, n) and `offset` (n,) from their numbers to source voxels, and the displacement `field`
    (n, *shape) in source voxels on top of it, None where there is none."""

    linear: Tensor
    offset: Tensor
    shape: tuple[int, ...]
    field: Tensor | None = None

    def runs(self) -> Iterator[tuple[slice, list[Tensor]]]:
        """Runs of rows along the first axis, each with float32 places by axis, (rows * rest,)."""
        lines = [torch.arange(side).double() for side in self.shape]
        rest = [self._rest(axis, lines[1:]) for axis in range(len(self.shape))]
        step = max(1, RUN // math.prod(self.shape[1:]))
        for first in range(0, self.shape[0], step):
            rows = slice(first, min(first + step, self.shape[0]))
            yield rows, [self._axis(axis, rest[axis], rows) for axis in range(len(self.shape))]

    def _rest(self, axis: int, lines: list[Tensor]) -> Tensor:
        """What the axes after the first add to the places along `axis`, (rest,)."""
        total = self.offset[axis].reshape(())
        for number, one in enumerate(lines, start=1):
            total = total[..., None] + one * self.linear[axis, number]
        return total.flatten().float()

    def _axis(self, axis: int, rest: Tensor, rows: slice) -> Tensor:
        line = torch.arange(rows.start, rows.stop).double()
        places = ((line * self.linear[axis, 0]).float()[:, None] + rest).flatten()
        return places if self.field is None else places.add_(self.field[axis, rows].flatten())


    def inside(self, sides: tuple[int, ...]) -> bool:
        """Whether every place lies between the voxels of a source of `sides`; a displacement may lead anywhere."""
        if self.field is not None:
            return False
        spans = [self.linear[:, axis, None] * torch.tensor([0.0, side - 1.0]).double() for axis, side in enumerate(self.shape)]
        low, high = (self.offset + sum(getattr(span, least)(1) for span in spans) for least in ("amin", "amax"))
        return bool((low > EDGE).all() and (high < torch.tensor(sides) - 1 - EDGE).all())


def sampled(sample: Tensor, places: Places, *, nearest: bool, outside: str) -> Tensor:
    """`sample` at `places`: the nearest voxel, or linear between the corners around it; outside 0, or with "border" what is nearest."""
    take, (before, source) = _nearest if nearest else _linear, _rimmed(sample, places, outside)
    out = torch.empty(len(sample), *places.shape, dtype=sample.dtype)
    for rows, axes in replace(places, offset=places.offset + before).runs():
        if source is not sample:
            axes = [place.clamp_(0, side - 2) for place, side in zip(axes, source.shape[1:], strict=True)]
        take(source, axes, out[:, rows].flatten(1))
    return out


def _rimmed(sample: Tensor, places: Places, outside: str) -> tuple[int, Tensor]:
    """`sample` with a rim on which places outside it may lie, and a voxel behind that; and how wide the rim is before its first voxel."""
    axes = len(places.shape)
    if places.inside(tuple(sample.shape[1:])):
        return 0, sample
    if outside == "border":
        return 0, pad(sample[None], (0, 1) * axes, mode="replicate")[0]
    return 1, pad(sample, (1, 2) * axes)


def _nearest(source: Tensor, places: list[Tensor], out: Tensor) -> None:
    """Fill `out` (C, run) with the voxels of `source` (C, *L) nearest to `places`."""
    index = _index([place.round_() for place in places], source.shape[1:])
    for channel, values in zip(source.flatten(1), out, strict=True):
        torch.index_select(channel, 0, index, out=values)


def _linear(source: Tensor, places: list[Tensor], out: Tensor) -> None:
    """Fill `out` (C, run) with what is linear between the corners around `places`."""
    lows = [place.floor() for place in places]
    shares = [place.sub_(low) for place, low in zip(places, lows, strict=True)]
    index = _index(lows, source.shape[1:])
    axes = list(zip(source[0].stride(), shares, strict=True))
    for channel, values in zip(source.flatten(1), out, strict=True):
        values.copy_(_mixed(channel, index, axes))


def _mixed(channel: Tensor, index: Tensor, axes: list[tuple[int, Tensor]]) -> Tensor:
    """The voxels of flat `channel` at `index`, mixed along each of `axes` (step to the next voxel, its share) with those behind them."""
    if not axes:
        return channel.index_select(0, index)
    (step, share), *left = axes
    return _mixed(channel, index, left).lerp_(_mixed(channel[step:], index, left), share)


def _index(places: list[Tensor], sides: torch.Size) -> Tensor:
    """Flat numbers of whole `places` in a volume of `sides`; float32 holds them up to 2^24."""
    total = places[0].to(torch.int32 if math.prod(sides) >= 2**24 else torch.float32)
    for place, side in zip(places[1:], sides[1:], strict=True):
        total = total.mul(side).add_(place.to(total.dtype))
    return total.to(torch.int32)
