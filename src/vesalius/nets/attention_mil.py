"""Attention-based multiple instance learning (Ilse, Tomczak & Welling 2018, arXiv:1802.04712), plain and gated.

A bag is a volume (B, C, N, H, W) of N instances: slices, or tiles in any order. Each becomes features, and the bag is their mean weighed by
an attention that is learned: w^T tanh(V h), with the gate w^T (tanh(V h) * sigmoid(U h)). The instance network of the paper is a LeNet for
28-pixel tiles; ours brings maps of other tiles to its 4 x 4 and offers a ResNet. Instances that are zero all over fill up a bag only.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.nets._classifier_blocks import Convolutional, Mean, choose, present, scaled
from vesalius.nets._residual import STEMS, ResidualTrunk
from vesalius.nets._slices import slicewise, volumes_only

CARD = Card(
    entry="AttentionMIL", title="Attention MIL", tasks=("classify",), ndim=(3,),
    summary="A bag of slices or tiles: their features averaged by a learned attention, which shows where it looked.",
    paper="Ilse, Tomczak & Welling 2018, arXiv:1802.04712",
    facts={"parameters": 490828, "arguments": {"ndim": 3, "in_channels": 1, "out_channels": 1},
           "small": {"scale": 0.1, "gated": True}},
)  # fmt: skip

ENCODERS = {"lenet": 0, "resnet18": 18, "resnet34": 34, "resnet50": 50}  # and their layers
LENET_LEAST = 16  # pixels
GRID = 4  # of the LeNet's maps for 28 pixels


class AttentionMIL(Convolutional):
    """`encoder` of every instance (a ResNet with `stem`), 500 features of an instance, 128 of the attention; widths times `scale`."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *,
                 encoder: Literal["lenet", "resnet18", "resnet34", "resnet50"] = "lenet", gated: bool = False,
                 stem: Literal["published", "small"] = "published", scale: float = 1.0) -> None:  # fmt: skip
        depth, shrink, lenet = choose(ENCODERS, encoder, "encoder"), 8 * choose(STEMS, stem, "stem"), encoder == "lenet"
        least = LENET_LEAST if lenet else shrink
        super().__init__(volumes_only(ndim), in_channels, out_channels, least=least, each=lenet, free=1)
        width, inner = scaled(500, scale), scaled(128, scale)
        if lenet:
            self.encoder: nn.Module = _lenet(in_channels, scale)
            self.embed = nn.Sequential(nn.AdaptiveAvgPool2d(GRID), nn.Flatten(), nn.Linear(scaled(50, scale) * GRID**2, width), nn.ReLU())
        else:
            trunk = ResidualTrunk(2, in_channels, depth, stem=stem, scale=scale)
            self.encoder, self.embed = trunk, nn.Sequential(Mean(), nn.Linear(trunk.features, width), nn.ReLU())
        self.signal = nn.Sequential(nn.Linear(width, inner), nn.Tanh())
        self.gate = nn.Sequential(nn.Linear(width, inner), nn.Sigmoid()) if gated else None
        self.score = nn.Linear(inner, 1)
        self.head = nn.Linear(width, out_channels)

    def draw(self, generator: torch.Generator) -> None:
        """Linear layers by fan-in (Glorot, as the paper): the attention starts with a slope."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight, generator=generator)

    def trunk(self, image: Tensor) -> Tensor:
        """Maps (B, features, N, h, w) of every instance; zero where an instance is missing."""
        return slicewise(self.encoder, self.admit(image))

    def bag(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, N, width) and attention (B, N), which is 0 for missing instances and else sums to 1."""
        instances = maps.transpose(1, 2)
        embedded = self.embed(instances.flatten(0, 1)).reshape(*instances.shape[:2], -1)
        inner = self.signal(embedded) if self.gate is None else self.signal(embedded) * self.gate(embedded)
        there = present(instances, 2)
        hidden = ~there & there.any(1, keepdim=True)  # an empty bag is seen as it is
        return embedded, self.score(inner)[..., 0].masked_fill(hidden, -torch.inf).softmax(1)

    def classify(self, maps: Tensor) -> Tensor:
        embedded, attention = self.bag(maps)
        logits: Tensor = self.head((embedded * attention[..., None]).sum(1))
        return logits

    def looked_at(self, image: Tensor) -> Tensor:
        """The attention to every instance (B, N)."""
        return self.bag(self.trunk(image))[1]


def _lenet(in_channels: int, scale: float) -> nn.Sequential:
    """Two 5-convolutions without padding, each with a rectifier and a max pool (table 6 of the paper)."""
    first, second = scaled(20, scale), scaled(50, scale)
    layers = [nn.Conv2d(in_channels, first, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(first, second, 5), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)
