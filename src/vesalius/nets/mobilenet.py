"""MobileNet, version 2: inverted residuals with linear bottlenecks (Sandler et al. 2018, arXiv:1801.04381), 2D and 3D.

Ours offers a stem of stride 1 for small images.
"""

from typing import Literal

from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.nets._classifier_blocks import ConvNorm, Featured, Head, choose, divisible

CARD = Card(
    entry="MobileNet", title="MobileNet v2", tasks=("classify",),
    summary="Thin ends, wide depthwise middle, a shortcut between the thin ends.",
    paper="Sandler et al. 2018, arXiv:1801.04381",
    facts={"parameters": 3504872, "arguments": {"ndim": 2, "in_channels": 3, "out_channels": 1000},
           "small": {"stem": "small", "scale": 0.25}},
)  # fmt: skip

# Table 2 of the paper: expansion, width, repetitions, stride of the first.
BOTTLENECKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEMS = {"published": 32, "small": 16}  # by how much each side shrinks


def conv(ndim: int, channels: tuple[int, int], kernel: int, *, stride: int = 1, groups: int = 1) -> ConvNorm:
    """Convolution, batch normalisation, a rectifier that is cut at 6."""
    return ConvNorm(ndim, channels, kernel, stride=stride, groups=groups, activation=nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Expand by a 1-convolution, filter every map by itself, project without an activation; a shortcut where nothing changes size."""

    def __init__(self, ndim: int, channels: tuple[int, int], *, expansion: int, stride: int) -> None:
        super().__init__()
        middle = channels[0] * expansion
        expand = [conv(ndim, (channels[0], middle), 1)] if expansion > 1 else []
        filtered = conv(ndim, (middle, middle), 3, stride=stride, groups=middle)
        self.layers = nn.Sequential(*expand, filtered, ConvNorm(ndim, (middle, channels[1]), 1))
        self.same = stride == 1 and channels[0] == channels[1]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.same else out


class MobileNet(Featured):
    """Every width times `scale` (the paper's width multiplier), as a multiple of 8; the last layer never below 1280."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, stem: Literal["published", "small"] = "published",
                 scale: float = 1.0, dropout: float = 0.2) -> None:
        super().__init__(ndim, in_channels, out_channels, least=choose(STEMS, stem, "stem"))
        entry, last = divisible(32 * scale), divisible(1280 * max(1.0, scale))
        layers: list[nn.Module] = [conv(ndim, (in_channels, entry), 3, stride=2 if stem == "published" else 1)]
        for expansion, base, count, first in BOTTLENECKS:
            width = divisible(base * scale)
            for k in range(count):
                layers.append(InvertedResidual(ndim, (entry, width), expansion=expansion, stride=1 if k else first))
                entry = width
        self.features = nn.Sequential(*layers, conv(ndim, (entry, last), 1))
        self.head = Head(last, out_channels, dropout)
