"""Focal loss: cross entropy in which voxels that are already right fade out as (1 - p)^gamma."""

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.losses._counts import flat, sample_mean, voxel_cross_entropy

CARD = Card(
    entry="Focal",
    title="Focal loss",
    summary="Cross entropy that fades for voxels that are already right, so that rare hard ones count.",
    paper="Lin et al. 2017, Focal Loss for Dense Object Detection, ICCV",
    tasks=("segment", "classify", "detect"),
)


class Focal(nn.Module):
    """`loss(logits, target)` with target uint8 (B, 1, *S) indices if `exclusive`, else (B, K, *S) of 0 / 1; 255 is ignored.

    `gamma` = 2 is the paper's best; 0 gives the cross entropy.
    """

    def __init__(self, exclusive: bool, *, gamma: float = 2.0) -> None:
        super().__init__()
        self.exclusive, self.gamma = exclusive, gamma

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """{"focal": nats, mean over what is not ignored in each sample, then over samples}."""
        entropy, valid = voxel_cross_entropy(*flat(logits, target, self.exclusive), self.exclusive)
        wrong = -torch.expm1(-entropy)  # 1 - p of the truth, without cancellation where p is close to 1
        # A floor keeps the gradient of wrong ** gamma finite at 0 for gamma < 1.
        return {"focal": sample_mean(wrong.clamp_min(1e-12) ** self.gamma * entropy, valid)}
