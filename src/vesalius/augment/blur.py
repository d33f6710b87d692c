"""Gaussian blur of some channels, another width along each axis, one axis after the other."""

import math
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Intensity, Parameters
from vesalius.augment._grey import blur
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
        sigma = uniform(generator, self.bounds, frame.channels, frame.ndim)
        numbers = sigma.numpy()
        numbers *= touched[:, None]
        return {"sigma": sigma}

    def change(self, sample: Tensor, parameters: Parameters) -> bool:
        return blur(sample, parameters["sigma"], radius=self.radius)

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        sigma = parameters["sigma"]
        if not bool(sigma.any()):
            return image
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
