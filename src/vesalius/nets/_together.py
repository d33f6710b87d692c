"""The passes between the convolutions of a decoder, for maps in bf16 on a processor whose channels lie together in memory.

Same formulas as torch's own layers, other kernels. Torch's normalisation works on the channels of one voxel at a time, and 16 of them fill
half of a register: here some voxels count as one with as many times the channels. Its backward of a transposed convolution takes six times
as long as the matrix products that it is. And the gradients of two maps that were put beside each other are slices of one, which cost
eight times as much to add to another as maps of their own (all torch 2.13; benchmarks/levers.py).
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDE = 64  # channels, from which on a kernel's registers are full
LAYOUT = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_together(x: Tensor) -> bool:
    """Whether the channels of a voxel of `x` (B, C, *S) lie together in the memory of a processor."""
    return x.device.type == "cpu" and x.is_contiguous(memory_format=LAYOUT[x.ndim])


def widened(x: Tensor) -> Tensor:
    """One sample (1, C, *S) as (1, g C, N / g, 1): g neighbouring voxels as one, so many that `WIDE` channels are there."""
    channels, voxels = x.shape[1], prod(x.shape[2:])
    group = next((g for g in (1, 2, 4, 8) if g * channels >= WIDE and voxels % g == 0), 1)
    return x.movedim(1, -1).reshape(1, voxels // group, 1, group * channels).movedim(-1, 1)


def moments(wide: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of each channel of a sample that was `widened`."""
    zeros = torch.zeros(wide.shape[1])
    mean, variance = (found.reshape(-1, channels) for found in torch.batch_norm_update_stats(wide, zeros, torch.ones_like(zeros), 0.0))
    return mean.mean(0), variance.mean(0) + mean.var(0, correction=0)


def normalised_widely(x: Tensor, layer: nn.InstanceNorm2d | nn.InstanceNorm3d) -> Tensor:
    """Every channel of every sample of `x` by its own mean and variance, where no gradient is wanted."""
    out = []
    for sample in torch.split(x, 1):
        wide = widened(sample)
        mean, variance, weight, bias = _many([*moments(wide, x.shape[1]), layer.weight, layer.bias], wide.shape[1] // x.shape[1])
        made = F.batch_norm(wide, mean, variance, weight, bias, training=False, eps=layer.eps)
        out.append(made.movedim(1, -1).reshape(1, *x.shape[2:], x.shape[1]).movedim(-1, 1))
    return out[0] if len(out) == 1 else torch.cat(out)


def _many(values: Sequence[Tensor | None], times: int) -> list[Tensor | None]:
    """Every one of `values` (C,) so many `times` in a row."""
    return [None if value is None else value.repeat(times) for value in values]


def raised(x: Tensor, layer: nn.ConvTranspose2d | nn.ConvTranspose3d) -> Tensor:
    """What the transposed `layer`, whose kernel is its stride, makes of `x`: one matrix product, whose results are put in their places."""
    sides, kernel, width = x.shape[2:], layer.kernel_size, layer.out_channels
    spread = layer.weight.movedim((0, 1), (-1, -2)).reshape(-1, x.shape[1])
    bias = None if layer.bias is None else layer.bias.repeat(prod(kernel))
    apart = F.linear(x.movedim(1, -1), spread, bias).reshape(len(x), *sides, *kernel, width)
    n = len(sides)
    order = [0, *(axis for k in range(n) for axis in (1 + k, 1 + n + k)), 1 + 2 * n]
    whole = [side * step for side, step in zip(sides, kernel, strict=True)]
    return apart.permute(order).reshape(len(x), *whole, width).movedim(-1, 1)


class Beside(torch.autograd.Function):
    """`Beside.apply(a, b)`: the channels of two maps beside each other; the gradient of each is a map of its own."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        ctx.widths = (first.shape[1], second.shape[1])
        return torch.cat((first, second), 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        parts = torch.split(grads[0], ctx.widths, 1)
        return tuple(part.contiguous(memory_format=LAYOUT[part.ndim]) for part in parts)


def tracing() -> bool:
    """Whether torch writes down what is computed: it should then see its own layers."""
    return torch.compiler.is_compiling()


def learning(x: Tensor) -> bool:
    """Whether a gradient of `x` is wanted, in maps that are worked on here."""
    return not tracing() and torch.is_grad_enabled() and x.requires_grad and x.dtype == torch.bfloat16 and channels_together(x)
