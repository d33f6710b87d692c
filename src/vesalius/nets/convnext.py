"""ConvNeXt: a plain convolutional network in the manner of transformers (Liu et al. 2022, arXiv:2201.03545), 2D and 3D.

Ours offers a stem for small images: a 3-convolution that keeps the size in place of patches of 4.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.nets._blocks import CONV
from vesalius.nets._chance import DropPath, drop_rates
from vesalius.nets._classifier_blocks import Mean, Staged, choose, plain, scaled

CARD = Card(
    entry="ConvNeXt", title="ConvNeXt", tasks=("classify",),
    summary="Depthwise 7-convolutions, layer normalisation, few activations; T, S, B or L.",
    paper="Liu et al. 2022, arXiv:2201.03545",
    facts={"parameters": 28589128, "arguments": {"ndim": 2, "in_channels": 3, "out_channels": 1000, "size": "T"},
           "small": {"size": "T", "stem": "small", "scale": 0.0625}},
)  # fmt: skip

# Blocks per stage, width of the first stage (each later one is twice as wide), rate of stochastic depth at the last block.
SIZES = {"T": ((3, 3, 9, 3), 96, 0.1), "S": ((3, 3, 27, 3), 96, 0.4), "B": ((3, 3, 27, 3), 128, 0.5), "L": ((3, 3, 27, 3), 192, 0.5)}
STEMS = {"published": 32, "small": 8}  # by how much each side shrinks
EPS = 1e-6
LAYER_SCALE = 1e-6  # what the branches are weighed with at first


class MapNorm(nn.LayerNorm):
    """Layer normalisation over the features of maps (B, F, *s)."""

    def __init__(self, features: int) -> None:
        super().__init__(features, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    """x + scale * branch(x): a depthwise 7-convolution, layer normalisation, then per voxel four times the width, GELU, and back."""

    def __init__(self, ndim: int, width: int, rate: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.depthwise = plain(ndim, (width, width), 7, groups=width)
        self.pointwise = nn.Sequential(nn.LayerNorm(width, eps=EPS), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = DropPath(rate)

    def draw(self, generator: torch.Generator) -> None:
        """At first the branches weigh next to nothing."""
        nn.init.constant_(self.scale, LAYER_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.scale * self.pointwise(self.depthwise(x).movedim(1, -1))
        out: Tensor = x + self.drop(branch.movedim(-1, 1))
        return out


class ConvNeXt(Staged):
    """The published `size`, every width times `scale`."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, size: Literal["T", "S", "B", "L"] = "T",
                 stem: Literal["published", "small"] = "published", scale: float = 1.0) -> None:
        super().__init__(ndim, in_channels, out_channels, least=choose(STEMS, stem, "stem"), each=True)
        counts, base, last = choose(SIZES, size, "size of a ConvNeXt")
        rates, width = iter(drop_rates(last, sum(counts))), scaled(base, scale)
        first = CONV[ndim](in_channels, width, 4, 4) if stem == "published" else plain(ndim, (in_channels, width), 3)
        stages = [nn.Sequential(first, MapNorm(width))]
        for number, count in enumerate(counts):
            if number:
                stages.append(nn.Sequential(MapNorm(width), CONV[ndim](width, 2 * width, 2, 2)))
                width *= 2
            stages.append(nn.Sequential(*(Block(ndim, width, next(rates)) for _ in range(count))))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(Mean(), nn.LayerNorm(width, eps=EPS), nn.Linear(width, out_channels))

    def draw(self, generator: torch.Generator) -> None:
        """Convolutions as linear layers, from a normal of standard deviation .02 cut at two of them, as published."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04, generator=generator)
