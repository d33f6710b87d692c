"""AlexNet (Krizhevsky, Sutskever & Hinton 2012; in one tower as Krizhevsky 2014, arXiv:1404.5997), 2D and 3D.

The count on the card is that of the single tower of the second paper as it is commonly built: without local response normalisation.
Ours offers batch normalisation (none was published), a stem for small images, and linear layers of another width.
"""

from typing import Literal

from torch import nn

from vesalius.core.card import Card
from vesalius.nets._blocks import CONV
from vesalius.nets._chance import Dropout
from vesalius.nets._classifier_blocks import GRID_POOL, MAX_POOL, Gridded, activated, choose, scaled

CARD = Card(
    entry="AlexNet", title="AlexNet", tasks=("classify",),
    summary="Five convolutions and three linear layers.",
    paper="Krizhevsky, Sutskever & Hinton 2012, NeurIPS; Krizhevsky 2014, arXiv:1404.5997",
    facts={"parameters": 61100840, "arguments": {"ndim": 2, "in_channels": 3, "out_channels": 1000, "norm": "none"},
           "small": {"stem": "small", "scale": 0.0625, "hidden": 16}, "volumes": {"hidden": 512}},
)  # fmt: skip

STEMS = {"published": (11, 4, 2, 63), "small": (3, 1, 1, 15)}  # kernel, stride, padding, shortest side
WIDTHS = (64, 192, 384, 256, 256)
KERNELS = (0, 5, 3, 3, 3)
POOLED = (0, 1, 4)  # convolutions followed by a max pool
GRID = 6  # maps are brought to this many voxels per side before the linear layers


class AlexNet(Gridded):
    """Every width times `scale`; two linear layers of `hidden` features with `dropout`; batch normalisation unless `norm` is "none"."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, norm: Literal["batch", "none"] = "batch",
                 stem: Literal["published", "small"] = "published", scale: float = 1.0, hidden: int = 4096, dropout: float = 0.5) -> None:
        kernel, stride, padding, least = choose(STEMS, stem, "stem")
        super().__init__(ndim, in_channels, out_channels, least=least, each=True)
        layers: list[nn.Module] = []
        entry = in_channels
        for number, (width, size) in enumerate(zip([scaled(w, scale) for w in WIDTHS], KERNELS, strict=True)):
            layers += [CONV[ndim](entry, width, size, 1, size // 2) if number else CONV[ndim](entry, width, kernel, stride, padding)]
            layers += activated(ndim, width, norm)
            layers += [MAX_POOL[ndim](3, 2)] if number in POOLED else []
            entry = width
        self.features = nn.Sequential(*layers)
        self.pool = GRID_POOL[ndim](GRID)
        sizes = [(entry * GRID**ndim, hidden), (hidden, hidden)]
        linear = [layer for a, b in sizes for layer in (Dropout(dropout), nn.Linear(a, b), nn.ReLU(inplace=True))]
        self.head = nn.Sequential(*linear, nn.Linear(hidden, out_channels))
