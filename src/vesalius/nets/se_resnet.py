"""Squeeze-and-excitation networks (Hu, Shen & Sun 2018, arXiv:1709.01507) on the residual units of He et al. 2016, 2D and 3D.

Ours offers a stem for small images.
"""

from typing import Literal

from vesalius.core.card import Card
from vesalius.nets._classifier_blocks import Head, Staged
from vesalius.nets._residual import STEMS, ResidualTrunk

CARD = Card(
    entry="SEResNet", title="SE-ResNet", tasks=("classify",),
    summary="ResNet whose maps are weighed by what all of them hold; 18, 34, 50, 101 or 152 layers.",
    paper="Hu, Shen & Sun 2018, arXiv:1709.01507",
    facts={"parameters": 28088024, "arguments": {"ndim": 2, "in_channels": 3, "out_channels": 1000, "depth": 50},
           "small": {"depth": 18, "stem": "small", "scale": 0.125, "reduction": 4}},
)  # fmt: skip


class SEResNet(Staged):
    """`depth` layers, every width times `scale`; the gate of c maps has c / `reduction` features in between."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, depth: Literal[18, 34, 50, 101, 152] = 50,
                 stem: Literal["published", "small"] = "published", scale: float = 1.0, dropout: float = 0.0, reduction: int = 16) -> None:
        super().__init__(ndim, in_channels, out_channels, least=8 * STEMS.get(stem, 1))
        self.stages = ResidualTrunk(ndim, in_channels, depth, stem=stem, scale=scale, squeeze=reduction)
        self.head = Head(self.stages.features, out_channels, dropout)
