"""Sums over voxels of which soft Dice and cross entropy are made, where classes exclude each other: (B, 4, K) of each class the
probability inside it, the probability everywhere, its voxels, and their cross entropy in nats; ignored voxels left out.

Where the kernels in C are (core/kernels/soft_counts.c), logits in bf16 or fp32 on a processor are read once for the sums and once for the
gradient, and no map of probabilities is ever made: in torch there are a dozen of them, each as large as the logits and in single precision.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from vesalius.core.kernels import Kernel, kernel
from vesalius.losses._counts import dot, flat, membership
from vesalius.nets._together import LAYOUT, tracing

FORWARD = "soft_counts_forward", "pppiiiiiii"
BACKWARD = "soft_counts_backward", "ppppiiiiiii"
SINGLE_FORWARD = "soft_counts_single_forward", FORWARD[1]
SINGLE_BACKWARD = "soft_counts_single_backward", BACKWARD[1]
BLOCK, MOST, WORTH = 4096, 255, 2**17  # voxels of a block, as the kernels have it; classes; logits that are worth another thread


def calls(kind: torch.dtype) -> tuple[Kernel, Kernel] | None:
    """The kernels for logits of that `kind`, there and back; None where there are none."""
    names = {torch.bfloat16: (FORWARD, BACKWARD), torch.float32: (SINGLE_FORWARD, SINGLE_BACKWARD)}.get(kind)
    there, back = map(kernel, *zip(*names, strict=True)) if names else (None, None)
    return None if there is None or back is None else (there, back)


def counted(logits: Tensor, target: Tensor) -> Tensor:
    """The sums (B, 4, K) of logits (B, K, *S) and classes (B, 1, *S) that exclude each other, of the shapes that `flat` admits."""
    if serves(logits, target):
        apply: Callable[..., Tensor] = Counted.apply
        return apply(logits, target)
    return step_by_step(logits, target)


def step_by_step(logits: Tensor, target: Tensor) -> Tensor:
    """The same in torch."""
    logits, target = flat(logits, target, True)
    inside, valid = membership(logits, target, True)
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    return torch.stack([dot(p, inside), dot(p, valid), inside.sum(2), -dot(log_p, inside)], 1)


def serves(logits: Tensor, target: Tensor) -> bool:
    """Whether the kernels can: there are such, nobody writes down what is computed, and all is where and what they expect."""
    if tracing() or type(logits) is not Tensor or type(target) is not Tensor:
        return False
    if target.shape != (len(logits), 1, *logits.shape[2:]):
        return False
    here = logits.device.type == target.device.type == "cpu" and target.dtype == torch.uint8
    dense = logits.is_contiguous() or (logits.ndim in LAYOUT and logits.is_contiguous(memory_format=LAYOUT[logits.ndim]))
    if not (here and dense and logits.ndim > 2 and logits.numel() and logits.shape[1] <= MOST and target.is_contiguous()):
        return False
    return calls(logits.dtype) is not None


class Counted(torch.autograd.Function):
    """`Counted.apply(logits, target)`."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        batch, classes, *sides = logits.shape
        sums, call = torch.empty(batch, -(-prod(sides) // BLOCK), 4, classes, dtype=torch.float64), calls(logits.dtype)
        assert call is not None  # see `serves`
        call[0](logits.data_ptr(), target.data_ptr(), sums.data_ptr(), *sizes(logits))
        ctx.save_for_backward(logits, target)
        return sums.sum(1).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        logits, target = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted, of which the kernels know nothing
            return torch.autograd.grad(step_by_step(logits, target), [logits], grads[0], create_graph=True)[0], None
        slopes, out, call = grads[0].float().contiguous(), torch.empty_like(logits), calls(logits.dtype)
        assert call is not None
        call[1](logits.data_ptr(), target.data_ptr(), slopes.data_ptr(), out.data_ptr(), *sizes(logits))
        return out, None


def sizes(logits: Tensor) -> tuple[int, ...]:
    """Samples, voxels, classes, the steps from one of each to the next, and how many threads may work."""
    batch, classes, *sides = logits.shape
    voxels = prod(sides)
    steps = (voxels, 1) if logits.is_contiguous() else (1, classes)  # from class to class, and from voxel to voxel
    return batch, voxels, classes, voxels * classes, *steps, min(torch.get_num_threads(), 1 + logits.numel() // WORTH)
