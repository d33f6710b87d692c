"""Low resolution: some channels are sampled on a coarser grid (nearest voxel) and brought back by linear interpolation."""

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vesalius.augment import Augment, Frame, Intensity, Parameters
from vesalius.augment._grey import coarsen
from vesalius.augment._lines import Line, mix
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
        factor, changed = uniform(generator, self.bounds, frame.channels).numpy(), some_channels(generator, frame.channels)
        drawn = zip(factor.tolist(), changed.tolist(), strict=True)
        factors = [[part if taken and fine else 1.0 for fine in frame.fine] for part, taken in drawn]
        return {"factor": torch.from_numpy(np.array(factors, np.float32))}

    def change(self, sample: Tensor, parameters: Parameters) -> bool:
        factors = parameters["factor"].tolist()
        return coarsen(sample, [_size(sample.shape[1:], factor) for factor in factors])

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        if bool((parameters["factor"] == 1).all()):
            return image
        changed = torch.empty_like(image, memory_format=torch.contiguous_format)
        for sample, out, factors in zip(image, changed, parameters["factor"].tolist(), strict=True):
            for channel, values, factor in zip(sample, out, factors, strict=True):
                _coarsen(channel, values, factor)
        return changed


def _size(sides: Sequence[int], factor: Sequence[float]) -> list[int]:
    """The sides of the coarser grid."""
    return [max(1, round(side * part)) for side, part in zip(sides, factor, strict=True)]


def _coarsen(channel: Tensor, out: Tensor, factor: list[float]) -> None:
    """Fill `out` with a channel as it looks on a grid that is `factor` times as fine along each axis."""
    size = _size(channel.shape, factor)
    if channel.device.type == "cpu":
        mix(channel[None], [_line(side, new) for side, new in zip(channel.shape, size, strict=True)], out[None])
        return
    coarse = interpolate(channel[None, None], size, mode="nearest-exact")
    out.copy_(interpolate(coarse, channel.shape, mode=LINEAR[channel.ndim])[0, 0])


@cache
def _line(side: int, size: int) -> Line | None:
    """Between which voxels of the fine grid each of them lies, when only those nearest to a coarser grid of `size` are left."""
    if size == side:
        return None
    left = ((torch.arange(size).double() + 0.5) * side / size).long()
    line = Line.of((torch.arange(side).double() + 0.5) * size / side - 0.5, size)
    return Line(left[line.low], left[line.high], line.share)
