"""Multiplicative brightness: each channel times its own factor."""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Intensity, Parameters
from vesalius.augment._grey import scale
from vesalius.augment._random import about_one, per_channel
from vesalius.core.card import Card

CARD = Card(entry="Brightness", title="brightness", summary="Each channel times a factor about 1.", tags=("intensity",))


class Brightness(Intensity):
    """Factors between the bounds, below 1 as often as above."""

    order: ClassVar[int] = 40

    def __init__(self, bounds: tuple[float, float], *, probability: float = 0.15) -> None:
        self.bounds = bounds
        self.probability = probability

    @classmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        if not settings.brightness_probability:
            return None
        return cls(settings.brightness, probability=settings.brightness_probability)

    @classmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        return {"brightness_probability": 1.0}

    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        return {"factor": about_one(generator, self.bounds, frame.channels)}

    def change(self, sample: Tensor, parameters: Parameters) -> bool:
        return scale(sample, parameters["factor"])

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        return image * per_channel(parameters["factor"], image)
