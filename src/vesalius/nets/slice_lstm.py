"""Slices of a volume read one after the other: a long-term recurrent convolutional network (Donahue et al. 2015, arXiv:1411.4389).

Each slice goes through the same 2D ResNet (a CaffeNet in the paper), an LSTM of 256 units reads them in their order, and the answers after
every slice are averaged. The first axis of the volume counts the slices; those that are zero all over have no say.
"""

from typing import Literal

from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.nets._classifier_blocks import Convolutional, mean_of_present, scaled
from vesalius.nets._residual import STEMS, ResidualTrunk
from vesalius.nets._slices import features, slicewise, volumes_only

CARD = Card(
    entry="SliceLSTM", title="LSTM over slices", tasks=("classify",), ndim=(3,),
    summary="A 2D ResNet for every slice, read in order by an LSTM.",
    paper="Donahue et al. 2015, arXiv:1411.4389; He, Zhang, Ren & Sun 2016, arXiv:1512.03385",
    facts={"parameters": 11959234, "arguments": {"ndim": 3, "in_channels": 1, "out_channels": 2, "depth": 18},
           "small": {"depth": 18, "stem": "small", "scale": 0.125}},
)  # fmt: skip


class SliceLSTM(Convolutional):
    """A ResNet of `depth` layers for every slice, `hidden` units (in each direction), every width times `scale`."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, depth: Literal[18, 34, 50, 101, 152] = 18,
                 stem: Literal["published", "small"] = "published", hidden: int = 256, bidirectional: bool = False,
                 scale: float = 1.0) -> None:  # fmt: skip
        super().__init__(volumes_only(ndim), in_channels, out_channels, least=8 * STEMS.get(stem, 1), free=1)
        hidden = scaled(hidden, scale)
        self.encoder = ResidualTrunk(2, in_channels, depth, stem=stem, scale=scale)
        self.read = nn.LSTM(self.encoder.features, hidden, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(hidden * (2 if bidirectional else 1), out_channels)

    def trunk(self, image: Tensor) -> Tensor:
        """Maps (B, features, N, h, w) of every slice; zero where a slice is missing."""
        return slicewise(self.encoder, self.admit(image))

    def classify(self, maps: Tensor) -> Tensor:
        slices, there = features(maps)
        return mean_of_present(self.head(self.read(slices)[0]), there)
