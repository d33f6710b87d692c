"""Cross entropy per voxel: softmax where classes exclude each other, sigmoid where they overlap."""

from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.losses._counts import flat, sample_mean, voxel_cross_entropy

CARD = Card(
    entry="CrossEntropy",
    title="Cross entropy",
    summary="Negative log likelihood of the true class, meaned over voxels.",
    paper="Good 1952, J. R. Stat. Soc. B 14, 107-114",
    tasks=("segment",),
)


class CrossEntropy(nn.Module):
    """`loss(logits, target)` with target uint8 (B, 1, *S) indices if `exclusive`, else (B, K, *S) of 0 / 1; 255 is ignored."""

    def __init__(self, exclusive: bool) -> None:
        super().__init__()
        self.exclusive = exclusive

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """{"cross_entropy": nats, mean over what is not ignored in each sample, then over samples}."""
        return {"cross_entropy": sample_mean(*voxel_cross_entropy(*flat(logits, target, self.exclusive), self.exclusive))}
