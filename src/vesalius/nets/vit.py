"""Vision transformer, 2D and 3D (ViT: Dosovitskiy et al. 2021, arXiv:2010.11929; DeiT: Touvron et al. 2021, arXiv:2012.12877).

DeiT is the same network in smaller sizes (Ti, S, B) learned with stochastic depth; distillation is left out. In 3D the patches are cubes.
An image of other sides than planned for is answered too: the learned places are interpolated, as both papers do to fine-tune.
"""

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.nets._blocks import CONV, per_axis
from vesalius.nets._classifier_blocks import Classifier, choose, scaled
from vesalius.nets._transformer import Positions, Transformer

CARD = Card(
    entry="ViT", title="Vision transformer (ViT, DeiT)", tasks=("classify",), tags=("attention",),
    summary="Patches as tokens, twelve blocks of self-attention, a class token; Ti, S, B or L.",
    paper="Dosovitskiy et al. 2021, arXiv:2010.11929; Touvron et al. 2021, arXiv:2012.12877",
    facts={"parameters": 86567656, "arguments": {"ndim": 2, "in_channels": 3, "out_channels": 1000, "size": "B"},
           "small": {"size": "Ti", "scale": 0.125, "sides": 32, "patch": 8}},
)  # fmt: skip

# Width, blocks, heads.
SIZES = {"Ti": (192, 12, 3), "S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16)}


class ViT(Classifier):
    """The published `size`, its width times `scale`, planned for images of `sides` cut into patches of `patch` voxels (per axis or one
    number for all); branches are dropped while learning at a rate that rises to `drop` at the last block (.1 in DeiT)."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, size: Literal["Ti", "S", "B", "L"] = "B",
                 sides: int | Sequence[int] = 224, patch: int | Sequence[int] = 16, scale: float = 1.0, drop: float = 0.1) -> None:
        self.patch = per_axis(patch, ndim)
        if min(self.patch, default=1) < 1 or len(self.patch) != ndim:
            raise UsageError(f"A patch has {ndim} sides of at least one voxel; got {patch}.")
        super().__init__(ndim, in_channels, out_channels, least=max(self.patch, default=1))
        width, depth, heads = choose(SIZES, size, "size of a vision transformer")
        width = scaled(width // heads, scale) * heads
        self.embed = CONV[ndim](in_channels, width, self.patch, self.patch)
        self.positions = Positions(self.grid(per_axis(sides, ndim))[0], width)
        self.transformer = Transformer(width, depth=depth, heads=heads, rate=drop)
        self.head = nn.Linear(width, out_channels)

    def draw(self, generator: torch.Generator) -> None:
        """Patches by their fan-in (LeCun), as the authors' code does."""
        nn.init.trunc_normal_(self.embed.weight, std=self.embed.weight[0].numel() ** -0.5, generator=generator)

    def grid(self, sides: Sequence[int]) -> tuple[tuple[int, ...], int]:
        """Tokens per axis for an image of `sides`, and how many more there are (the class token, which is the first)."""
        if len(sides) != self.ndim or any(side < p or side % p for side, p in zip(sides, self.patch, strict=True)):
            raise VesaliusError(f"Sides must be multiples of the patch {self.patch}; got {tuple(sides)}. "
                                "Change the size of the images or of the patch.")  # fmt: skip
        return tuple(side // p for side, p in zip(sides, self.patch, strict=True)), 1

    def tokens(self, image: Tensor) -> Tensor:
        """Patches with their places: (B, N, width)."""
        grid, _ = self.grid(self.admit(image).shape[2:])
        tokens: Tensor = self.embed(image).flatten(2).transpose(1, 2) + self.positions(grid).reshape(1, prod(grid), -1)
        return tokens

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.transformer(self.tokens(image)))
        return logits

    def attentions(self, image: Tensor) -> list[Tensor]:
        """Who looks at whom, per block: (B, heads, 1 + N, 1 + N), the class token first."""
        return self.transformer.attentions(self.tokens(image))
