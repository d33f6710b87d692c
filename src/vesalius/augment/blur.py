"""Gaussian blur of some channels, another width along each axis, one axis after the other."""

import math
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Intensity, Parameters
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
        for axis, widths in enumerate(sigma.unbind(-1), start=2):
            image = blurred(image, widths, axis=axis, radius=self.radius)
        return image


def blurred(image: Tensor, sigma: Tensor, *, axis: int, radius: int) -> Tensor:
    """`image` (B, C, *S) convolved along `axis` with a Gaussian of `sigma` (B, C) voxels, cut at `radius`; edges repeat."""
    steps = torch.arange(radius + 1, device=image.device)
    half = torch.exp(-0.5 * (steps / sigma[..., None].clamp(min=1e-3)).square())
    weights = (half / (2 * half.sum(-1, keepdim=True) - 1)).unbind(-1)
    side = image.shape[axis]
    wide = image.index_select(axis, torch.arange(-radius, side + radius, device=image.device).clamp(0, side - 1))
    total = image * per_channel(weights[0], image)
    for step in range(1, radius + 1):
        pair = wide.narrow(axis, radius - step, side) + wide.narrow(axis, radius + step, side)
        total.addcmul_(pair, per_channel(weights[step], image))
    return total
