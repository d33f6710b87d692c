"""Contrast about the mean of each channel, cut to the range that the channel had."""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Intensity, Parameters
from vesalius.augment._grey import contrast
from vesalius.augment._random import about_one, per_channel
from vesalius.core.card import Card

CARD = Card(entry="Contrast", title="contrast", summary="Values drawn to or from the channel's mean, range kept.", tags=("intensity",))


class Contrast(Intensity):
    """Factors between the bounds, below 1 as often as above."""

    order: ClassVar[int] = 50

    def __init__(self, bounds: tuple[float, float], *, probability: float = 0.15) -> None:
        self.bounds = bounds
        self.probability = probability

    @classmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        if not settings.contrast_probability:
            return None
        return cls(settings.contrast, probability=settings.contrast_probability)

    @classmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        return {"contrast_probability": 1.0}

    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        return {"factor": about_one(generator, self.bounds, frame.channels)}

    def change(self, sample: Tensor, parameters: Parameters) -> bool:
        return contrast(sample, parameters["factor"])

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        factor = per_channel(parameters["factor"], image).flatten(2)
        flat = image.flatten(2)
        low, high, mean = flat.amin(-1, keepdim=True), flat.amax(-1, keepdim=True), flat.mean(-1, keepdim=True)
        changed = (flat * factor).add_(mean * (1 - factor))
        torch.maximum(changed, low, out=changed)
        return torch.minimum(changed, high, out=changed).reshape(image.shape)
