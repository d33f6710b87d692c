"""Focal loss: cross entropy in which voxels or images that are already right fade out as (1 - p)^gamma."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.losses._counts import class_weights, flat, require_weights, sample_mean, voxel_cross_entropy, weighted

CARD = Card(
    entry="Focal",
    title="Focal loss",
    summary="Cross entropy that fades for voxels that are already right, so that rare hard ones count.",
    paper="Lin et al. 2017, Focal Loss for Dense Object Detection, ICCV",
    tasks=("segment", "classify", "detect"),
)


class Focal(nn.Module):
    """`loss(logits, target)` with target uint8 (B, 1, *S) indices if `exclusive`, else (B, K, *S) of 0 / 1; 255 is ignored.

    `gamma` = 2 is the paper's best; 0 gives the cross entropy. `weights` (K,) multiply what is truly in class k (alpha).
    """

    weights: Tensor | None

    def __init__(self, exclusive: bool, *, gamma: float = 2.0, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.exclusive, self.gamma = exclusive, gamma
        self.register_buffer("weights", class_weights(weights), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """{"focal": nats, mean over what is not ignored in each sample, then over samples}."""
        require_weights(self.weights, logits)
        logits, target = flat(logits, target, self.exclusive)
        entropy, valid = voxel_cross_entropy(logits, target, self.exclusive)
        wrong = -torch.expm1(-entropy)  # 1 - p of the truth, without cancellation where p is close to 1
        # A floor keeps the gradient of wrong ** gamma finite at 0 for gamma < 1.
        faded = wrong.clamp_min(1e-12) ** self.gamma * entropy
        return {"focal": sample_mean(weighted(faded, target, self.weights, exclusive=self.exclusive), valid)}
