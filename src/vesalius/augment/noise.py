"""Gaussian noise, independent in each voxel and channel; the deviation is one for the sample, uniform from 0.

As nnU-Net, which names its limit a variance and uses it as a deviation; ours does not repeat one noise in all channels.

On a processor each value is one of the 65,536 equally likely parts of the normal distribution, looked up by 16 random bits
(benchmarks/levers.py): no share of the values is further from the normal one than 2^-17, the variance is 1, the largest value 4.3.
"""

from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Intensity, Parameters
from vesalius.augment._grey import noise
from vesalius.augment._random import per_channel, seed, uniform
from vesalius.core.card import Card

CARD = Card(entry="Noise", title="Gaussian noise", summary="White noise of a random deviation.", tags=("intensity",))
RUN = 2**16  # values that are drawn together


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

    def change(self, sample: Tensor, parameters: Parameters) -> bool:
        return noise(sample, quantiles(), seed=int(parameters["seed"]), deviation=float(parameters["deviation"]))

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        noise = torch.empty_like(image, memory_format=torch.contiguous_format)
        if image.device.type == "cpu":
            drawn = zip(parameters["seed"].tolist(), parameters["deviation"].tolist(), strict=True)
            for values, out, (number, deviation) in zip(image, noise, drawn, strict=True):
                _look_up(values.flatten(), out.flatten(), bits=np.random.PCG64(number), deviation=deviation)
            return noise
        for values, number in zip(noise, parameters["seed"].tolist(), strict=True):
            values.normal_(generator=torch.Generator(image.device).manual_seed(number))
        return noise.mul_(per_channel(parameters["deviation"], image)).add_(image)


def _look_up(values: Tensor, out: Tensor, *, bits: np.random.BitGenerator, deviation: float) -> None:
    """Fill flat `out` with `values` and `deviation` times normal numbers, four from each 64 random bits, run by run."""
    table = quantiles().to(out.dtype)
    for part, now in zip(torch.split(values, RUN), torch.split(out, RUN), strict=True):
        words = torch.from_numpy(bits.random_raw(-(-len(now) // 4)).view(np.uint16)[: len(now)])
        torch.index_select(table, 0, words.to(torch.int32), out=now)
        torch.add(part, now, alpha=deviation, out=now)


@cache
def quantiles() -> Tensor:
    """The middles of 2^16 equally likely parts of the normal distribution, float32, scaled to a variance of exactly 1."""
    middles: Tensor = torch.special.ndtri((torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16)
    return (middles / middles.square().mean().sqrt()).float()
