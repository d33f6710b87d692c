"""Cross entropy of whole cases: softmax over classes with label smoothing, or a sigmoid per finding, unknown ones left out.

Label smoothing: Szegedy et al. 2016, Rethinking the Inception architecture; auxiliary heads: Szegedy et al. 2015, Going deeper with
convolutions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.errors import VesaliusError
from vesalius.core.settings import Settings
from vesalius.data.labels import IGNORE

AUXILIARY = 0.3  # weight of heads before the last, as in GoogLeNet


class LossSettings(Settings):
    """`label_smoothing`: the part of the truth that is spread evenly over all classes. `weights`: of each class, in the order of the
    labels; empty weighs all cases alike."""

    label_smoothing: float = 0.0
    weights: tuple[float, ...] = ()


class ClassLoss(nn.Module):
    """`loss(heads, target)`: heads are logits (B, K), the answer first, then auxiliary ones; target uint8 (B, 1) of indices where a
    case is `one_of` the classes, else (B, K) of 0 / 1, 255 being unknown."""

    def __init__(self, one_of: bool, settings: LossSettings) -> None:
        super().__init__()
        self.one_of, self.settings = one_of, settings

    def forward(self, heads: Sequence[Tensor], target: Tensor) -> dict[str, Tensor]:
        """{"cross_entropy": nats, mean over cases (and findings), "auxiliary": the weighted mean of further heads}."""
        expected = (len(heads[0]), 1 if self.one_of else heads[0].shape[1])
        if tuple(target.shape) != expected:
            raise VesaliusError(f"A loss on logits {tuple(heads[0].shape)} expects a target {expected}; got {tuple(target.shape)}.")
        first, *others = (self._of(logits, target) for logits in heads)
        return {"cross_entropy": first} | ({"auxiliary": AUXILIARY * torch.stack(others).mean()} if others else {})

    def _of(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = logits if logits.dtype == torch.float64 else logits.float()
        weights = torch.tensor(self.settings.weights, dtype=logits.dtype, device=logits.device) if self.settings.weights else None
        smooth = self.settings.label_smoothing
        if self.one_of:
            return F.cross_entropy(logits, target[:, 0].long(), weights, label_smoothing=smooth)
        known = (target != IGNORE).to(logits.dtype)
        there = (target == 1).to(logits.dtype) * (1 - smooth) + smooth / 2
        each = F.binary_cross_entropy_with_logits(logits, there, reduction="none") * known * (1 if weights is None else weights)
        return each.sum() / known.sum().clamp_min(1)
