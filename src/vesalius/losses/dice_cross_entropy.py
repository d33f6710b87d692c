"""Soft Dice plus cross entropy, from one pass over the logits: the loss of nnU-Net.

Isensee et al. 2021, Nature Methods 18. Ours means the cross entropy per sample and then over samples, so that a batch
split over two processes has the loss and the gradient of the joint batch even where samples ignore unlike amounts.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.data.labels import IGNORE
from vesalius.losses._counts import dot, first_class, flat, membership, require_shapes
from vesalius.losses._soft_counts import counted

CARD = Card(
    entry="DiceCrossEntropy",
    title="Soft Dice + cross entropy",
    summary="Overlap for rare classes and likelihood for steady gradients, with equal weights.",
    paper="Isensee et al. 2021, nnU-Net, Nature Methods 18, 203-211",
    tasks=("segment",),
)
SMOOTH = 1e-5  # voxels


class DiceCrossEntropy(nn.Module):
    """`loss(logits, target)` with target uint8 (B, 1, *S) indices if `exclusive`, else (B, K, *S) of 0 / 1; 255 is ignored.

    `batch_dice` as in `Dice`; the background is left out of the Dice term. `weights` (one per logit) weigh the classes
    in both terms; None is equal weights. Logits of any float type are computed in float32.
    """

    weights: Tensor | None

    def __init__(self, exclusive: bool, *, batch_dice: bool = False, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.exclusive, self.batch_dice = exclusive, batch_dice
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """{"dice": in 0..1, "cross_entropy": nats per voxel}, each a mean over samples."""
        require_shapes(logits, target, self.exclusive)
        both, predicted, actual, total = self._sums(logits, target)
        weights = total.new_ones(total.shape[1]) if self.weights is None else self.weights.to(total.dtype)
        share = actual if self.exclusive else (target != IGNORE).flatten(2).sum(2).to(total.dtype)
        entropy = ((total * weights).sum(1) / (share * weights).sum(1).clamp_min(SMOOTH)).mean()
        return {"dice": self._dice((both, predicted, actual), weights), "cross_entropy": entropy}

    def _sums(self, logits: Tensor, target: Tensor) -> Sequence[Tensor]:
        """Each (B, K): probability inside a class, probability everywhere, its voxels, and cross entropy."""
        if self.exclusive:
            return counted(logits, target).unbind(1)
        logits, target = flat(logits, target, exclusive=False)
        inside, valid = membership(logits, target, exclusive=False)
        p = logits.sigmoid()
        return dot(p, inside), dot(p, valid), inside.sum(2), dot(F.softplus(logits * (1 - 2 * inside)), valid)

    def _dice(self, counts: tuple[Tensor, Tensor, Tensor], weights: Tensor) -> Tensor:
        start = first_class(self.exclusive, background=False)
        both, predicted, actual = (c.sum(0, True)[:, start:] if self.batch_dice else c[:, start:] for c in counts)
        score = (2 * both + SMOOTH) / (predicted + actual + SMOOTH)
        return 1 - (score * weights[start:]).sum(1).mean() / weights[start:].sum()
