"""Gaussian blur of some channels, another width along each axis, one axis after the other."""

import math
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vesalius.augment import Augment, Frame, Intensity, Parameters
from vesalius.augment._lines import SHORT, multiplied
from vesalius.augment._random import per_channel, some_channels, uniform
from vesalius.core.card import Card

CARD = Card(entry="Blur", title="Gaussian blur", summary="Separable Gaussian blur of every other channel.", tags=("intensity",))


class Blur(Intensity):
    """Widths (sigma, in voxels) uniform between the bounds; each channel is blurred with probability one half."""

    order: ClassVar[int] = 30

    def __init__(self, bounds: tuple[float, float], *, probability: float = 0.2) -> None:
        self.bounds = bounds
        self.probability = probability
        self.radius = math.ceil(3 * bounds[1])

    @classmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        if not settings.blur_probability:
            return None
        return cls(settings.blur, probability=settings.blur_probability)

    @classmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        return {"blur_probability": 1.0}

    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        touched = some_channels(generator, frame.channels)
        return {"sigma": touched[:, None] * uniform(generator, self.bounds, frame.channels, frame.ndim)}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        sigma = parameters["sigma"]
        if not bool(sigma.any()):
            return image
        if image.device.type == "cpu" and max(image.shape[2:]) <= SHORT:
            return _multiplied(image, sigma, self.radius)
        for axis, widths in enumerate(sigma.unbind(-1), start=2):
            image = blurred(image, widths, axis=axis, radius=self.radius)
        return image


def blurred(image: Tensor, sigma: Tensor, *, axis: int, radius: int) -> Tensor:
    """`image` (B, C, *S) convolved along `axis` with a Gaussian of `sigma` (B, C) voxels, cut at `radius`; edges repeat."""
    steps = torch.arange(radius + 1, device=image.device)
    half = torch.exp(-0.5 * (steps / sigma[..., None].clamp(min=1e-3)).square())
    weights = half / (2 * half.sum(-1, keepdim=True) - 1)
    if image.device.type != "cpu":
        return _weighed(image, [per_channel(weight, image) for weight in weights.unbind(-1)], axis)
    made = torch.empty_like(image)
    for sample, out, rows in zip(image, made, weights.tolist(), strict=True):
        for channel, values, numbers in zip(sample, out, rows, strict=True):
            _add_neighbours(channel, values, numbers, axis=axis - 2)
    return made


def _multiplied(image: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """`image` (B, C, *S) convolved along all axes with widths `sigma` (B, C, n) by products with matrices."""
    made = torch.empty_like(image, memory_format=torch.contiguous_format)
    half = np.exp(-0.5 * np.square(np.arange(radius + 1) / np.maximum(sigma.double().numpy(), 1e-3)[..., None]))
    weights = half / (2 * half.sum(-1, keepdims=True) - 1)
    for channel, out, rows in zip(image.flatten(0, 1), made.flatten(0, 1), weights.reshape(-1, *weights.shape[2:]), strict=True):
        ways = [torch.from_numpy(np.tensordot(row, _beside(side, radius), axes=1)) for row, side in zip(rows, channel.shape, strict=True)]
        out.copy_(multiplied(channel, [way.to(channel.dtype) for way in ways]))
    return made


@cache
def _beside(side: int, radius: int) -> NDArray[np.float64]:
    """(radius + 1, side, side): which voxel is how far from which along a side whose ends repeat, and on how many sides."""
    made, voxels = np.zeros((radius + 1, side, side)), np.arange(side)
    made[0, voxels, voxels] = 1
    for step in range(1, radius + 1):
        for other in (voxels - step, voxels + step):
            made[step, voxels, np.clip(other, 0, side - 1)] += 1
    return made


def _weighed(image: Tensor, weights: list[Tensor], axis: int) -> Tensor:
    """The sum of neighbours along `axis`, on both sides alike; `weights` from the middle outwards."""
    side, radius = image.shape[axis], len(weights) - 1
    wide = image.index_select(axis, torch.arange(-radius, side + radius, device=image.device).clamp(0, side - 1))
    total = image * weights[0]
    for step, weight in enumerate(weights[1:], start=1):
        total.addcmul_(wide.narrow(axis, radius - step, side) + wide.narrow(axis, radius + step, side), weight)
    return total


def _add_neighbours(channel: Tensor, out: Tensor, weights: list[float], *, axis: int) -> None:
    """Fill `out` with the same of one channel (*S), whose weights are numbers: nothing is copied on the way."""
    side = channel.shape[axis]
    torch.mul(channel, weights[0], out=out)
    for step, weight in enumerate(weights[1:], start=1):
        inner = max(0, side - step)  # voxels that have such a neighbour
        edge = side - inner
        out.narrow(axis, 0, inner).add_(channel.narrow(axis, edge, inner), alpha=weight)
        out.narrow(axis, edge, inner).add_(channel.narrow(axis, 0, inner), alpha=weight)
        out.narrow(axis, inner, edge).add_(channel.narrow(axis, side - 1, 1), alpha=weight)
        out.narrow(axis, 0, edge).add_(channel.narrow(axis, 0, 1), alpha=weight)
