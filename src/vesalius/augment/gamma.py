"""Gamma: each channel, scaled to its range, to a power; mean and deviation are kept."""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Intensity, Parameters
from vesalius.augment._gamma import gamma_curve
from vesalius.augment._grey import gamma
from vesalius.augment._random import about_one
from vesalius.core.card import Card

CARD = Card(entry="Gamma", title="gamma", summary="A power of the scaled values, mean and deviation kept.", tags=("intensity",))


class Gamma(Intensity):
    """Powers between the bounds, below 1 as often as above, one for each channel."""

    order: ClassVar[int] = 80

    def __init__(self, bounds: tuple[float, float], *, probability: float = 0.3) -> None:
        self.bounds = bounds
        self.probability = probability

    @classmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        if not settings.gamma_probability:
            return None
        return cls(settings.gamma, probability=settings.gamma_probability)

    @classmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        return {"gamma_probability": 1.0}

    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        return {"gamma": about_one(generator, self.bounds, frame.channels)}

    def change(self, sample: Tensor, parameters: Parameters) -> bool:
        return gamma(sample, parameters["gamma"], inverted=False)

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        return gamma_curve(image, parameters["gamma"])
