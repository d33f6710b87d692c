"""Convolutions of 3 x 3 (x 3) with fewer products along two axes (Lavin & Gray 2016, arXiv:1509.09308), by kernels in C.

In bf16, for processors that multiply bf16, tiles of 2 x 2: less than half as many products. The sums that stand between maps and products,
of inputs and of weights, are rounded to bf16 as maps and weights themselves are, so that what comes out is rounded about twice as coarsely
as torch's; the gradient of a whole U-Net is nearly as near to fp32 (benchmarks/levers.py). Processors with a unit for whole matrices (AMX),
on which this was not measured, are left to torch.

In fp32 tiles of 4 x 4: a fourth of the products, on processors with AVX2 or AVX-512. Of noise between 16 to 64 channels what comes out and
the gradients of maps are 2 times as far from double precision as torch's in fp32 (4 to 10 in 10^7), those of weights 2 to 5 times (1 to 4
in 10^6); the gradient of a whole U-Net is .00016 of its length away, by torch .00009. Sums between maps and products are some hundred times
as large as maps, and overflow with maps of 10^36.

Where the kernels are not, or for sizes that do not gain, torch convolves. Several maps can stand for one with the channels of all of them.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.core.errors import VesaliusError
from vesalius.core.kernels import Kernel, features, kernel
from vesalius.core.kernels.filtering import LANES, MOST, SIDES, WAYS, Number
from vesalius.core.kernels.filtering import pays as worth
from vesalius.nets._together import LAYOUT, channels_together, tracing

WEIGHTS, CONVOLUTION, GRADIENT = "pppiii", "ppppppiiiiiiiiiip", "ppppppiiiiiiiiip"  # what the kernels are given


NUMBERS: dict[torch.dtype, Number] = {torch.bfloat16: "bf16", torch.float32: "fp32"}


def kernels(kind: torch.dtype) -> tuple[Kernel, Kernel, Kernel] | None:
    """Weights, convolution and the gradient of the weights in C for maps of that `kind`; None where torch convolves."""
    whole = (kernel("winograd_full_weights", WEIGHTS), kernel("winograd_full", CONVOLUTION), kernel("winograd_full_gradient", GRADIENT))
    low = (kernel("winograd_weights", WEIGHTS), kernel("winograd", CONVOLUTION), kernel("winograd_gradient", GRADIENT))
    weights, convolution, gradient = whole if kind == torch.float32 else low
    if weights is None or convolution is None or gradient is None or (kind == torch.bfloat16 and "amx_bf16" in features()):
        return None
    return weights, convolution, gradient


def computed() -> torch.dtype | None:
    """In which kind of numbers a convolution on a processor computes here; None where that is for torch to say."""
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    return kind if kind in NUMBERS else None


def suits(maps: Sequence[Tensor], layer: nn.Conv2d | nn.Conv3d) -> bool:
    """Whether `layer` should be given the maps (B, C, *S) beside each other here."""
    x, sides, kind = maps[0], layer.kernel_size, computed()
    weight = layer._parameters.get("weight")  # none where it is parametrised: some move on whenever they are looked at
    if tracing() or kind is None or kernels(kind) is None or weight is None or weight.dtype != torch.float32:
        return False
    alike = all(one.ndim == weight.ndim and (len(one), *one.shape[2:]) == (len(x), *x.shape[2:]) for one in maps)
    if weight.device.type != "cpu" or not alike or any(type(one) is not Tensor for one in maps):
        return False
    plain = layer.groups == 1 and layer.padding_mode == "zeros" and {*layer.stride, *layer.dilation} == {1}
    same = sides in SIDES and layer.padding == tuple(side // 2 for side in sides)
    wide = all(width % LANES == 0 for width in (len(weight), *(one.shape[1] for one in maps)))
    fits = len(maps) <= MOST and all(one.dtype == kind and channels_together(one) for one in maps)
    return plain and same and wide and fits and pays(x.shape, max(layer.in_channels, layer.out_channels), kind)


def pays(shape: Sequence[int], channels: int, kind: torch.dtype) -> bool:
    """Whether maps of that `shape` (B, C, *S) are worth it."""
    return worth(shape[0], shape[2:], channels, number=NUMBERS[kind])


def both(maps: Sequence[Tensor | None]) -> list[int | None]:
    """The addresses of one or two maps."""
    return [None if one is None else one.data_ptr() for one in (*maps, None)][:MOST]


def widths(maps: Sequence[Tensor]) -> list[int]:
    """Their channels."""
    return [*(one.shape[1] for one in maps), 0][:MOST]


def extent(x: Tensor, weight: Tensor) -> tuple[int, ...]:
    """(B, D, H, W) of `x` (B, C, *S), the depth of the kernel, and how many threads to take; of an image D is 1."""
    taps = weight.shape[2] if x.ndim == 5 else 1
    return len(x), *(1,) * (5 - x.ndim), *x.shape[2:], taps, torch.get_num_threads()


def run(call: Kernel, *words: int | None) -> None:
    """A kernel that needs memory of its own."""
    done = torch.zeros(1, dtype=torch.int64)
    call(*words, done.data_ptr())
    if not done.item():
        raise MemoryError("There is no memory left for a convolution. Make patch.size smaller.")


def strides_of(weight: Tensor) -> Tensor:
    """How far the elements of a kernel (K, C, *sides) are apart, with or without depth."""
    near, places = weight.stride()[:2], weight.stride()[2:]
    return torch.tensor([*near, *(0,) * (3 - len(places)), *places])


def transformed(weight: Tensor, kind: torch.dtype, *, turned: bool) -> Tensor:
    """What the kernel `weight` (K, C, *sides) gives for the points, in that `kind` of numbers; `turned` for the way back from K to C
    channels."""
    made, weights = kernels(kind), weight.detach()
    assert made is not None
    strides, first, ends = strides_of(weights), weights, tuple(weights.shape[:2])
    taps = weights.shape[2] if weights.ndim == 5 else 1
    out = torch.empty(prod(ends) * taps * WAYS[NUMBERS[kind]].points, dtype=kind)
    if turned:
        last = tuple(slice(side - 1, side) for side in weights.shape[2:])
        first, ends = weights[(slice(None), slice(None), *last)], ends[::-1]
        strides = torch.cat((strides[:2].flip(0), -strides[2:]))
    made[0](first.data_ptr(), strides.data_ptr(), out.data_ptr(), *ends, taps)
    return out


def convolved(maps: Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of maps (B, C, *S) beside each other, zeros beyond their border, without a gradient."""
    x = maps[0]
    made = kernels(x.dtype)
    assert made is not None
    points, start = transformed(weight, x.dtype, turned=False), None if bias is None else bias.detach().float().contiguous()
    out = torch.empty(len(x), len(weight), *x.shape[2:], dtype=x.dtype, memory_format=LAYOUT[x.ndim])
    addresses = [*both(maps), points.data_ptr(), None if start is None else start.data_ptr(), *both([out])]
    run(made[1], *addresses, *widths(maps), *widths([out]), *extent(x, weight))
    return out


def returned(grad: Tensor, weight: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of the maps by that of their convolution."""
    made = kernels(grad.dtype)
    assert made is not None
    points, out = transformed(weight, grad.dtype, turned=True), [torch.empty_like(one) for one in maps]
    run(made[1], *both([grad]), points.data_ptr(), None, *both(out), *widths([grad]), *widths(out), *extent(grad, weight))
    return out


def learned(maps: Sequence[Tensor], grad: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the kernel `weight` (K, C, *sides) and of a bias (K,), in float32."""
    made = kernels(grad.dtype)
    assert made is not None
    out, bias = torch.empty_like(weight), torch.empty(len(weight))
    strides = strides_of(out)
    addresses = [*both(maps), grad.data_ptr(), out.data_ptr(), strides.data_ptr(), bias.data_ptr()]
    run(made[2], *addresses, *widths(maps), len(weight), *extent(grad, weight))
    return out, bias


class Convolved(torch.autograd.Function):
    """`Convolved.apply(weight, bias, *maps)`: `convolved` with a gradient."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        weight, bias, *maps = given
        ctx.save_for_backward(weight, *maps)
        ctx.biased = bias is not None
        return convolved(maps, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, *maps = ctx.saved_tensors
        if torch.is_grad_enabled():  # of this gradient another will be wanted
            return by_torch(grads[0], weight, maps, biased=ctx.biased)
        grad = grads[0].to(maps[0].dtype).contiguous(memory_format=LAYOUT[grads[0].ndim])
        made, bias = learned(maps, grad, weight) if any(ctx.needs_input_grad[:2]) else (None, None)
        back = returned(grad, weight, maps) if any(ctx.needs_input_grad[2:]) else [None] * len(maps)
        return made, bias if ctx.biased else None, *back


def by_torch(grad: Tensor, weight: Tensor, maps: Sequence[Tensor], *, biased: bool) -> tuple[Tensor | None, ...]:
    """The gradients of weights, bias and maps by operations whose own gradients torch knows."""
    ones, half = [1] * (grad.ndim - 2), [side // 2 for side in weight.shape[2:]]
    with torch.autocast("cpu", enabled=False):
        x, ends = torch.cat(list(maps), 1).float(), [len(weight)]
        back, made, bias = torch.ops.aten.convolution_backward(
            grad.float(), x, weight, ends, ones, half, ones, False, [0] * len(ones), 1, [True, True, biased]
        )
    return made, bias, *(part.to(grad.dtype) for part in back.split([one.shape[1] for one in maps], 1))


def winograd(maps: Sequence[Tensor], layer: nn.Conv2d | nn.Conv3d) -> Tensor:
    """What `layer` gives of maps that it `suits`, with a gradient where one is wanted."""
    if sum(widths(maps)) != layer.in_channels:
        found = " + ".join(str(one.shape[1]) for one in maps)
        raise VesaliusError(f"Expected {layer.in_channels} channels for a convolution; got {found}. Does the image have the planned ones?")
    if not torch.is_grad_enabled():
        return convolved(maps, layer.weight, layer.bias)
    with_gradient: Callable[..., Tensor] = Convolved.apply
    return with_gradient(layer.weight, layer.bias, *maps)
