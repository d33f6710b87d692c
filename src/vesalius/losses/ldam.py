"""LDAM: cross entropy with a margin that is the wider the rarer the class, and weights that begin to count late.

Cao et al. 2019, Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS. The margin of a class of n
cases goes as n^(-1/4), the widest being .5; logits are multiplied by 30, so they should be cosines in -1..1 (a linear
layer with normalised weights on normalised features), as in the paper. Ours takes the share of training that has passed
instead of an epoch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import VesaliusError
from vesalius.losses._balance import BETA, effective_number_weights, require_cases
from vesalius.losses._counts import class_weights, flat, membership, require_weights, sample_mean, voxel_cross_entropy, weighted

CARD = Card(
    entry="LDAM",
    title="Label-distribution-aware margin",
    summary="Cross entropy with wider margins for rarer classes; re-weighting by effective numbers starts after four fifths of training.",
    paper="Cao et al. 2019, Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS",
    tasks=("classify",),
    tags=("exclusive", "counts"),
)


def margins(counts: Sequence[int], *, widest: float = 0.5) -> list[float]:
    """n^(-1/4) for each class of n cases, scaled so that the rarest has the margin `widest`."""
    require_cases(counts)
    raw = [count**-0.25 for count in counts]
    return [widest * margin / max(raw) for margin in raw]


class CosineHead(nn.Module):
    """Cosines (B, classes) between features (B, `features`) and a direction per class: the last layer that LDAM wants."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.empty(classes, features))
        nn.init.xavier_uniform_(self.direction)

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(F.normalize(features, dim=1), F.normalize(self.direction, dim=1))


class LDAM(nn.Module):
    """`loss(logits, target)` with target uint8 (B, 1, *S) indices, 255 ignored; `counts` (K,) are training cases per class.

    Call `progress(share)` as training goes: from `deferred` of it on the weights of `effective_number_weights` count.
    """

    margin: Tensor
    weights: Tensor

    def __init__(self, exclusive: bool = True, *, counts: Sequence[int], widest: float = 0.5, scale: float = 30.0,
                 deferred: float = 0.8, beta: float = BETA) -> None:  # fmt: skip
        super().__init__()
        if not exclusive:
            raise VesaliusError("LDAM is of classes that exclude each other. For findings that may come together take focal.")
        self.scale, self.deferred, self.weighing = scale, deferred, False
        self.register_buffer("margin", torch.tensor(margins(counts, widest=widest)), persistent=False)
        self.register_buffer("weights", class_weights(effective_number_weights(counts, beta=beta)), persistent=False)

    def progress(self, share: float) -> None:
        """Tell how much of training has passed, 0..1."""
        self.weighing = share >= self.deferred

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """{"ldam": nats, mean over what is not ignored in each sample, then over samples}."""
        logits, target = flat(logits, target, True)
        require_weights(self.weights, logits)
        inside, _ = membership(logits, target, True)
        narrowed = self.scale * (logits - inside * self.margin.to(logits.dtype)[:, None])
        entropy, valid = voxel_cross_entropy(narrowed, target, True)
        return {"ldam": sample_mean(weighted(entropy, target, self.weights if self.weighing else None, exclusive=True), valid)}
