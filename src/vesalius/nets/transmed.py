"""TransMed, a transformer over several modalities (Dai, Gao & Liu 2021, Diagnostics 11(8):1384), T, S, B and L.

Three adjacent slices of a modality are the channels of one picture, each picture is cut into a few large patches, each patch goes through
a 2D ResNet and one linear layer, and a DeiT of twelve blocks relates the patches of all modalities and slices. Every channel of the
image is a modality (or a view of one). A channel that is zero all over in a sample is missing there: its tokens are seen by none.

The widths, blocks and trunks are the paper's; its totals (about 17, 43, 110 and 145 million) are met. How many patches a picture is cut
into could not be found: ours takes `grid` x `grid`, padded with zeros where a side is no multiple. 2D images are volumes of one slice.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.nets._classifier_blocks import Classifier, Mean, choose, encode_present, present, scaled
from vesalius.nets._residual import STEMS, ResidualTrunk
from vesalius.nets._transformer import Positions, Transformer

CARD = Card(
    entry="TransMed", title="TransMed", tasks=("classify",), tags=("attention",),
    summary="Attention fusion: a transformer relates the patches of every modality and slice.",
    paper="Dai, Gao & Liu 2021, Diagnostics 11(8):1384, arXiv:2103.05940",
    facts={"parameters": 16621253, "arguments": {"ndim": 3, "in_channels": 2, "out_channels": 5, "size": "T", "slices": 12},
           "small": {"size": "T", "stem": "small", "scale": 0.125, "slices": 16}},
)  # fmt: skip

# Layers of the ResNet, width and heads of the transformer, which has twelve blocks and perceptrons of four times the width.
SIZES = {"T": (18, 192, 3), "S": (34, 384, 6), "B": (50, 768, 12), "L": (152, 768, 12)}
DEPTH = 12
ADJACENT = 3  # slices in one picture


class TransMed(Classifier):
    """The published `size`, every width times `scale`, planned for volumes of `slices` slices along the first axis (other numbers are
    answered too: learned places are interpolated); branches of the transformer are dropped at a rate that rises to .1 as in DeiT."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, size: Literal["T", "S", "B", "L"] = "S", slices: int = 24,
                 grid: int = 2, stem: Literal["published", "small"] = "published", scale: float = 1.0) -> None:
        if min(slices, grid) < 1:
            raise UsageError(f"There is at least one slice and one patch; got slices={slices}, grid={grid}.")
        super().__init__(ndim, in_channels, out_channels, least=8 * STEMS.get(stem, 1) * grid, free=ndim - 2)
        depth, width, heads = choose(SIZES, size, "size of a TransMed")
        width, self.split = scaled(width // heads, scale) * heads, grid
        self.cnn = ResidualTrunk(2, ADJACENT, depth, stem=stem, scale=scale)
        self.mean, self.project = Mean(), nn.Linear(self.cnn.features, width)
        groups = -(-slices // ADJACENT) if ndim == 3 else 1
        self.positions = nn.ModuleList(Positions((groups, grid, grid), width) for _ in range(in_channels))
        self.transformer = Transformer(width, depth=DEPTH, heads=heads, rate=0.1)
        self.head = nn.Linear(width, out_channels)

    def draw(self, generator: torch.Generator) -> None:
        """The matrices of the transformer evenly within the bounds of Glorot & Bengio 2010, as the authors of ViT draw theirs: with a
        standard deviation of .02 narrow blocks pass on next to nothing of what modalities say together."""
        for layer in self.transformer.blocks.modules():
            if isinstance(layer, nn.Linear):
                joined = 3 if layer.out_features == 3 * layer.in_features else 1  # queries, keys and values are a matrix each
                for matrix in layer.weight.chunk(joined):
                    nn.init.xavier_uniform_(matrix, generator=generator)

    def grid(self, sides: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        """Tokens per modality, group of slices, row and column for an image of `sides`; and one more, the class token, which is first."""
        groups = -(-sides[0] // ADJACENT) if self.ndim == 3 else 1
        return (self.in_channels, groups, self.split, self.split), 1

    def patches(self, image: Tensor) -> Tensor:
        """Image (B, M, *S) to patches (B, M * groups * grid * grid, 3, *s); the last slice is repeated to fill its picture."""
        volume = image if self.ndim == 3 else image[:, :, None]
        (modalities, groups, rows, columns), _ = self.grid(tuple(image.shape[2:]))
        slices = torch.arange(groups * ADJACENT, device=image.device).clamp(max=volume.shape[2] - 1)
        fill = [-volume.shape[axis] % self.split for axis in (3, 4)]
        pictures = F.pad(volume[:, :, slices], (0, fill[1], 0, fill[0]))
        height, width = (side // self.split for side in pictures.shape[3:])
        cut = pictures.reshape(len(image), modalities, groups, ADJACENT, rows, height, columns, width)
        return cut.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(len(image), -1, ADJACENT, height, width)

    def tokens(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the transformer sees (B, N, width), and which tokens are there (B, N)."""
        grid, _ = self.grid(tuple(self.admit(image).shape[2:]))
        patches = self.patches(image)
        there = present(image, 2).repeat_interleave(patches.shape[1] // grid[0], 1)
        places = torch.cat([place(grid[1:]).flatten(0, 2) for place in self.positions])
        maps = encode_present(self.cnn, patches.flatten(0, 1), there.flatten())
        features: Tensor = self.project(self.mean(maps)).reshape(*there.shape, -1)
        return features + places, there

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.transformer(*self.tokens(image)))
        return logits

    def attentions(self, image: Tensor) -> list[Tensor]:
        """Who looks at whom, per block: (B, heads, 1 + N, 1 + N), the class token first; nobody looks at what is missing."""
        return self.transformer.attentions(*self.tokens(image))
