"""VGG, 11 to 19 layers of small kernels (Simonyan & Zisserman 2015, arXiv:1409.1556), 2D and 3D.

Ours normalises per batch by default (the paper does not), pools what is left of an odd side, and offers a stem for small images that
does not pool after the first stage. In 3D the first linear layer is 7 times as large: choose a smaller `grid`.
"""

from itertools import pairwise
from typing import Literal

from torch import nn

from vesalius.core.card import Card
from vesalius.nets._chance import Dropout
from vesalius.nets._classifier_blocks import GRID_POOL, MAX_POOL, Gridded, activated, choose, plain, scaled

CARD = Card(
    entry="VGG", title="VGG", tasks=("classify",),
    summary="Stacks of 3-convolutions between max pools; 11, 13, 16 or 19 layers.",
    paper="Simonyan & Zisserman 2015, arXiv:1409.1556",
    facts={"parameters": 138357544, "arguments": {"ndim": 2, "in_channels": 3, "out_channels": 1000, "depth": 16, "norm": "none"},
           "small": {"depth": 11, "stem": "small", "scale": 0.0625, "head": (2, 16, 0.5)}, "volumes": {"head": (2, 1024, 0.5)}},
)  # fmt: skip

LAYERS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
STEMS = {"published": 32, "small": 16}  # by how much each side shrinks


class VGG(Gridded):
    """`depth` layers with weights, every width times `scale`.

    `head` is (voxels per side that the maps are brought to, features of the two linear layers, rate of dropout after them).
    """

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, depth: Literal[11, 13, 16, 19] = 16,
                 norm: Literal["batch", "none"] = "batch", stem: Literal["published", "small"] = "published", scale: float = 1.0,
                 head: tuple[int, int, float] = (7, 4096, 0.5)) -> None:
        super().__init__(ndim, in_channels, out_channels, least=choose(STEMS, stem, "stem"))
        widths = [in_channels, *(scaled(width, scale) for width in WIDTHS)]
        layers: list[nn.Module] = []
        for number, (count, (entry, width)) in enumerate(zip(choose(LAYERS, depth, "depth of a VGG"), pairwise(widths), strict=True)):
            for k in range(count):
                layers += [plain(ndim, (width if k else entry, width), 3)]
                layers += activated(ndim, width, norm)
            layers += [MAX_POOL[ndim](2, 2, ceil_mode=True)] if number or stem == "published" else []
        self.features = nn.Sequential(*layers)
        grid, hidden, dropout = head
        self.pool = GRID_POOL[ndim](grid)
        sizes = pairwise((widths[-1] * grid**ndim, hidden, hidden))
        linear = [layer for a, b in sizes for layer in (nn.Linear(a, b), nn.ReLU(inplace=True), Dropout(dropout))]
        self.head = nn.Sequential(*linear, nn.Linear(hidden, out_channels))
