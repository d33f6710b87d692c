"""Ordinal loss: for ordered classes, the sum of the binary cross entropies of "beyond class k".

Cao, Mirjalili, Raschka 2020 (CORAL) on K - 1 logits that share their weights; Frank & Hall 2001 (the K - 1 questions). Ours
also takes the K logits of an ordinary network, whose softmax gives "beyond k" as a sum of probabilities, so that networks
and the reading of their answers stay as they are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import VesaliusError
from vesalius.data.labels import IGNORE
from vesalius.losses._counts import flat, sample_mean

CARD = Card(
    entry="Ordinal",
    title="Ordinal (cumulative) loss",
    summary="Cross entropy of every 'beyond class k', so that a far confusion costs more than a near one.",
    paper="Cao, Mirjalili, Raschka 2020, Rank consistent ordinal regression (CORAL), Pattern Recogn. Lett. 140; Frank & Hall 2001, ECML",
    tasks=("classify",),
    tags=("exclusive",),
)


class Ordinal(nn.Module):
    """`loss(logits, target)` with target uint8 (B, 1, *S) of ordered indices 0..K-1, 255 ignored.

    `logits` are K for a softmax (B, K, *S), or with `coral` the K - 1 logits of "beyond class k" (B, K - 1, *S).
    """

    def __init__(self, exclusive: bool = True, *, coral: bool = False) -> None:
        super().__init__()
        if not exclusive:
            raise VesaliusError("Ordered classes exclude each other. For findings that may come together take cross_entropy.")
        self.coral = coral

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """{"ordinal": nats summed over the K - 1 questions, mean over what is not ignored in each sample, then over samples}."""
        logits, target = flat(logits, target, True)
        beyond = logits if self.coral else cumulative_logits(logits)
        levels = torch.arange(beyond.shape[1], device=target.device)[:, None]
        valid = (target != IGNORE).to(beyond.dtype)
        sign = 1 - 2 * (target.long() > levels).to(beyond.dtype)
        return {"ordinal": sample_mean(F.softplus(beyond * sign).sum(1, keepdim=True) * valid, valid)}


def cumulative_logits(logits: Tensor) -> Tensor:
    """Log odds of "beyond class k" (B, K - 1, N) under the softmax of `logits` (B, K, N)."""
    upto = logits.logcumsumexp(1)[:, :-1]
    return logits.flip(1).logcumsumexp(1).flip(1)[:, 1:] - upto


def class_probabilities(beyond: Tensor) -> Tensor:
    """Probabilities (B, K, *S) of the classes from logits (B, K - 1, *S) of "beyond class k".

    Where those cross (a network without shared weights), the later one is held down to the earlier.
    """
    level = beyond.sigmoid().cummin(1).values
    ends = torch.ones_like(level[:, :1])
    return torch.cat([ends, level], 1) - torch.cat([level, torch.zeros_like(ends)], 1)


class CoralHead(nn.Module):
    """From features (B, `features`) to the K - 1 logits of CORAL: one direction for all questions, a bias for each.

    Biases start in falling order from an even distribution over the classes, which keeps the questions consistent.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.direction = nn.Linear(features, 1, bias=False)
        share = torch.arange(classes - 1, 0, -1) / classes
        self.bias = nn.Parameter(torch.logit(share))

    def forward(self, features: Tensor) -> Tensor:
        answer: Tensor = self.direction(features) + self.bias
        return answer
