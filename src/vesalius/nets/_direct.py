"""Convolutions in bf16 as they are, product by product, where minimal filtering (`_winograd`) does not serve: gradients of those in steps
of two and of those of few voxels, and transposed ones whose kernel is their step. Kernels in C, for processors that multiply bf16; those
with a unit for whole matrices (AMX), on which this was not measured, are left to torch.

Sums are in single precision and rounded once, as torch's in bf16 are. Torch's convolutions themselves are as fast as the processor is.
The gradients of their weights are not, nor those of maps of few channels; and what its transposed ones give and get, it sorts. Those are
taken here (docs/explanation/speed.md has the figures).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.errors import VesaliusError
from vesalius.core.kernels import Kernel, features, kernel
from vesalius.core.kernels.lattice import Lattice, Sides
from vesalius.nets._together import LAYOUT, channels_together, tracing
from vesalius.nets._winograd import pays as filters
from vesalius.nets._winograd import run, strides_of

LANES = 16  # channels that are worked on together
FEW = 32  # channels of a map, up to which its gradient is faster here
CONVOLVE: dict[int, Any] = {4: F.conv2d, 5: F.conv3d}
Near = nn.Conv2d | nn.Conv3d
Rising = nn.ConvTranspose2d | nn.ConvTranspose3d


@lru_cache
def extent(lattice: Lattice, *, batch: int, fine: Sides, coarse: Sides) -> Tensor:
    """All of it and the sides of both maps along three axes, for the kernels; axes that an image lacks have one voxel."""
    rows = ((fine, 1), (coarse, 1), (lattice.side, 1), (lattice.step, 1), (lattice.pad, 0))
    return torch.tensor([batch, *(n for row, none in rows for n in (*(none,) * (3 - len(row)), *row))])


def kernels() -> tuple[Kernel, Kernel, Kernel, Kernel] | None:
    """Weights, convolution, transposed convolution and the gradient of the weights in C; None where torch convolves."""
    weights, down, up = kernel("direct_weights", "pppiip"), kernel("direct_down", "pppppiiip"), kernel("direct_up", "pppppiiip")
    gradient = kernel("direct_gradient", "ppppppiiiip")
    if "amx_bf16" in features() or weights is None or down is None or up is None or gradient is None:
        return None
    return weights, down, up, gradient


def serves(x: Tensor, layer: Near | Rising) -> bool:
    """Whether `layer` is of a kind that is worked on here, and `x` (B, C, *S) such a map."""
    weight = layer._parameters.get("weight")  # none where it is parametrised: some move on whenever they are looked at
    if tracing() or kernels() is None or not torch.is_autocast_enabled("cpu") or weight is None or weight.dtype != torch.float32:
        return False
    here = weight.device.type == "cpu" and torch.get_autocast_dtype("cpu") == torch.bfloat16 and type(x) is Tensor
    fits = x.dtype == torch.bfloat16 and x.ndim == weight.ndim and channels_together(x) and x.numel() > 0
    plain = layer.groups == 1 and layer.padding_mode == "zeros" and set(layer.dilation) == {1}
    wide = layer.in_channels % LANES == layer.out_channels % LANES == x.shape[1] % LANES == 0 and max(layer.stride) <= 2
    return here and fits and plain and wide


def learns(x: Tensor, layer: Near) -> bool:
    """Whether the gradient of the convolution `layer` of `x` should be worked out here, if one is wanted."""
    sides = layer.kernel_size
    same = set(sides) in ({1, 3}, {3}) and layer.padding == tuple(side // 2 for side in sides)
    if not torch.is_grad_enabled() or not same or not serves(x, layer):
        return False
    return max(layer.stride) > 1 or not filters(x.shape, max(layer.in_channels, layer.out_channels), x.dtype)


def raises(x: Tensor, layer: Rising) -> bool:
    """Whether the transposed `layer` should be given `x` here."""
    same = layer.kernel_size == layer.stride and {*layer.padding, *layer.output_padding} == {0}
    return same and serves(x, layer)


def lattice_of(layer: Near | Rising) -> Lattice:
    """How `layer` sees."""
    return Lattice(layer.kernel_size, layer.stride, tuple(int(pad) for pad in layer.padding), rising=isinstance(layer, Rising))


def packed(weight: Tensor, of: Tensor, *, turned: bool) -> Tensor:
    """The kernel `weight` (K, C, *sides) in the order of the products, for K channels of C, or `turned` for C of K."""
    made, weights = kernels(), weight.detach().transpose(0, 1) if turned else weight.detach()
    assert made is not None
    strides, out = strides_of(weights), torch.empty(weights.numel(), dtype=torch.bfloat16)
    made[0](weights.data_ptr(), strides.data_ptr(), out.data_ptr(), *weights.shape[:2], of.data_ptr())
    return out


def moved(x: Tensor, weight: Tensor, bias: Tensor | None, *, lattice: Lattice, sides: Sequence[int]) -> Tensor:
    """What `lattice` makes of `x` (B, C, *S), without a gradient: a map of `sides`."""
    made, up, own, there = kernels(), lattice.rising, tuple(x.shape[2:]), tuple(sides)
    assert made is not None
    of = extent(lattice, batch=len(x), fine=there if up else own, coarse=own if up else there)
    order, start = packed(weight, of, turned=up), None if bias is None else bias.detach().float().contiguous()
    out = torch.empty(len(x), weight.shape[1 if up else 0], *there, dtype=x.dtype, memory_format=LAYOUT[x.ndim])
    addresses = [x.data_ptr(), order.data_ptr(), None if start is None else start.data_ptr(), out.data_ptr(), of.data_ptr()]
    run(made[2 if up else 1], *addresses, x.shape[1], out.shape[1], torch.get_num_threads())
    return out


def learned(x: Tensor, grad: Tensor, weight: Tensor, *, lattice: Lattice) -> tuple[Tensor, Tensor]:
    """The gradients of the kernel `weight` (K, C, *sides) and of a bias, in float32, by that of what `lattice` made of `x`."""
    made, (fine, coarse) = kernels(), (grad, x) if lattice.rising else (x, grad)
    assert made is not None
    of = extent(lattice, batch=len(x), fine=tuple(fine.shape[2:]), coarse=tuple(coarse.shape[2:]))
    out, bias = torch.empty_like(weight), torch.empty(grad.shape[1])
    strides = strides_of(out)
    addresses = [fine.data_ptr(), coarse.data_ptr(), out.data_ptr(), strides.data_ptr(), bias.data_ptr(), of.data_ptr()]
    run(made[3], *addresses, fine.shape[1], coarse.shape[1], int(lattice.rising), torch.get_num_threads())
    return out, bias


class Convolved(torch.autograd.Function):
    """`Convolved.apply(lattice, weight, bias, x)`: torch's convolution, or a transposed one by a kernel, and their gradients."""

    @staticmethod
    def forward(ctx: Any, lattice: Lattice, *given: Any) -> Tensor:
        weight, bias, x = given
        ctx.lattice, ctx.biased = lattice, bias is not None
        if lattice.rising:
            ctx.save_for_backward(weight, x, None)
            return raised(x, weight, bias, lattice=lattice)
        low = weight.to(x.dtype)
        ctx.save_for_backward(weight, x, low)
        made: Tensor = CONVOLVE[x.ndim](x, low, None if bias is None else bias.to(x.dtype), lattice.step, lattice.pad)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (weight, x, low), lattice = ctx.saved_tensors, ctx.lattice
        if torch.is_grad_enabled():  # of this gradient another will be wanted
            return None, *by_torch(grads[0].float(), weight, x.float(), lattice=lattice, mask=(True, ctx.biased, True))
        grad = grads[0].to(x.dtype).contiguous(memory_format=LAYOUT[x.ndim])
        made, bias = learned(x, grad, weight, lattice=lattice) if any(ctx.needs_input_grad[1:3]) else (None, None)
        back = None
        if ctx.needs_input_grad[3] and (lattice.rising or x.shape[1] <= FEW):
            back = moved(grad, weight, None, lattice=lattice.turned(), sides=x.shape[2:])
        elif ctx.needs_input_grad[3]:
            back = by_torch(grad, low, x, lattice=lattice, mask=(False, False, True))[2]
        return None, made, bias if ctx.biased else None, back


def raised(x: Tensor, weight: Tensor, bias: Tensor | None, *, lattice: Lattice) -> Tensor:
    """A transposed convolution of `x` without a gradient."""
    sides = [side * step for side, step in zip(x.shape[2:], lattice.step, strict=True)]
    return moved(x, weight, bias, lattice=lattice, sides=sides)


def by_torch(grad: Tensor, weight: Tensor, x: Tensor, *, lattice: Lattice, mask: tuple[bool, bool, bool]) -> tuple[Tensor | None, ...]:
    """Those of the gradients of weights, bias and map that are in the `mask`, by an operation whose own gradients torch knows."""
    ones, ends = [1] * len(lattice.step), [grad.shape[1]]
    how = [ends, lattice.step, lattice.pad, ones, lattice.rising, [0] * len(ones), 1, [mask[2], mask[0], mask[1]]]
    with torch.autocast("cpu", enabled=False):
        back, made, bias = torch.ops.aten.convolution_backward(grad, x, weight, *how)
    return made, bias, back


def direct(x: Tensor, layer: Near | Rising) -> Tensor:
    """What `layer` gives of `x`, whose gradient it `learns` here or which it `raises`."""
    if x.shape[1] != layer.in_channels:
        raise VesaliusError(f"Expected {layer.in_channels} channels for a convolution; got {x.shape[1]}. "
                            "Does the image have the planned ones?")  # fmt: skip
    lattice = lattice_of(layer)
    if not torch.is_grad_enabled():
        return raised(x, layer.weight, layer.bias, lattice=lattice)
    with_gradient: Callable[..., Tensor] = Convolved.apply
    return with_gradient(lattice, layer.weight, layer.bias, x)
