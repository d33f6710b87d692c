"""Augmentation: one transform per file; parameters are drawn once per sample, recorded, and applied by kind.

Spatial transforms never touch pixels: each gives a matrix or a displacement, and all are composed into one resampling
(`Composed`). Coordinates are millimetre-like: voxel index times relative spacing (the finest is 1), origin at the centre
of the patch.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, final

import torch
from pydantic import AfterValidator, Field, NonNegativeFloat
from torch import Tensor

from vesalius.core.settings import Settings
from vesalius.core.shelf import Shelf

if TYPE_CHECKING:
    from vesalius.augment._compose import Composed as Composed

AUGMENT = Shelf("augment")
Parameters = dict[str, Tensor]
COARSE = 3.0  # an axis is coarse when its spacing is more than this many times the finest (nnU-Net's threshold)


Chance = Annotated[float, Field(ge=0, le=1)]


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if not 0 < bounds[0] <= bounds[1]:
        raise ValueError("expected (low, high) with 0 < low <= high")
    return bounds


Bounds = Annotated[tuple[float, float], AfterValidator(_ordered)]


class Augment(Settings):
    """What is drawn, how often and how far. Angles in degrees, scales as factors, noise in units of the normalised image.

    The figures are nnU-Net's (nnUNetTrainer.py, version 2); what it leaves out stands at probability 0."""

    mirror: tuple[bool, ...] = ()  # may this axis be mirrored?
    rotation: tuple[float, ...] = ()  # largest angle about each axis (one number in 2D)
    rotation_probability: Chance = 0.2
    scale: Bounds = (0.7, 1.4)  # above 1 the patch sees more and things look smaller
    scale_probability: Chance = 0.2
    translation: NonNegativeFloat = 0.0  # largest shift as a fraction of the patch side
    translation_probability: Chance = 0.0
    elastic: NonNegativeFloat = 0.0  # largest displacement in voxels of the finest axis
    elastic_probability: Chance = 0.0
    outside: Literal["zeros", "border"] = "zeros"  # what an image holds beyond its source; masks hold 0 there
    bias_field: NonNegativeFloat = 0.0  # largest |log| of a coil's smooth gain, MR only
    bias_field_probability: Chance = 0.0
    noise: NonNegativeFloat = 0.1  # largest standard deviation (nnU-Net calls it variance and uses it as a deviation)
    noise_probability: Chance = 0.1
    blur: Bounds = (0.5, 1.0)
    blur_probability: Chance = 0.2
    brightness: Bounds = (0.75, 1.25)
    brightness_probability: Chance = 0.15
    contrast: Bounds = (0.75, 1.25)
    contrast_probability: Chance = 0.15
    low_resolution: Bounds = (0.5, 1.0)
    low_resolution_probability: Chance = 0.25
    gamma: Bounds = (0.7, 1.5)
    gamma_probability: Chance = 0.3
    gamma_inverted_probability: Chance = 0.1
    channel_dropout_probability: Chance = 0.0  # a whole channel set to 0, so that a missing one can be borne
    mixup: NonNegativeFloat = 0.0  # whole cases alone: a of the Beta(a, a) by whose draw two cases are blended; 0 blends none
    cutmix: NonNegativeFloat = 0.0  # the same for a box of one case in another
    mixing_probability: Chance = 1.0  # of a batch, where either is on
    further: dict[str, dict[str, Any]] = Field(default_factory=dict)  # settings of transforms that other packages put on the shelf, by name


@dataclass(frozen=True)
class Frame:
    """What a transform knows of a sample before it draws: channels, sides of the patch, relative spacing (finest 1)."""

    channels: int
    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.shape)

    @property
    def fine(self) -> tuple[bool, ...]:
        """Which axes are sampled finely enough to mix with the others."""
        return tuple(step <= COARSE * min(self.spacing) for step in self.spacing)


class Transform(ABC):
    """One change with its probability; `order` is its place among the transforms of its sort, smallest first."""

    probability: float
    order: ClassVar[int]

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        """The transform that `settings` ask for, or None where they ask for none."""

    @classmethod
    @abstractmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        """Settings of `Augment` under which it acts on every sample; the contract suite uses them."""

    @abstractmethod
    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        """Parameters of one sample on which the transform acts, on the CPU; same names and shapes at each call."""

    @final
    def draw(self, generator: torch.Generator, frame: Frame) -> Parameters | None:
        """Parameters of one sample; None (the identity) with probability 1 - `probability`."""
        acts = float(torch.rand((), generator=generator)) < self.probability
        return self.parameters(generator, frame) if acts else None


class Spatial(Transform):
    """A change of places."""

    @abstractmethod
    def matrix(self, parameters: Parameters, frame: Frame) -> Tensor:
        """Homogeneous float64 (B, n + 1, n + 1) that takes output to input coordinates, from stacked parameters."""

    def rows(self, parameters: Parameters, frame: Frame) -> list[list[float]]:
        """The rows of the matrix of one sample, from its own parameters; where there is a quicker way to them than `matrix`, that."""
        found: list[list[float]] = self.matrix(stacked([parameters]), frame)[0].tolist()
        return found

    def displacement(self, parameters: Parameters, frame: Frame) -> Tensor | None:
        """(B, n, *S) added after the matrix, in units of the finest voxel; None where there is none."""
        return None

    def reach(self, frame: Frame) -> float:
        """Largest component of any displacement, in units of the finest voxel."""
        return 0.0


class Intensity(Transform):
    """A change of values."""

    @abstractmethod
    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        """What becomes of `image` (B, C, *S), float32 or float64, under parameters stacked along B. `image` stays as it is."""

    def change(self, sample: Tensor, parameters: Parameters) -> bool:
        """Change one `sample` (C, *S), float32 on the CPU, where it lies, to what `apply` makes of it under its own parameters, and say so;
        False, with `sample` as it is, where there is no quicker way than `apply`."""
        return False


def stacked(draws: list[Parameters], device: torch.device | None = None) -> Parameters:
    """Parameters of several samples, each stacked along a first axis B and put on `device`."""
    if len(draws) == 1:
        return {name: value[None].to(device) for name, value in draws[0].items()}
    return {name: torch.stack([draw[name] for draw in draws]).to(device) for name in draws[0]}


def __getattr__(name: str) -> Any:
    if name != "Composed":
        raise AttributeError(f"module 'vesalius.augment' has no attribute {name!r}")
    from vesalius.augment._compose import Composed

    return Composed
