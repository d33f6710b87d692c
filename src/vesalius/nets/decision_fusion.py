"""Decision fusion: a classifier per modality, their answers averaged (as compared in Dai, Gao & Liu 2021).

Every channel of the image is a modality with a ResNet of its own. A channel that is zero all over in a sample is missing there and has no
say. The others to compare with: `resnet` (input fusion), `feature_fusion`, `transmed` (attention).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.nets._classifier_blocks import Head, choose, mean_of_present, present
from vesalius.nets._residual import STEMS, Encoded, Encoders

CARD = Card(
    entry="DecisionFusion", title="Decision fusion", tasks=("classify",),
    summary="A ResNet per modality, the answers of those that are there averaged.",
    paper="Dai, Gao & Liu 2021, Diagnostics 11(8):1384; He, Zhang, Ren & Sun 2016, arXiv:1512.03385",
    facts={"parameters": 22350740, "arguments": {"ndim": 2, "in_channels": 2, "out_channels": 10, "depth": 18},
           "small": {"depth": 18, "stem": "small", "scale": 0.125}},
)  # fmt: skip

AVERAGES = {"logits": False, "probabilities": True}


class DecisionFusion(Encoded):
    """Classifiers of `depth` layers, every width times `scale`; maps are (B, modalities * features, *s).

    `average` is over the logits, or over the probabilities of exclusive classes (the logits are then their logarithms).
    """

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, depth: Literal[18, 34, 50, 101, 152] = 18,
                 stem: Literal["published", "small"] = "published", scale: float = 1.0, dropout: float = 0.0,
                 average: Literal["logits", "probabilities"] = "logits") -> None:  # fmt: skip
        super().__init__(ndim, in_channels, out_channels, least=8 * STEMS.get(stem, 1))
        self.probable = choose(AVERAGES, average, "average")
        self.encoders = Encoders(ndim, in_channels, depth, stem=stem, scale=scale)
        self.deciders = nn.ModuleList(Head(self.encoders.features, out_channels, dropout) for _ in range(in_channels))

    def classify(self, maps: Tensor) -> Tensor:
        """Maps that are zero all over are those of a missing modality."""
        each = maps.chunk(len(self.deciders), 1)
        said = torch.stack([decide(part) for decide, part in zip(self.deciders, each, strict=True)], 1)
        there = torch.stack([present(part, 1) for part in each], 1)
        if not self.probable:
            return mean_of_present(said, there)
        return mean_of_present(said.softmax(-1), there).log()
