"""Translation by a fraction of the patch, along the finely sampled axes; for whole images, since a cut patch has moved already."""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Parameters, Spatial
from vesalius.augment._random import uniform
from vesalius.core.card import Card

CARD = Card(entry="Translation", title="translation", summary="A shift by a fraction of the patch.", tags=("spatial",))


class Translation(Spatial):
    """Shifts uniform up to `fraction` of each side."""

    order: ClassVar[int] = 40

    def __init__(self, fraction: float, *, probability: float = 0.2) -> None:
        self.fraction = fraction
        self.probability = probability

    @classmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        if not settings.translation_probability or not settings.translation:
            return None
        return cls(settings.translation, probability=settings.translation_probability)

    @classmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        return {"translation": 0.1, "translation_probability": 1.0}

    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        return {"fractions": uniform(generator, (-self.fraction, self.fraction), frame.ndim)}

    def matrix(self, parameters: Parameters, frame: Frame) -> Tensor:
        sides = torch.tensor([p * s if f else 0.0 for p, s, f in zip(frame.shape, frame.spacing, frame.fine, strict=True)])
        fractions = parameters["fractions"].double()
        total = torch.eye(frame.ndim + 1, dtype=torch.float64).repeat(len(fractions), 1, 1)
        total[:, :-1, -1] = fractions * sides
        return total
