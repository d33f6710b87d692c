"""Low resolution: some channels are sampled on a coarser grid (nearest voxel) and brought back by linear interpolation."""

from functools import cache
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vesalius.augment import Augment, Frame, Intensity, Parameters
from vesalius.augment._lines import SHORT, Line, mix, multiplied, take
from vesalius.augment._random import some_channels, uniform
from vesalius.core.card import Card

CARD = Card(entry="LowResolution", title="low resolution", summary="Every other channel loses detail.", tags=("intensity",))
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class LowResolution(Intensity):
    """Factors uniform between the bounds, one for all fine axes; coarse axes stay. A channel is taken with probability one half."""

    order: ClassVar[int] = 60

    def __init__(self, bounds: tuple[float, float], *, probability: float = 0.25) -> None:
        self.bounds = bounds
        self.probability = probability

    @classmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        if not settings.low_resolution_probability:
            return None
        return cls(settings.low_resolution, probability=settings.low_resolution_probability)

    @classmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        return {"low_resolution_probability": 1.0}

    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        factor = uniform(generator, self.bounds, frame.channels)[:, None]
        changed = some_channels(generator, frame.channels)[:, None] & torch.tensor(frame.fine)
        return {"factor": torch.where(changed, factor, torch.ones(()))}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        if bool((parameters["factor"] == 1).all()):
            return image
        changed = image.clone()
        for sample, factors in zip(changed, parameters["factor"].tolist(), strict=True):
            for channel, factor in zip(sample, factors, strict=True):
                if any(f != 1 for f in factor):
                    channel.copy_(_coarsened(channel, factor))
        return changed


def _coarsened(channel: Tensor, factor: list[float]) -> Tensor:
    size = [max(1, round(side * f)) for side, f in zip(channel.shape, factor, strict=True)]
    if channel.device.type == "cpu":
        if max(channel.shape) <= SHORT:
            return multiplied(channel, [_matrix(*sizes).to(channel) for sizes in zip(channel.shape, size, strict=True)])
        found = [_line(*sizes) for sizes in zip(channel.shape, size, strict=True)]
        made = torch.empty_like(channel, memory_format=torch.contiguous_format)
        for axis, (left, _) in enumerate(found):
            channel = take(channel, axis, left)
        mix(channel[None], [line for _, line in found], made[None])
        return made
    coarse = interpolate(channel[None, None], size, mode="nearest-exact")
    return interpolate(coarse, channel.shape, mode=LINEAR[channel.ndim])[0, 0]


@cache
def _line(side: int, size: int) -> tuple[Tensor, Line | None]:
    """Which voxels of `side` are nearest to those of a coarser grid of `size`, and between which of these each of the fine grid lies."""
    left = ((torch.arange(size).double() + 0.5) * side / size).long()
    return left, None if size == side else Line.of((torch.arange(side).double() + 0.5) * size / side - 0.5, size)


@cache
def _matrix(side: int, size: int) -> Tensor:
    """Both steps as a matrix (side, side)."""
    left, line = _line(side, size)
    return torch.eye(side) if line is None else torch.zeros(side, side).index_copy(1, left, line.matrix(size).float())
