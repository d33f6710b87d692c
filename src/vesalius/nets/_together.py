"""The passes between the convolutions of a decoder, for maps on a processor whose channels lie together in memory.

Same formulas as torch's own layers, other kernels. Torch's normalisation works on the channels of one voxel at a time, and 16 of them
fill half of a register: here some voxels count as one with as many times the channels. Its backward of a transposed convolution takes
six times as long as the matrix products that it is (all torch 2.13; 1.06 of a step: benchmarks/levers.py).
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

Norm = nn.InstanceNorm2d | nn.InstanceNorm3d
WIDE = 256  # channels, at which the kernels that normalise are fastest
FEW = 20480  # numbers along the first four axes
KINDS = (torch.bfloat16, torch.float32)  # of numbers
LAYOUT = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_together(x: Tensor) -> bool:
    """Whether the channels of a voxel of `x` (B, C, *S) lie together in the memory of a processor."""
    return x.device.type == "cpu" and x.ndim in LAYOUT and x.is_contiguous(memory_format=LAYOUT[x.ndim])


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


def plainly(x: Tensor, layer: nn.Module) -> bool:
    """Whether `x` and the weights of a convolution `layer` are in fp32 outside autocast and channels lie together, nobody watching."""
    if tracing():
        return False
    weight = layer._parameters.get("weight")
    alike = type(x) is Tensor and weight is not None and x.ndim == weight.ndim and x.dtype == weight.dtype == torch.float32
    return alike and channels_together(x) and not torch.is_autocast_enabled("cpu")


def few(x: Tensor) -> bool:
    """Whether `x` is a single sample so small that torch (2.13) convolves it in fp32 without oneDNN: many times slower, channels apart."""
    return len(x) == 1 and prod(x.shape[:4]) <= FEW and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def eased(x: Tensor, layer: nn.Conv2d | nn.Conv3d) -> Tensor | None:
    """What `layer` gives of `x` (B, C, *S) in fp32 where torch takes a slow way that puts channels apart: of one voxel by a matrix product
    (1.08 of a step on a processor with AVX2 alone), of a single small sample by oneDNN; None elsewhere."""
    if not plainly(x, layer) or x.shape[1] != layer.in_channels or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None
    if layer.groups == 1 and {*layer.kernel_size, *layer.stride} == {1} and not any(layer.padding):
        return F.linear(x.movedim(1, -1), layer.weight.flatten(1), layer.bias).movedim(-1, 1)
    if not few(x):
        return None
    made: Tensor = torch.mkldnn_convolution(x, layer.weight, layer.bias, layer.padding, layer.stride, layer.dilation, layer.groups)
    return made


def tracing() -> bool:
    """Whether torch writes down, counts or transforms what is computed (compiles, traces, `torch.func`): it should then see its own
    layers."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return True
    return _get_current_dispatch_mode() is not None or torch._C._functorch.peek_interpreter_stack() is not None


def learning(x: Tensor) -> bool:
    """Whether a gradient of `x` is wanted, in maps that are worked on here."""
    return not tracing() and torch.is_grad_enabled() and x.requires_grad and x.dtype == torch.bfloat16 and channels_together(x)


def joins(x: Tensor, skip: Tensor) -> bool:
    """Whether a way up of these maps is worked on here."""
    if tracing() or (torch.is_grad_enabled() and not x.requires_grad):
        return False
    return x.dtype == skip.dtype and all(one.dtype in KINDS and channels_together(one) for one in (x, skip))
