"""Rotation about the centre of the patch, in millimetres, so that an anisotropic grid does not shear what it shows.

Angles are uniform about each axis up to its own limit; 0 leaves an axis out (a coarse patch turns about its coarse axis
only). Coordinates turn by the product of the rotations in the order of the axes, so the image turns the other way.
"""

import math
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Parameters, Spatial
from vesalius.augment._homogeneous import Rows, diagonal, together
from vesalius.core.card import Card
from vesalius.core.errors import UsageError

CARD = Card(entry="Rotation", title="rotation", summary="Rotation about each axis, in millimetres.", tags=("spatial",))
PLANES = {2: ((0, 1),), 3: ((1, 2), (2, 0), (0, 1))}  # the two axes that turn about each axis


class Rotation(Spatial):
    """`degrees[i]` is the largest angle about axis i; one number in 2D."""

    order: ClassVar[int] = 30

    def __init__(self, degrees: tuple[float, ...], *, probability: float = 0.2) -> None:
        self.degrees = degrees
        self.radians = np.radians(np.array(degrees, np.float32))
        self.probability = probability

    @classmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        if not any(settings.rotation) or not settings.rotation_probability:
            return None
        wanted = len(PLANES[frame.ndim])
        if len(settings.rotation) != wanted:
            raise UsageError(f"Expected augment.rotation with {wanted} angles in {frame.ndim}D; got {settings.rotation}.")
        return cls(settings.rotation, probability=settings.rotation_probability)

    @classmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        return {"rotation": (20.0, 15.0, 10.0) if ndim == 3 else (20.0,), "rotation_probability": 1.0}

    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        tossed = torch.rand(len(self.degrees), generator=generator).numpy()
        return {"radians": torch.from_numpy((2 * tossed - 1) * self.radians)}

    def matrix(self, parameters: Parameters, frame: Frame) -> Tensor:
        return together(self, parameters, frame)

    def rows(self, parameters: Parameters, frame: Frame) -> Rows:
        total = diagonal((1.0,) * frame.ndim)
        for angle, (i, j) in zip(parameters["radians"].tolist(), PLANES[frame.ndim], strict=True):
            cosine, sine = math.cos(angle), math.sin(angle)
            for row in total:  # a rotation mixes two columns of the product of those before it
                row[i], row[j] = row[i] * cosine + row[j] * sine, row[j] * cosine - row[i] * sine
        return total
