"""Scaling by one factor for all fine axes; coarse axes stay, for there is nothing between their slices to show."""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Parameters, Spatial
from vesalius.augment._homogeneous import Rows, diagonal, together
from vesalius.augment._random import uniform
from vesalius.core.card import Card

CARD = Card(entry="Scale", title="scaling", summary="One factor for all finely sampled axes.", tags=("spatial",))


class Scale(Spatial):
    """Factors between the bounds, uniform; above 1 the patch sees more of the scene and things look smaller."""

    order: ClassVar[int] = 20

    def __init__(self, bounds: tuple[float, float], *, probability: float = 0.2) -> None:
        self.bounds = bounds
        self.probability = probability

    @classmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        if not settings.scale_probability or settings.scale == (1.0, 1.0):
            return None
        return cls(settings.scale, probability=settings.scale_probability)

    @classmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        return {"scale": (0.8, 1.2), "scale_probability": 1.0}

    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        return {"factor": uniform(generator, self.bounds)}

    def matrix(self, parameters: Parameters, frame: Frame) -> Tensor:
        return together(self, parameters, frame)

    def rows(self, parameters: Parameters, frame: Frame) -> Rows:
        factor = float(parameters["factor"])
        return diagonal([factor if fine else 1.0 for fine in frame.fine])
