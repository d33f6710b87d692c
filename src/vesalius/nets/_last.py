"""The gradients of the last convolution of a network in bf16, of every voxel by itself and to few classes: a kernel in C.

Both are a pass over memory, and torch finds that of the weights and that of the map one after the other: here they are found in one, in
single precision. The convolution itself is torch's.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.kernels import Kernel, kernel
from vesalius.nets._together import LAYOUT, channels_together, tracing
from vesalius.nets._winograd import run

LANES = 16  # channels of the map that are worked on together
MOST = 8  # classes
CONVOLVE: dict[int, Any] = {4: F.conv2d, 5: F.conv3d}
Near = nn.Conv2d | nn.Conv3d


def gradient() -> Kernel | None:
    """In C; None where torch works it out."""
    return kernel("last_gradient", "pppppiiiip")


def ends(x: Tensor, layer: Near) -> bool:
    """Whether the gradient of `layer` of the map `x` (B, C, *S) should be worked out here, if one is wanted."""
    weight = layer._parameters.get("weight")  # none where it is parametrised: some move on whenever they are looked at
    if tracing() or gradient() is None or not torch.is_autocast_enabled("cpu") or weight is None or weight.dtype != torch.float32:
        return False
    here = weight.device.type == "cpu" and torch.get_autocast_dtype("cpu") == torch.bfloat16 and type(x) is Tensor
    fits = x.dtype == torch.bfloat16 and x.ndim == weight.ndim and channels_together(x) and x.numel() > 0
    plain = layer.groups == 1 and layer.padding_mode == "zeros" and set(layer.stride) == {1}
    alone = set(layer.kernel_size) == {1} and set(layer.padding) == {0} and layer.out_channels <= MOST
    return torch.is_grad_enabled() and here and fits and plain and alone and layer.in_channels == x.shape[1] and x.shape[1] % LANES == 0


def gradients(grad: Tensor, weight: Tensor, x: Tensor, *, back: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Those of weights (K, C, ones) and bias, in float32, and where it is wanted `back` that of `x`."""
    made, (few, channels) = gradient(), weight.shape[:2]
    assert made is not None
    low, sums = weight.detach().reshape(few, channels).bfloat16().float().contiguous(), torch.empty(few * (channels + 1))
    out = torch.empty_like(x) if back else None
    addresses = [x.data_ptr(), low.data_ptr(), grad.data_ptr(), None if out is None else out.data_ptr(), sums.data_ptr()]
    run(made, *addresses, grad.numel() // few, channels, few, torch.get_num_threads())
    slopes, bias = torch.split(sums, [few * channels, few])
    return torch.empty_like(weight).copy_(slopes.reshape(weight.shape)), bias.clone(), out


class Ended(torch.autograd.Function):
    """`Ended.apply(x, weight, bias)`: torch's convolution, and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *given: Any) -> Tensor:
        weight, bias = given
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        made: Tensor = CONVOLVE[x.ndim](x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # of this gradient another will be wanted
            return by_torch(grads[0], weight, x, biased=ctx.biased)
        grad = grads[0].to(x.dtype).contiguous(memory_format=LAYOUT[x.ndim])
        made, bias, back = gradients(grad, weight, x, back=ctx.needs_input_grad[0])
        return back, made, bias if ctx.biased else None


def by_torch(grad: Tensor, weight: Tensor, x: Tensor, *, biased: bool) -> tuple[Tensor | None, ...]:
    """The gradients of map, weights and bias by an operation whose own gradients torch knows."""
    ones, none = [1] * (grad.ndim - 2), [0] * (grad.ndim - 2)
    how = [[len(weight)], ones, none, ones, False, none, 1, [True, True, biased]]
    with torch.autocast("cpu", enabled=False):
        back, made, bias = torch.ops.aten.convolution_backward(grad.float(), x.float(), weight, *how)
    return back.to(grad.dtype), made, bias


def last(x: Tensor, layer: Near) -> Tensor:
    """What `layer` gives of a map with which it `ends`."""
    with_gradient: Callable[..., Tensor] = Ended.apply
    return with_gradient(x, layer.weight, layer.bias)
