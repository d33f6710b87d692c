"""Augmentation: one transform per file; parameters are drawn once per sample, recorded, and applied by kind.

Spatial transforms never touch pixels: each gives a matrix or a displacement, and all are composed into one resampling.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vesalius.core.settings import Settings
from vesalius.core.shelf import Shelf

AUGMENT = Shelf("augment")
Parameters = dict[str, Tensor]


class Transform(ABC):
    """`draw` makes the parameters of one sample; `apply` (intensity) changes one image batch by stacked parameters.
    Every tensor that `draw` returns has the same shape for each call, so that samples stack along a first axis B."""

    probability: float

    @abstractmethod
    def draw(self, generator: torch.Generator, ndim: int) -> Parameters:
        """Parameters of one sample on the CPU; the identity with probability 1 - `probability`."""


class Spatial(Transform):
    """A change of places. Coordinates are millimetre-like: voxel index times relative spacing, origin at the centre."""

    @abstractmethod
    def matrix(self, parameters: Parameters, ndim: int) -> Tensor:
        """(B, n, n) that takes output coordinates to input coordinates; the identity where nothing is linear."""

    def displacement(self, parameters: Parameters, shape: tuple[int, ...]) -> Tensor | None:
        """(B, *shape, n) added after the matrix, in voxels of the output grid; None where there is none."""
        return None


class Intensity(Transform):
    """A change of values."""

    @abstractmethod
    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """`image` (B, C, *S) with per-sample parameters stacked along B; samples whose draw was the identity stay."""


class Augment(Settings):
    """What is drawn, how often and how far. Angles in degrees, scales as factors, noise in units of the normalised image."""

    mirror: tuple[bool, ...] = ()
    rotation: tuple[float, ...] = ()  # largest angle about each axis (one number in 2D)
    rotation_probability: float = 0.2
    scale: tuple[float, float] = (0.7, 1.4)
    scale_probability: float = 0.2
    elastic: float = 0.0  # largest displacement in voxels
    elastic_probability: float = 0.0
    noise: float = 0.1  # largest variance
    noise_probability: float = 0.1
    blur: tuple[float, float] = (0.5, 1.0)
    blur_probability: float = 0.2
    brightness: tuple[float, float] = (0.75, 1.25)
    brightness_probability: float = 0.15
    contrast: tuple[float, float] = (0.75, 1.25)
    contrast_probability: float = 0.15
    low_resolution: tuple[float, float] = (0.5, 1.0)
    low_resolution_probability: float = 0.25
    gamma: tuple[float, float] = (0.7, 1.5)
    gamma_probability: float = 0.3
    gamma_inverted_probability: float = 0.1
    channel_dropout_probability: float = 0.0  # a whole channel set to 0, so that a missing one can be borne
