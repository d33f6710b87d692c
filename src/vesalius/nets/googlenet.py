"""GoogLeNet, Inception version 1 (Szegedy et al. 2015, arXiv:1409.4842), 2D and 3D.

Ours normalises per batch in place of local response normalisation (Ioffe & Szegedy 2015). The count on the card is that of the network as
torchvision builds it, whose third branch has 3-convolutions (`large=3`); the paper's has 5-convolutions, which is our default.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.nets._chance import Dropout
from vesalius.nets._classifier_blocks import GRID_POOL, MAX_POOL, ConvNorm, Convolutional, Head, choose, scaled

CARD = Card(
    entry="GoogLeNet", title="GoogLeNet (Inception v1)", tasks=("classify",),
    summary="Nine inception modules of four branches, and two auxiliary classifiers.",
    paper="Szegedy et al. 2015, arXiv:1409.4842; Ioffe & Szegedy 2015, arXiv:1502.03167",
    facts={"parameters": 13004888, "arguments": {"ndim": 2, "in_channels": 3, "out_channels": 1000, "large": 3},
           "small": {"stem": "small", "scale": 0.0625}},
)  # fmt: skip

STEMS = {"published": 32, "small": 8}  # by how much each side shrinks
# Table 1 of the paper: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
PARTS = ("3a 3b", "4a", "4b 4c 4d", "4e 5a 5b")  # the auxiliary classifiers look at what the second and third part give
POOLED = {"4a": 3, "5a": 2}  # sizes of the max pools before these modules
EPS = 1e-3


def conv(ndim: int, channels: tuple[int, int], kernel: int, *, stride: int = 1) -> ConvNorm:
    """Convolution, batch normalisation, rectifier."""
    return ConvNorm(ndim, channels, kernel, stride=stride, eps=EPS, activation=nn.ReLU(inplace=True))


class Inception(nn.Module):
    """Four branches side by side: 1x1; 1x1 then 3x3; 1x1 then 5x5; max pool then 1x1."""

    def __init__(self, ndim: int, entry: int, widths: list[int], *, large: int) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = widths
        self.branches = nn.ModuleList([
            conv(ndim, (entry, one), 1),
            nn.Sequential(conv(ndim, (entry, reduce3), 1), conv(ndim, (reduce3, three), 3)),
            nn.Sequential(conv(ndim, (entry, reduce5), 1), conv(ndim, (reduce5, five), large)),
            nn.Sequential(MAX_POOL[ndim](3, 1, 1), conv(ndim, (entry, pool), 1)),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class GoogLeNet(Convolutional):
    """Every width times `scale`; `large` is the kernel of the third branch; dropout before the last layer (.4 in the paper).

    `heads` gives the logits and, with `auxiliary`, those of the two auxiliary classifiers (weighed .3 each in the paper's loss).
    """

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, stem: Literal["published", "small"] = "published",
                 scale: float = 1.0, dropout: float = 0.4, auxiliary: bool = True, large: Literal[3, 5] = 5) -> None:
        super().__init__(ndim, in_channels, out_channels, least=choose(STEMS, stem, "stem"), each=True)
        if large not in (3, 5):
            raise UsageError(f"The third branch has kernels of 3 or 5; got {large}.")
        self.parts, entry = nn.ModuleList(), scaled(192, scale)
        self.auxiliary = nn.ModuleList()
        for number, names in enumerate(PARTS):
            part = nn.Sequential() if number else _stem(ndim, in_channels, scale, published=stem == "published")
            for name in names.split():
                widths = [scaled(width, scale) for width in MODULES[name]]
                if name in POOLED:
                    part.append(MAX_POOL[ndim](POOLED[name], 2, ceil_mode=True))
                part.append(Inception(ndim, entry, widths, large=large))
                entry = widths[0] + widths[2] + widths[4] + widths[5]
            self.parts.append(part)
            if auxiliary and number in (1, 2):
                self.auxiliary.append(_auxiliary(ndim, entry, out_channels, scale=scale))
        self.head = Head(entry, out_channels, dropout)

    def trunk(self, image: Tensor) -> Tensor:
        return self.maps(image)[-1]

    def maps(self, image: Tensor) -> list[Tensor]:
        """What each of the four parts gives."""
        found, x = [], self.admit(image)
        for part in self.parts:
            x = part(x)
            found.append(x)
        return found

    def classify(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.head(maps)
        return logits

    def heads(self, image: Tensor) -> list[Tensor]:
        """The logits, then those of the auxiliary classifiers."""
        found = self.maps(image)
        return [self.classify(found[-1]), *(head(maps) for head, maps in zip(self.auxiliary, found[1:3], strict=False))]


def _stem(ndim: int, in_channels: int, scale: float, *, published: bool) -> nn.Sequential:
    """A 7-convolution of stride 2 and two max pools around two more convolutions; without strides and pools for small images."""
    width, last = scaled(64, scale), scaled(192, scale)
    first = [conv(ndim, (in_channels, width), 3)]
    if published:
        first = [conv(ndim, (in_channels, width), 7, stride=2), MAX_POOL[ndim](3, 2, ceil_mode=True)]
    return nn.Sequential(*first, conv(ndim, (width, width), 1), conv(ndim, (width, last), 3), MAX_POOL[ndim](3, 2, ceil_mode=True))


def _auxiliary(ndim: int, entry: int, out_channels: int, *, scale: float) -> nn.Sequential:
    """Maps of 4 voxels per side, a 1-convolution, two linear layers with dropout of .7 between."""
    width, hidden = scaled(128, scale), scaled(1024, scale)
    linear = nn.Linear(width * 4**ndim, hidden), nn.ReLU(inplace=True), Dropout(0.7), nn.Linear(hidden, out_channels)
    return nn.Sequential(GRID_POOL[ndim](4), conv(ndim, (entry, width), 1), nn.Flatten(), *linear)
