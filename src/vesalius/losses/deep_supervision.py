"""Deep supervision: the same loss at every resolution of a decoder, halving in weight with each coarser level.

Lee et al. 2015; the weights 1, 1/2, 1/4 ... normalised to sum 1 are nnU-Net's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vesalius.core.card import Card

CARD = Card(
    entry="DeepSupervision",
    title="Deep supervision",
    summary="Wraps another loss and applies it to the outputs of every decoder level.",
    paper="Lee et al. 2015, Deeply-Supervised Nets, AISTATS; weights as in Isensee et al. 2021",
    tasks=("segment",),
    tags=("wrapper",),
)


def level_weights(levels: int) -> list[float]:
    """1 / 2^i from the finest level on, normalised to sum 1."""
    return [2.0**-i / sum(2.0**-j for j in range(levels)) for i in range(levels)]


def coarsen(target: Tensor, shape: Sequence[int]) -> Tensor:
    """Nearest value of `target` (B, K, *S) at the voxel centres of a grid of `shape` over the same field of view.

    By index, so that any whole-number type, number of axes and device will do; equals mode="nearest-exact".
    """
    for axis, (old, new) in enumerate(zip(target.shape[2:], shape, strict=True), start=2):
        if old != new:
            index = ((torch.arange(new, device=target.device) * 2 + 1) * old).div(2 * new, rounding_mode="floor")
            target = target.index_select(axis, index)
    return target


class DeepSupervision(nn.Module):
    """`loss(levels, target)`: `levels` are logits from fine to coarse, the finest on the grid of `target`."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, levels: Sequence[Tensor], target: Tensor) -> dict[str, Tensor]:
        """The terms of the wrapped loss, each a weighted mean over the levels."""
        total: dict[str, Tensor] = {}
        for weight, logits in zip(level_weights(len(levels)), levels, strict=True):
            for name, term in self.loss(logits, coarsen(target, logits.shape[2:])).items():
                total[name] = total[name] + weight * term if name in total else weight * term
        return total
