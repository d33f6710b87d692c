"""What a shallow classifier has said already, as further channels: a network is shown it, and corrects it.

The last channels of an image are log odds, one per label, from a classifier that never saw the case (stacked generalisation: Wolpert
1992, Neural Networks 5:241; auto-context: Tu & Bai 2010, TPAMI 32:1744). They are added to the logits, whose layers start from zeros,
so that learning begins at the classifier's answer instead of at none. Stored they are `odds + LIMIT`, in 0 ... 2 LIMIT: what lies
outside a scan, 0, is background.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d

from vesalius.data.primed import LIMIT, SCALE

POOL: dict[int, Callable[..., Tensor]] = {2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}


def seen(image: Tensor, prior: int) -> Tensor:
    """`image` (B, C + prior, *S) as a network sees it: its last `prior` channels of like size as the others."""
    if not prior:
        return image
    return torch.cat([image[:, :-prior], image[:, -prior:] / SCALE], 1)


def corrected(heads: Sequence[Tensor], image: Tensor, prior: int) -> list[Tensor]:
    """`heads`, logits (B, K, *s) at several scales, added to the log odds in the last `prior` channels of `image`; where classes exclude
    each other there is one logit more than there are odds, that of the background, which stays as it is."""
    if not prior:
        return list(heads)
    odds = image[:, -prior:].float() - LIMIT
    return [logits + _of(odds, logits) for logits in heads]


def _of(odds: Tensor, logits: Tensor) -> Tensor:
    sides = list(logits.shape[2:])
    coarse = odds if list(odds.shape[2:]) == sides else POOL[odds.ndim - 2](odds, sides)
    more = logits.shape[1] - odds.shape[1]
    return torch.cat([torch.zeros_like(coarse[:, :more]), coarse], 1) if more else coarse


def silent(net: nn.Module) -> nn.Module:
    """`net` with its outputs starting from 0: the layers that it calls `outs`."""
    for layer in getattr(net, "outs", ()):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return net
