"""Densely connected networks (Huang, Liu, van der Maaten & Weinberger 2017, arXiv:1608.06993), 2D and 3D: DenseNet-BC.

Ours pools what is left of an odd side, so that thin volumes pass, and offers a stem for small images.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.nets._classifier_blocks import BATCH, MAX_POOL, ConvNorm, Featured, Halve, Head, choose, plain, scaled

CARD = Card(
    entry="DenseNet", title="DenseNet", tasks=("classify",),
    summary="Every layer sees the maps of all before it; 121, 161, 169 or 201 layers.",
    paper="Huang, Liu, van der Maaten & Weinberger 2017, arXiv:1608.06993",
    facts={"parameters": 7978856, "arguments": {"ndim": 2, "in_channels": 3, "out_channels": 1000, "depth": 121},
           "small": {"depth": 121, "stem": "small", "scale": 0.0625}},
)  # fmt: skip

# Layers per block, growth rate, features of the stem.
DEPTHS = {121: ((6, 12, 24, 16), 32, 64), 161: ((6, 12, 36, 24), 48, 96), 169: ((6, 12, 32, 32), 32, 64), 201: ((6, 12, 48, 32), 32, 64)}
STEMS = {"published": 32, "small": 8}  # by how much each side shrinks
BOTTLENECK = 4  # times the growth rate


def normed(ndim: int, channels: tuple[int, int], kernel: int) -> nn.Sequential:
    """Batch normalisation, rectifier, convolution: in that order."""
    return nn.Sequential(BATCH[ndim](channels[0]), nn.ReLU(inplace=True), plain(ndim, channels, kernel, bias=False))


class DenseLayer(nn.Sequential):
    """`growth` new maps out of `entry`, by a bottleneck of four times as many; they are put beside what came."""

    def __init__(self, ndim: int, entry: int, growth: int) -> None:
        super().__init__(normed(ndim, (entry, BOTTLENECK * growth), 1), normed(ndim, (BOTTLENECK * growth, growth), 3))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for step in self:
            y = step(y)
        return torch.cat((x, y), 1)


class DenseNet(Featured):
    """`depth` layers, growth rate and stem times `scale`; each transition halves the number of maps and their sides."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, depth: Literal[121, 161, 169, 201] = 121,
                 stem: Literal["published", "small"] = "published", scale: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__(ndim, in_channels, out_channels, least=choose(STEMS, stem, "stem"))
        blocks, growth, entry = choose(DEPTHS, depth, "depth of a DenseNet")
        growth, entry = scaled(growth, scale), scaled(entry, scale)
        kernel, stride, pool = (7, 2, MAX_POOL[ndim](3, 2, 1)) if stem == "published" else (3, 1, nn.Identity())
        first = ConvNorm(ndim, (in_channels, entry), kernel, stride=stride, activation=nn.ReLU(inplace=True))
        self.features = nn.Sequential(nn.Sequential(first, pool))
        for number, count in enumerate(blocks):
            self.features.append(nn.Sequential(*(DenseLayer(ndim, entry + k * growth, growth) for k in range(count))))
            entry += count * growth
            if number < len(blocks) - 1:
                self.features.append(nn.Sequential(*normed(ndim, (entry, entry // 2), 1), Halve()))
                entry //= 2
        self.features.append(nn.Sequential(BATCH[ndim](entry), nn.ReLU(inplace=True)))
        self.head = Head(entry, out_channels, dropout)
