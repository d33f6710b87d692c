"""A perceptron of layers of sigmoid units: what layers that were learned one upon the other without labels become when they are taught.

Hinton & Salakhutdinov 2006 (Science 313) taught 784-500-500-2000-10 so. Ours takes any number of channels and axes, and brings images of
other sides onto the grid that it was made for.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.core.errors import UsageError, VesaliusError

CARD = Card(
    entry="Perceptron", title="Multilayer perceptron", paper="Hinton & Salakhutdinov 2006, Science 313", tasks=("classify",),
    summary="Dense layers of sigmoid units: to go on from a deep belief network or stacked autoencoder.",
    facts={"parameters": 1665010, "arguments": {"ndim": 2, "in_channels": 1, "out_channels": 10},
           "small": {"sides": 8, "units": (12, 6)}},
)  # fmt: skip
LINEAR = {2: "bilinear", 3: "trilinear"}


class Perceptron(nn.Module):
    """`units` of each layer above the pixels of images with `sides` (per axis or one for all)."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, sides: int | Sequence[int] = 28,
                 units: Sequence[int] = (500, 500, 2000)) -> None:
        super().__init__()
        grid = (sides,) * ndim if isinstance(sides, int) else tuple(sides)
        if ndim not in LINEAR or len(grid) != ndim or not units or min(in_channels, out_channels, *units, *grid) < 1:
            raise UsageError("A perceptron needs 2 or 3 axes, a side for each, at least one channel at both ends and one layer of units; "
                             f"got ndim {ndim}, sides {sides}, channels {in_channels}, {out_channels}, units {tuple(units)}.")  # fmt: skip
        self.ndim, self.in_channels, self.sides = ndim, in_channels, grid
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise((in_channels * prod(grid), *units)))
        self.answer = nn.Linear(units[-1], out_channels)

    def trunk(self, image: Tensor) -> Tensor:
        """The last layer as maps (B, F, 1 ...): it has no places."""
        if image.ndim != self.ndim + 2 or image.shape[1] != self.in_channels or max(image.shape[2:]) < 2:
            raise VesaliusError(f"The network expects (B, C, *S) with {self.in_channels} channels and {self.ndim} sides, one of at least "
                                f"2 pixels; got {tuple(image.shape)}. Change patch.size or preparation.channels.")  # fmt: skip
        if tuple(image.shape[2:]) != self.sides:
            image = F.interpolate(image, self.sides, mode=LINEAR[self.ndim], align_corners=False)
        now = image.flatten(1)
        for layer in self.layers:
            now = torch.sigmoid(layer(now))
        return now.reshape(*now.shape, *(1,) * self.ndim)

    def classify(self, maps: Tensor) -> Tensor:
        """Logits (B, K)."""
        logits: Tensor = self.answer(maps.flatten(1))
        return logits

    def heads(self, image: Tensor) -> list[Tensor]:
        """The logits; there are no auxiliary ones."""
        return [self(image)]

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.trunk(image))
