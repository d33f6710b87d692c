"""Residual networks of 18 to 152 layers (He, Zhang, Ren & Sun 2016, arXiv:1512.03385), 2D and 3D.

With several modalities as channels this is the *input fusion* that the fusion networks of this shelf are compared with.
Ours offers a stem for small images (3-convolution, no pool), the published one by default.
"""

from typing import Literal

from vesalius.core.card import Card
from vesalius.nets._classifier_blocks import Head, Staged
from vesalius.nets._residual import STEMS, ResidualTrunk

CARD = Card(
    entry="ResNet", title="ResNet", tasks=("classify",),
    summary="Residual units; 18, 34, 50, 101 or 152 layers.",
    paper="He, Zhang, Ren & Sun 2016, arXiv:1512.03385",
    facts={"parameters": 11689512, "arguments": {"ndim": 2, "in_channels": 3, "out_channels": 1000, "depth": 18},
           "small": {"depth": 18, "stem": "small", "scale": 0.125}},
)  # fmt: skip


class ResNet(Staged):
    """`depth` layers, every width times `scale`; maps are 32 times coarser than the image, 8 times with the small stem."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, depth: Literal[18, 34, 50, 101, 152] = 18,
                 stem: Literal["published", "small"] = "published", scale: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__(ndim, in_channels, out_channels, least=8 * STEMS.get(stem, 1))
        self.stages = ResidualTrunk(ndim, in_channels, depth, stem=stem, scale=scale)
        self.head = Head(self.stages.features, out_channels, dropout)
