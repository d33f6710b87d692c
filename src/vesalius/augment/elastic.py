"""Elastic deformation by a cubic B-spline of random control vectors: smooth, cheap, and never beyond its limit.

Rueckert et al., Nonrigid registration using free-form deformations, IEEE TMI 1999 (the spline); ours draws the vectors.
The basis is a partition of unity, so no displacement component exceeds the largest control component.
"""

from functools import reduce
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Parameters, Spatial
from vesalius.augment._random import uniform
from vesalius.core.card import Card

CARD = Card(
    entry="Elastic",
    title="elastic deformation",
    summary="A smooth random displacement from a coarse grid of cubic B-splines.",
    paper="Rueckert et al., Nonrigid registration using free-form deformations: application to breast MR images, IEEE TMI 1999",
    tags=("spatial",),
)


class Elastic(Spatial):
    """Displacements up to `largest`, in units of the finest voxel; `cells` is the number of spline cells along each axis."""

    order: ClassVar[int] = 10

    def __init__(self, largest: float, *, cells: int = 4, probability: float = 0.2) -> None:
        self.largest = largest
        self.cells = cells
        self.probability = probability

    @classmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        if not settings.elastic_probability or not settings.elastic:
            return None
        return cls(settings.elastic, probability=settings.elastic_probability)

    @classmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        return {"elastic": 2.0, "elastic_probability": 1.0}

    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        amplitude = uniform(generator, (0.0, self.largest))
        vectors = uniform(generator, (-1.0, 1.0), frame.ndim, *(self.cells + 3,) * frame.ndim)
        fine = torch.tensor(frame.fine).reshape(-1, *(1,) * frame.ndim)
        return {"control": amplitude * vectors * fine}

    def matrix(self, parameters: Parameters, frame: Frame) -> Tensor:
        return torch.eye(frame.ndim + 1, dtype=torch.float64).expand(len(parameters["control"]), -1, -1)

    def displacement(self, parameters: Parameters, frame: Frame) -> Tensor:
        control = parameters["control"]
        bases = [cubic_basis(side, self.cells).to(control) for side in frame.shape]
        return reduce(lambda field, basis: torch.tensordot(field, basis, dims=([2], [1])), bases, control)

    def reach(self, frame: Frame) -> float:
        return self.largest


def cubic_basis(side: int, cells: int) -> Tensor:
    """(side, cells + 3): weights of the uniform cubic B-splines at `side` voxels spread over `cells` cells; rows sum to 1."""
    place = (torch.arange(side, dtype=torch.float64) + 0.5) * cells / side
    distance = (place[:, None] - torch.arange(-1, cells + 2)).abs()
    near = 2 / 3 - distance.square() + distance**3 / 2
    far = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)
