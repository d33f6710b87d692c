"""Channel dropout: one channel, chosen at random, is set to 0 (the mean of a normalised image), so that a missing one can be borne."""

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Intensity, Parameters
from vesalius.augment._grey import scale
from vesalius.augment._random import per_channel
from vesalius.core.card import Card

CARD = Card(entry="ChannelDropout", title="channel dropout", summary="One of several channels is set to 0.", tags=("intensity",))


class ChannelDropout(Intensity):
    """Never takes the only channel."""

    order: ClassVar[int] = 100

    def __init__(self, *, probability: float) -> None:
        self.probability = probability

    @classmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        if not settings.channel_dropout_probability:
            return None
        return cls(probability=settings.channel_dropout_probability)

    @classmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        return {"channel_dropout_probability": 1.0}

    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        kept = torch.ones(frame.channels)
        if frame.channels > 1:
            kept[torch.randint(frame.channels, (), generator=generator)] = 0
        return {"kept": kept}

    def change(self, sample: Tensor, parameters: Parameters) -> bool:
        return scale(sample, parameters["kept"])

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        return image * per_channel(parameters["kept"], image)
