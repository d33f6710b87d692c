"""Slices of a volume put together by attention: pooling by multi-head attention of the Set Transformer (Lee et al. 2019, arXiv:1810.00825).

Each slice goes through the same 2D ResNet; a learned seed looks at the features of all slices, each head at others. The order of the
slices does not count. The first axis of the volume counts the slices; those that are zero all over are not looked at.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.nets._classifier_blocks import Convolutional, scaled
from vesalius.nets._residual import STEMS, ResidualTrunk
from vesalius.nets._slices import features, slicewise, volumes_only

CARD = Card(
    entry="SliceAttention", title="Slice attention", tasks=("classify",), ndim=(3,),
    summary="A 2D ResNet for every slice, a learned seed that looks at all of them.",
    paper="Lee et al. 2019, arXiv:1810.00825; He, Zhang, Ren & Sun 2016, arXiv:1512.03385",
    facts={"parameters": 11698114, "arguments": {"ndim": 3, "in_channels": 1, "out_channels": 2, "depth": 18},
           "small": {"depth": 18, "stem": "small", "scale": 0.125}},
)  # fmt: skip

HEADS = 4


class Pooling(nn.Module):
    """PMA with one seed: MAB(seed, rFF(slices)), where MAB(x, y) = norm(h + rFF(h)) and h = norm(x + attention(x, y, y))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seed = nn.Parameter(torch.zeros(1, width))
        self.rows = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.query, self.key, self.value, self.join = (nn.Linear(width, width) for _ in range(4))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, width), nn.ReLU())

    def draw(self, generator: torch.Generator) -> None:
        """Seed and linear layers by Glorot's rule, as the authors' code."""
        for weight in (p for p in self.parameters() if p.ndim == 2):
            nn.init.xavier_uniform_(weight, generator=generator)

    def weights(self, slices: Tensor, there: Tensor) -> Tensor:
        """How much each head looks at each slice: (B, heads, N); `slices` went through the row-wise layer."""
        query = self.query(self.seed).unflatten(-1, (HEADS, -1))[0]
        key = self.key(slices).unflatten(-1, (HEADS, -1))
        scores: Tensor = torch.einsum("hd,bnhd->bhn", query, key) / query.shape[-1] ** 0.5
        hidden = ~there & there.any(1, keepdim=True)  # an empty volume is seen as it is
        return scores.masked_fill(hidden[:, None], -torch.inf).softmax(-1)

    def forward(self, slices: Tensor, there: Tensor) -> Tensor:
        rows = self.rows(slices)
        value = self.value(rows).unflatten(-1, (HEADS, -1))
        seen = torch.einsum("bhn,bnhd->bhd", self.weights(rows, there).to(value.dtype), value).flatten(1)
        h = self.first(self.seed + self.join(seen))
        out: Tensor = self.second(h + self.feed(h))
        return out


class SliceAttention(Convolutional):
    """A ResNet of `depth` layers for every slice, every width times `scale`; maps are (B, features, N, h, w)."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, depth: Literal[18, 34, 50, 101, 152] = 18,
                 stem: Literal["published", "small"] = "published", width: int = 256, scale: float = 1.0) -> None:
        super().__init__(volumes_only(ndim), in_channels, out_channels, least=8 * STEMS.get(stem, 1), free=1)
        width = scaled(width // HEADS, scale) * HEADS
        if width < HEADS:
            raise UsageError(f"The width is at least {HEADS}, one feature per head; got {width}.")
        self.encoder = ResidualTrunk(2, in_channels, depth, stem=stem, scale=scale)
        self.embed = nn.Linear(self.encoder.features, width)
        self.pool = Pooling(width)
        self.head = nn.Linear(width, out_channels)

    def trunk(self, image: Tensor) -> Tensor:
        """Maps (B, features, N, h, w) of every slice; zero where a slice is missing."""
        return slicewise(self.encoder, self.admit(image))

    def classify(self, maps: Tensor) -> Tensor:
        slices, there = features(maps)
        logits: Tensor = self.head(self.pool(self.embed(slices), there))
        return logits

    def looked_at(self, image: Tensor) -> Tensor:
        """The attention to every slice (B, N), the mean over the heads."""
        slices, there = features(self.trunk(image))
        return self.pool.weights(self.pool.rows(self.embed(slices)), there).mean(1)
