"""The first convolution of a network in bf16, of an image of few channels: kernels in C, for processors that multiply bf16; those with a
unit for whole matrices (AMX), on which this was not measured, are left to torch, as is whatever wants a gradient of the image.

Torch takes three times as long as the products need (docs/explanation/speed.md): 16 channels fill its registers, and an image has one.
Sums are in single precision and rounded once, as torch's in bf16 are.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.core.errors import VesaliusError
from vesalius.core.kernels import Kernel, features, kernel
from vesalius.nets._together import LAYOUT, tracing
from vesalius.nets._winograd import run, strides_of

SIDES = ((3, 3, 3), (1, 3, 3), (3, 3))
LANES = 16  # channels of the result that are worked on together
MOST = 2  # channels of the image; of more torch is as fast
BORDER = 4  # zeros in a row of the image that is kept
BEHIND = 64  # zeros behind it
Near = nn.Conv2d | nn.Conv3d


def kernels() -> tuple[Kernel, Kernel, Kernel, Kernel] | None:
    """Image, weights, convolution and the gradient of the weights in C; None where torch convolves."""
    image, weights = kernel("first_keep", "ppppi"), kernel("first_weights", "pppp")
    convolution, gradient = kernel("first_forward", "pppppip"), kernel("first_gradient", "ppppppip")
    if "amx_bf16" in features() or image is None or weights is None or convolution is None or gradient is None:
        return None
    return image, weights, convolution, gradient


def begins(x: Tensor, layer: Near) -> bool:
    """Whether `layer` should be given the image `x` (B, C, *S) here."""
    weight = layer._parameters.get("weight")  # none where it is parametrised: some move on whenever they are looked at
    if tracing() or kernels() is None or not torch.is_autocast_enabled("cpu") or weight is None or weight.dtype != torch.float32:
        return False
    here = weight.device.type == x.device.type == "cpu" and torch.get_autocast_dtype("cpu") == torch.bfloat16 and type(x) is Tensor
    fits = x.dtype == torch.float32 and x.ndim == weight.ndim and x.numel() > 0 and not (x.requires_grad and torch.is_grad_enabled())
    plain = layer.groups == 1 and layer.padding_mode == "zeros" and {*layer.stride, *layer.dilation} == {1}
    same = layer.kernel_size in SIDES and layer.padding == tuple(side // 2 for side in layer.kernel_size)
    return here and fits and plain and same and layer.in_channels <= MOST and layer.out_channels % LANES == 0


@lru_cache
def extent(shape: tuple[int, ...], taps: int, made: int) -> Tensor:
    """(B, C, D, H, W) of an image, the depth of the kernel and the channels of the result; of a picture D is 1."""
    return torch.tensor([*shape[:2], *(1,) * (5 - len(shape)), *shape[2:], taps, made])


def extent_of(x: Tensor, weight: Tensor) -> Tensor:
    """The same of `x` and the kernel `weight`."""
    return extent(tuple(x.shape), weight.shape[2] if weight.ndim == 5 else 1, len(weight))


def kept(x: Tensor, of: Tensor) -> Tensor:
    """An image in bf16, channel by channel, with zeros around it."""
    made = kernels()
    assert made is not None
    batch, channels, depth, height, width, taps, _ = of.tolist()
    out = torch.empty(batch * channels * (depth + taps - 1) * (height + 2) * (width + BORDER) + BEHIND, dtype=torch.bfloat16)
    image, strides = x.detach(), strides_of(x)
    made[0](image.data_ptr(), strides.data_ptr(), out.data_ptr(), of.data_ptr(), torch.get_num_threads())
    return out


def convolved(image: Tensor, weight: Tensor, bias: Tensor | None, *, x: Tensor) -> Tensor:
    """The convolution of `x`, of which `image` was `kept`, without a gradient."""
    made, of, weights = kernels(), extent_of(x, weight), weight.detach()
    assert made is not None
    strides, start = strides_of(weights), None if bias is None else bias.detach().float().contiguous()
    rows = weights[0].numel() // 3
    order = torch.empty(len(weights) * (rows + 1) // 2 * 2 * 3, dtype=torch.bfloat16)
    made[1](weights.data_ptr(), strides.data_ptr(), order.data_ptr(), of.data_ptr())
    out = torch.empty(len(x), len(weight), *x.shape[2:], dtype=torch.bfloat16, memory_format=LAYOUT[x.ndim])
    addresses = [image.data_ptr(), order.data_ptr(), None if start is None else start.data_ptr(), out.data_ptr(), of.data_ptr()]
    run(made[2], *addresses, torch.get_num_threads())
    return out


def learned(image: Tensor, grad: Tensor, weight: Tensor, *, x: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the kernel `weight` and of a bias, in float32."""
    made, of = kernels(), extent_of(x, weight)
    assert made is not None
    out, bias = torch.empty_like(weight), torch.empty(len(weight))
    strides = strides_of(out)
    addresses = [image.data_ptr(), grad.data_ptr(), out.data_ptr(), strides.data_ptr(), bias.data_ptr(), of.data_ptr()]
    run(made[3], *addresses, torch.get_num_threads())
    return out, bias


class Begun(torch.autograd.Function):
    """`Begun.apply(x, weight, bias)`: `convolved` with a gradient of weights and bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *given: Any) -> Tensor:
        weight, bias = given
        image = kept(x, extent_of(x, weight))
        ctx.save_for_backward(x, weight, image)
        ctx.biased = bias is not None
        return convolved(image, weight, bias, x=x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, image = ctx.saved_tensors
        if torch.is_grad_enabled():  # of this gradient another will be wanted
            return None, *by_torch(grads[0].float(), weight, x, biased=ctx.biased)
        grad = grads[0].to(torch.bfloat16).contiguous(memory_format=LAYOUT[x.ndim])
        made, bias = learned(image, grad, weight, x=x)
        return None, made, bias if ctx.biased else None


def by_torch(grad: Tensor, weight: Tensor, x: Tensor, *, biased: bool) -> tuple[Tensor | None, ...]:
    """The gradients of weights and bias by an operation whose own gradients torch knows."""
    ones, half = [1] * (grad.ndim - 2), [side // 2 for side in weight.shape[2:]]
    how = [[len(weight)], ones, half, ones, False, [0] * len(ones), 1, [False, True, biased]]
    with torch.autocast("cpu", enabled=False):
        _, made, bias = torch.ops.aten.convolution_backward(grad, x, weight, *how)
    return made, bias


def first(x: Tensor, layer: Near) -> Tensor:
    """What `layer` gives of an image with which it `begins`, with a gradient where one is wanted."""
    if x.shape[1] != layer.in_channels:
        raise VesaliusError(f"Expected {layer.in_channels} channels for a convolution; got {x.shape[1]}. "
                            "Does the image have the planned ones?")  # fmt: skip
    if not torch.is_grad_enabled():
        return convolved(kept(x, extent_of(x, layer.weight)), layer.weight, layer.bias, x=x)
    with_gradient: Callable[..., Tensor] = Begun.apply
    return with_gradient(x, layer.weight, layer.bias)
