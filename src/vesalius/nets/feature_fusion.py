"""Feature fusion: an encoder per modality, their features side by side, one decision (as compared in Dai, Gao & Liu 2021).

Every channel of the image is a modality with a ResNet of its own. A channel that is zero all over in a sample is missing there: its
features are zero. The others to compare with: `resnet` (input fusion), `decision_fusion`, `transmed` (attention).

How the joined features are classified could not be found; ours has a hidden layer in between. Without one the answer is a sum of what
each modality says alone, as in decision fusion, and what only two together tell (an exclusive or) can not be learned at any length.
"""

from typing import Literal

from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.nets._chance import Dropout
from vesalius.nets._classifier_blocks import Head, Mean, choose
from vesalius.nets._residual import STEMS, Encoded, Encoders

CARD = Card(
    entry="FeatureFusion", title="Feature fusion", tasks=("classify",),
    summary="A ResNet per modality, their features joined before the decision.",
    paper="Dai, Gao & Liu 2021, Diagnostics 11(8):1384; He, Zhang, Ren & Sun 2016, arXiv:1512.03385",
    facts={"parameters": 22870410, "arguments": {"ndim": 2, "in_channels": 2, "out_channels": 10, "depth": 18},
           "small": {"depth": 18, "stem": "small", "scale": 0.125}},
)  # fmt: skip
JOINTS = {"hidden": True, "linear": False}


class FeatureFusion(Encoded):
    """Encoders of `depth` layers, every width times `scale`; maps are (B, modalities * features, *s). Between the joined features and
    the logits lies a "hidden" layer as wide as one encoder's features, or none ("linear")."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, depth: Literal[18, 34, 50, 101, 152] = 18,
                 stem: Literal["published", "small"] = "published", scale: float = 1.0, dropout: float = 0.0,
                 joint: Literal["hidden", "linear"] = "hidden") -> None:  # fmt: skip
        super().__init__(ndim, in_channels, out_channels, least=8 * STEMS.get(stem, 1))
        self.encoders = Encoders(ndim, in_channels, depth, stem=stem, scale=scale)
        width = self.encoders.features
        hidden = [Mean(), nn.Linear(in_channels * width, width), nn.ReLU(), Dropout(dropout), nn.Linear(width, out_channels)]
        deep = choose(JOINTS, joint, "way to join features")
        self.head = nn.Sequential(*hidden) if deep else Head(in_channels * width, out_channels, dropout)

    def classify(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.head(maps)
        return logits
