"""What the losses share: the check of shapes, membership as numbers, sums per sample and class, voxel-wise cross entropy.

Shapes: logits (B, K, *S); target uint8 (B, 1, *S) class indices where classes exclude each other, else (B, K, *S) of
0 / 1; 255 is ignored. Voxels are flattened: N = prod(S), 1 where a whole image is classified and S is empty. Everything
is computed in float32 (float64 stays).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vesalius.core.errors import VesaliusError
from vesalius.data.labels import IGNORE


def flat(logits: Tensor, target: Tensor, exclusive: bool) -> tuple[Tensor, Tensor]:
    """Logits (B, K, N), contiguous so that K is not the innermost axis (faster by far), and target (B, 1 or K, N)."""
    require_shapes(logits, target, exclusive)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if logits.ndim == 2:
        return wide[..., None], target[..., None]
    return wide.contiguous().flatten(2), target.contiguous().flatten(2)


def require_shapes(logits: Tensor, target: Tensor, exclusive: bool) -> None:
    """Raise a VesaliusError unless there is a target for every logit."""
    expected = (logits.shape[0], 1 if exclusive else logits.shape[1], *logits.shape[2:])
    if target.shape != expected:
        layers = "one layer of class indices" if exclusive else "one layer of 0 / 1 per class"
        raise VesaliusError(f"A loss on logits {tuple(logits.shape)} expects a target {expected} ({layers}); got {tuple(target.shape)}.")


def membership(logits: Tensor, target: Tensor, exclusive: bool) -> tuple[Tensor, Tensor]:
    """1 where a voxel is in the class (B, K, N) and 1 where it is not ignored (B, 1 or K, N), of the type of `logits`."""
    classes = torch.arange(logits.shape[1], dtype=target.dtype, device=target.device)[:, None]
    inside = target == (classes if exclusive else 1)
    return inside.to(logits.dtype), (target != IGNORE).to(logits.dtype)


def probabilities(logits: Tensor, exclusive: bool) -> Tensor:
    """Softmax over the classes, or the sigmoid of each."""
    return logits.softmax(1) if exclusive else logits.sigmoid()


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(B, K) sums over N of a (B, K, N) times b (B, 1 or K, N); not a matmul, which autocast or TF32 would round."""
    return (a * b).sum(2)


def soft_counts(logits: Tensor, target: Tensor, exclusive: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Soft true positives, predicted volume and actual volume in voxels, each (B, K), ignored voxels left out."""
    p = probabilities(logits, exclusive)
    inside, valid = membership(logits, target, exclusive)
    return dot(p, inside), dot(p, valid), inside.sum(2)


def voxel_cross_entropy(logits: Tensor, target: Tensor, exclusive: bool) -> tuple[Tensor, Tensor]:
    """Cross entropy in nats of every entry of `target`, and 1 where it counts; both (B, 1 or K, N), 0 where ignored."""
    inside, valid = membership(logits, target, exclusive)
    if exclusive:
        return -(logits.log_softmax(1) * inside).sum(1, keepdim=True), valid
    return F.softplus(logits * (1 - 2 * inside)) * valid, valid


def sample_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over what counts in each sample, then over samples: the loss of a joint batch is the mean of its equal parts."""
    return (values.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp_min(1)).mean()


def first_class(exclusive: bool, background: bool) -> int:
    """Where the classes that count begin: class 0 is the background only where classes exclude each other."""
    return 0 if background or not exclusive else 1


def class_weights(weights: Sequence[float] | None) -> Tensor | None:
    """`weights` (K,) for a buffer, none of them negative; None is all alike."""
    if weights is None:
        return None
    if not len(weights) or min(weights) < 0 or max(weights) <= 0:
        raise VesaliusError(f"Expected one weight of 0 or more for each class, not all 0; got {list(weights)}.")
    return torch.tensor(weights, dtype=torch.float64).float()


def weighted(values: Tensor, target: Tensor, weights: Tensor | None, *, exclusive: bool) -> Tensor:
    """`values` (B, 1 or K, N) times the weight (K,) of the true class; of overlapping classes only what is in them is weighed."""
    if weights is None:
        return values
    scale = weights.to(values.dtype)[:, None]
    if not exclusive:
        return values * torch.where(target == 1, scale, 1)
    classes = torch.arange(len(weights), dtype=target.dtype, device=target.device)[:, None]
    return values * ((target == classes) * scale).sum(1, keepdim=True)


def require_weights(weights: Tensor | None, logits: Tensor) -> None:
    """Raise a VesaliusError unless there is one weight for each logit."""
    if weights is not None and len(weights) != logits.shape[1]:
        raise VesaliusError(f"Expected {logits.shape[1]} class weights, one per logit; got {len(weights)}.")
