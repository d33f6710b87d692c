"""Gaussian noise, independent in each voxel and channel; the deviation is one for the sample, uniform from 0.

As nnU-Net, which names its limit a variance and uses it as a deviation; ours does not repeat one noise in all channels.
"""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Intensity, Parameters
from vesalius.augment._random import per_channel, seed, uniform
from vesalius.core.card import Card

CARD = Card(entry="Noise", title="Gaussian noise", summary="White noise of a random deviation.", tags=("intensity",))


class Noise(Intensity):
    """Deviations uniform up to `largest`, in units of the normalised image."""

    order: ClassVar[int] = 20

    def __init__(self, largest: float, *, probability: float = 0.1) -> None:
        self.largest = largest
        self.probability = probability

    @classmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        if not settings.noise_probability or not settings.noise:
            return None
        return cls(settings.noise, probability=settings.noise_probability)

    @classmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        return {"noise_probability": 1.0}

    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        return {"deviation": uniform(generator, (0.0, self.largest)), "seed": seed(generator)}

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        noise = torch.empty_like(image, memory_format=torch.contiguous_format)
        for values, number in zip(noise, parameters["seed"].tolist(), strict=True):
            values.normal_(generator=torch.Generator(image.device).manual_seed(number))
        return noise.mul_(per_channel(parameters["deviation"], image)).add_(image)
