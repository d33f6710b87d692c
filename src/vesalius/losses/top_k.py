"""Top-k cross entropy: only the hardest part of the voxels of each sample counts (online hard-example mining)."""

import math

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.losses._counts import flat, voxel_cross_entropy

CARD = Card(
    entry="TopK",
    title="Top-k cross entropy",
    summary="Cross entropy of the hardest tenth of the voxels.",
    paper="Wu, Shen, van den Hengel 2016, Bridging Category-level and Instance-level Semantic Image Segmentation",
    tasks=("segment",),
)


class TopK(nn.Module):
    """`loss(logits, target)` with target uint8 (B, 1, *S) indices if `exclusive`, else (B, K, *S) of 0 / 1; 255 is ignored.

    `part` is the share of a sample's voxels (of those that are not ignored, rounded up) that counts; .1 is nnU-Net's.
    """

    def __init__(self, exclusive: bool, *, part: float = 0.1) -> None:
        super().__init__()
        self.exclusive, self.part = exclusive, part

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """{"top_k": nats, mean over the hardest of each sample, then over samples}."""
        entropy, valid = voxel_cross_entropy(*flat(logits, target, self.exclusive), self.exclusive)
        means = [self._hardest(values.flatten(), int(count)) for values, count in zip(entropy, valid.flatten(1).sum(1), strict=True)]
        return {"top_k": torch.stack(means).mean()}

    def _hardest(self, values: Tensor, count: int) -> Tensor:
        if count == 0:
            return values.sum()  # everything ignored: zero, with a gradient of zero
        return values.topk(math.ceil(self.part * count)).values.mean()
