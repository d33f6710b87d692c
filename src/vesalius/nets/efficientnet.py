"""EfficientNet B0 to B7 (Tan & Le 2019, arXiv:1905.11946), 2D and 3D.

Ours pads both sides alike (the authors' code pads as TensorFlow does) and offers a stem of stride 1 for small images.
"""

from math import ceil
from typing import Literal

from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.nets._chance import DropPath, drop_rates
from vesalius.nets._classifier_blocks import ConvNorm, Featured, Head, SqueezeExcitation, choose, divisible

CARD = Card(
    entry="EfficientNet", title="EfficientNet", tasks=("classify",),
    summary="Depthwise convolutions with squeeze and excitation, depth and width scaled together; B0 to B7.",
    paper="Tan & Le 2019, arXiv:1905.11946",
    facts={"parameters": 5288548, "arguments": {"ndim": 2, "in_channels": 3, "out_channels": 1000, "size": "B0"},
           "small": {"size": "B0", "stem": "small", "scale": 0.125}},
)  # fmt: skip

# Width and depth multipliers and dropout of each size; image sides they were published for: 224, 240, 260, 300, 380, 456, 528, 600.
SIZES = {"B0": (1.0, 1.0, 0.2), "B1": (1.0, 1.1, 0.2), "B2": (1.1, 1.2, 0.3), "B3": (1.2, 1.4, 0.3),
         "B4": (1.4, 1.8, 0.4), "B5": (1.6, 2.2, 0.4), "B6": (1.8, 2.6, 0.5), "B7": (2.0, 3.1, 0.5)}  # fmt: skip
# Table 1 of the paper: expansion, kernel, stride of the first, width, repetitions.
STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1))
STEMS = {"published": 32, "small": 16}  # by how much each side shrinks
SURVIVAL = 0.2  # the last block is dropped with this rate, earlier ones less
EPS = 1e-3


def conv(ndim: int, channels: tuple[int, int], kernel: int, *, stride: int = 1, groups: int = 1) -> ConvNorm:
    """Convolution, batch normalisation, SiLU."""
    return ConvNorm(ndim, channels, kernel, stride=stride, groups=groups, eps=EPS, activation=nn.SiLU(inplace=True))


class MBConv(nn.Module):
    """Expand, filter every map by itself, squeeze and excite, project; a shortcut, its branch dropped at `rate`, where sizes agree."""

    def __init__(self, ndim: int, channels: tuple[int, int], *, kernel: int, stride: int, expansion: int, rate: float) -> None:
        super().__init__()
        entry, out = channels
        middle = entry * expansion
        expand = [conv(ndim, (entry, middle), 1)] if expansion > 1 else []
        gate = SqueezeExcitation(middle, max(1, entry // 4), nn.SiLU(inplace=True))
        filtered = conv(ndim, (middle, middle), kernel, stride=stride, groups=middle)
        self.layers = nn.Sequential(*expand, filtered, gate, ConvNorm(ndim, (middle, out), 1, eps=EPS))
        self.drop = DropPath(rate) if stride == 1 and entry == out else None

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + self.drop(out) if self.drop is not None else out


class EfficientNet(Featured):
    """The published `size`, every width times `scale` besides."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *,
                 size: Literal["B0", "B1", "B2", "B3", "B4", "B5", "B6", "B7"] = "B0",
                 stem: Literal["published", "small"] = "published", scale: float = 1.0) -> None:  # fmt: skip
        super().__init__(ndim, in_channels, out_channels, least=choose(STEMS, stem, "stem"))
        wider, deeper, dropout = choose(SIZES, size, "size of an EfficientNet")
        wider *= scale
        counts = [ceil(count * deeper) for *_, count in STAGES]
        rates = iter(drop_rates(SURVIVAL, sum(counts)))
        entry = divisible(32 * wider)
        layers: list[nn.Module] = [conv(ndim, (in_channels, entry), 3, stride=2 if stem == "published" else 1)]
        for (expansion, kernel, first, base, _), count in zip(STAGES, counts, strict=True):
            width = divisible(base * wider)
            for k in range(count):
                stride = 1 if k else first
                layers.append(MBConv(ndim, (entry, width), kernel=kernel, stride=stride, expansion=expansion, rate=next(rates)))
                entry = width
        self.features = nn.Sequential(*layers, conv(ndim, (entry, 4 * entry), 1))
        self.head = Head(4 * entry, out_channels, dropout)
