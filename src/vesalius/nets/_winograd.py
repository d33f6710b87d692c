"""Convolutions of 3 x 3 (x 3) in bf16 whose products along two axes are fewer than half (Lavin & Gray 2016, arXiv:1509.09308): kernels in C,
for processors that multiply bf16 but have no unit for whole matrices, where torch's own convolutions are faster.

The sums between inputs and products, and those of the weights, are rounded to bf16 as inputs and weights themselves are; of what comes out
twice as much is rounding as with torch (benchmarks/levers.py). Where the kernels are not, or no size was seen to gain, torch convolves.
"""

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.core.kernels import Kernel, features, kernel
from vesalius.nets._together import LAYOUT, channels_together, tracing

LANES = 16  # channels that are worked on together
POINTS = 16  # products of a tile for each pair of channels
SIDES = ((3, 3, 3), (1, 3, 3), (3, 3))
LEAST = 2  # tiles of 2 x 2 voxels for each channel, from which on this pays
WHOLE = 2 / 3  # of the voxels of the tiles that must be in the map


def kernels() -> tuple[Kernel, Kernel, Kernel] | None:
    """Weights, convolution and the gradient of the weights in C; None where torch's own are as fast."""
    weights, convolution = kernel("winograd_weights", "pppiii"), kernel("winograd", "ppppiiiiiiii")
    gradient = kernel("winograd_gradient", "pppppiiiiiiii")
    if "amx_bf16" in features() or weights is None or convolution is None or gradient is None:
        return None
    return weights, convolution, gradient


def fits(x: Tensor, layer: nn.Conv2d | nn.Conv3d) -> bool:
    """Whether `layer` should be given `x` (B, C, *S) here."""
    plain = layer.groups == 1 and layer.padding_mode == "zeros" and {*layer.stride, *layer.dilation} == {1}
    same = layer.padding == tuple(side // 2 for side in layer.kernel_size)
    return plain and same and suits(x, layer.weight)


def suits(x: Tensor, weight: Tensor) -> bool:
    """Whether `x` and the kernel `weight` (K, C, *sides) are of a kind and size for which this is faster."""
    if tracing() or x.dtype != torch.bfloat16 or weight.dtype != torch.float32 or weight.shape[2:] not in SIDES or x.shape[1] % LANES:
        return False
    planes, (height, width) = prod(x.shape[:1] + x.shape[2:-2]), x.shape[-2:]
    tiles = -(-height // 2) * -(-width // 2)
    enough = planes * tiles >= LEAST * max(weight.shape[:2]) and height * width >= WHOLE * 4 * tiles
    return enough and weight.shape[0] % LANES == 0 and channels_together(x) and kernels() is not None


def sizes(x: Tensor) -> tuple[int, ...]:
    """(B, D, H, W) of `x` (B, C, *S); of an image D is 1."""
    return len(x), *(1,) * (5 - x.ndim), *x.shape[2:]


def transformed(weight: Tensor, *, turned: bool) -> Tensor:
    """What the kernel `weight` (K, C, *sides) gives for the points; `turned` for the way back from K to C channels."""
    made, weights = kernels(), weight.detach().float()
    assert made is not None
    (rows, columns), places = weights.stride()[:2], weights.stride()[2:]
    strides = torch.tensor([rows, columns, *(0,) * (3 - len(places)), *places])
    first, (outer, inner) = weights, weights.shape[:2]
    taps = weights.shape[2] if len(places) == 3 else 1
    out = torch.empty(weights.shape[:2].numel() * taps * POINTS, dtype=torch.bfloat16)
    if turned:
        first, (outer, inner) = weights[(..., *(-1,) * len(places))], (inner, outer)
        strides = torch.cat((strides[:2].flip(0), -strides[2:]))
    made[0](first.data_ptr(), strides.data_ptr(), out.data_ptr(), outer, inner, taps)
    return out


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, *, turned: bool = False) -> Tensor:
    """The convolution of `x` (B, C, *S) without a gradient, zeros beyond its border."""
    made = kernels()
    assert made is not None
    points, width = transformed(weight, turned=turned), weight.shape[1 if turned else 0]
    start = None if bias is None else bias.detach().float().contiguous()
    out = torch.empty(len(x), width, *x.shape[2:], dtype=x.dtype, memory_format=LAYOUT[x.ndim])
    taps = weight.shape[2] if x.ndim == 5 else 1
    begin = None if start is None else start.data_ptr()
    made[1](x.data_ptr(), points.data_ptr(), begin, out.data_ptr(), *sizes(x), x.shape[1], width, taps, torch.get_num_threads())
    return out


def gradients(x: Tensor, grad: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the kernel `weight` (K, C, *sides) and of the bias (K,), float32, by what was convolved and the gradient of the
    result."""
    made = kernels()
    assert made is not None
    out, bias = torch.empty_like(weight), torch.empty(len(weight))
    places = out.stride()[2:]
    strides, taps = torch.tensor([*out.stride()[:2], *(0,) * (3 - len(places)), *places]), weight.shape[2] if x.ndim == 5 else 1
    addresses = (x.data_ptr(), grad.data_ptr(), out.data_ptr(), strides.data_ptr(), bias.data_ptr())
    made[2](*addresses, *sizes(x), x.shape[1], len(weight), taps, torch.get_num_threads())
    return out, bias


class Convolved(torch.autograd.Function):
    """`Convolved.apply(x, weight, bias)`: `convolved` with a gradient."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        x, weight, bias = given
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return convolved(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = [*ctx.needs_input_grad[:2], ctx.biased and ctx.needs_input_grad[2]]
        if torch.is_grad_enabled():  # of this gradient another will be wanted
            return by_torch(grads[0], x, weight, wanted)
        grad = grads[0].to(x.dtype).contiguous(memory_format=LAYOUT[x.ndim])
        back = convolved(grad, weight, None, turned=True) if wanted[0] else None
        made, bias = gradients(x, grad, weight) if any(wanted[1:]) else (None, None)
        return back, made, bias if ctx.biased else None


def by_torch(grad: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor | None, ...]:
    """The gradients of the input, the weights and the bias, by operations whose own gradients torch knows."""
    ones, half = [1] * (x.ndim - 2), [side // 2 for side in weight.shape[2:]]
    found = torch.ops.aten.convolution_backward(
        grad.float(), x.float(), weight, [len(weight)], ones, half, ones, False, [0] * len(ones), 1, wanted
    )
    return found[0] if found[0] is None else found[0].to(x.dtype), found[1], found[2]


def winograd(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of `x` with a kernel that `suits` it, with a gradient where one is wanted."""
    if not torch.is_grad_enabled():
        return convolved(x, weight, bias)
    out: Tensor = Convolved.apply(x, weight, bias)
    return out
