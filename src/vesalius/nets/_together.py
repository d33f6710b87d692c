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
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Norm = nn.InstanceNorm2d | nn.InstanceNorm3d
WIDE = 256  # channels, at which the kernels that normalise are fastest
LAYOUT = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_together(x: Tensor) -> bool:
    """Whether the channels of a voxel of `x` (B, C, *S) lie together in the memory of a processor."""
    return x.device.type == "cpu" and x.is_contiguous(memory_format=LAYOUT[x.ndim])


def widened(x: Tensor) -> Tensor:
    """One sample (1, C, *S) as (1, g C, N / g, 1): g neighbouring voxels as one, so many that `WIDE` channels are there."""
    channels, voxels = x.shape[1], prod(x.shape[2:])
    group = next((g for g in (32, 16, 8, 4, 2) if g * channels <= WIDE and voxels % g == 0), 1)
    return x.movedim(1, -1).reshape(1, voxels // group, 1, group * channels).movedim(-1, 1)


def moments(wide: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of each channel of a sample that was `widened`."""
    exact = torch.zeros(wide.shape[1])  # without statistics to update, in single precision, torch gives its own in bf16
    mean, variance = (found.view(-1, channels) for found in torch.batch_norm_update_stats(wide, exact, exact, 0.0))
    between, whole = torch.var_mean(mean, 0, correction=0)
    return whole, variance.mean(0) + between


def normalised_widely(x: Tensor, layer: Norm, *, slope: float = 1.0, own: bool = False) -> Tensor:
    """Every channel of every sample of `x` by its own mean and variance, then leaky with `slope`, where no gradient is wanted; in the
    memory of `x` where that is nobody else's (`own`)."""
    out = x if own else torch.empty_like(x)
    for sample, made in zip(torch.split(x, 1), torch.split(out, 1), strict=True):
        wide = widened(sample)
        mean, variance, weight, bias = _many([*moments(wide, x.shape[1]), layer.weight, layer.bias], wide.shape[1] // x.shape[1])
        into = widened(made), torch.empty(0), torch.empty(0)
        torch.native_batch_norm(wide, weight, bias, mean, variance, False, 0.0, layer.eps, out=into)
    return out if slope == 1 else F.leaky_relu_(out, slope)


def _many(values: Sequence[Tensor | None], times: int) -> list[Tensor | None]:
    """Every one of `values` (C,) so many `times` in a row."""
    there = torch.stack([value.float() for value in values if value is not None]).repeat(1, times).unbind()
    return [*there, *[None] * (len(values) - len(there))]


class Normalised(torch.autograd.Function):
    """`Normalised.apply(x, weight, bias, eps, slope)`: every channel of every sample by its own mean and variance, then leaky. Samples are
    worked on where they lie: nothing is put together afterwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, slope: float) -> Tensor:
        out, kept = torch.empty_like(x), torch.empty(2, len(x), x.shape[1])
        for k, (sample, made) in enumerate(zip(torch.split(x, 1), torch.split(out, 1), strict=True)):
            torch.native_batch_norm(sample, weight, bias, None, None, True, 0.0, eps, out=(made, kept[0, k], kept[1, k]))
        if slope != 1:
            F.leaky_relu_(out, slope)
        ctx.save_for_backward(x, weight, out, kept)
        ctx.eps, ctx.slope = eps, slope
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, out, kept = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=LAYOUT[x.ndim])
        into, slopes = torch.empty_like(x), torch.empty(2, len(x), x.shape[1])
        for k, (sample, one, made, back) in enumerate(zip(*(torch.split(t, 1) for t in (x, grad, out, into)), strict=True)):
            if ctx.slope != 1:
                one = torch.ops.aten.leaky_relu_backward(one, made, ctx.slope, True)
            torch.ops.aten.native_batch_norm_backward.out(
                one, sample, weight, None, None, kept[0, k], kept[1, k], True, ctx.eps, [True] * 3,
                out0=back, out1=slopes[0, k], out2=slopes[1, k])  # fmt: skip
        by_weight, by_bias = slopes.sum(1)
        return into, *(None if weight is None else one for one in (by_weight, by_bias)), None, None


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


def joins(x: Tensor, skip: Tensor) -> bool:
    """Whether a way up of these maps is worked on here."""
    if tracing() or (torch.is_grad_enabled() and not learning(x)):
        return False
    return all(one.dtype == torch.bfloat16 and channels_together(one) for one in (x, skip))
