"""Convolutions in bf16 as they are, product by product, where minimal filtering (`_winograd`) does not serve: in steps of two, in maps of
few voxels, and transposed ones whose kernel is their step. Kernels in C, for processors that multiply bf16; those with a unit for whole
matrices (AMX), on which this was not measured, are left to torch.

Sums are in single precision and rounded once, as torch's in bf16 are. What torch does besides is left out: weights are made bf16 and put
in order in one pass, every channel stays with its voxel, and what a transposed convolution gives is written where it belongs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.core.errors import VesaliusError
from vesalius.core.kernels import Kernel, features, kernel
from vesalius.nets._together import LAYOUT, channels_together, tracing
from vesalius.nets._winograd import run, strides_of

LANES = 16  # channels that are worked on together
Sides = tuple[int, ...]
Layer = nn.Conv2d | nn.Conv3d
Rising = nn.ConvTranspose2d | nn.ConvTranspose3d


@dataclass(frozen=True)
class Lattice:
    """How the voxels of a fine map and a coarse one see each other: a kernel of `side` voxels goes in `step`s, from `pad` voxels before
    the fine map on. A convolution makes the coarse one, a `rising` (transposed) one the fine one."""

    side: Sides
    step: Sides
    pad: Sides
    rising: bool = False

    def coarse(self, fine: Sequence[int]) -> Sides:
        """The sides of the coarse map."""
        return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(fine, self.side, self.step, self.pad, strict=True))

    def extent(self, batch: int, fine: Sequence[int], coarse: Sequence[int]) -> Tensor:
        """Everything in one, along three axes; those that an image lacks have one voxel."""
        rows = ((fine, 1), (coarse, 1), (self.side, 1), (self.step, 1), (self.pad, 0))
        return torch.tensor([batch, *(n for row, none in rows for n in (*(none,) * (3 - len(row)), *row))])


def kernels() -> tuple[Kernel, Kernel, Kernel, Kernel] | None:
    """Weights, convolution, transposed convolution and the gradient of the weights in C; None where torch convolves."""
    weights, down, up = kernel("direct_weights", "pppiip"), kernel("direct_down", "pppppiiip"), kernel("direct_up", "pppppiiip")
    gradient = kernel("direct_gradient", "ppppppiiiip")
    if "amx_bf16" in features() or weights is None or down is None or up is None or gradient is None:
        return None
    return weights, down, up, gradient


def serves(x: Tensor, layer: Layer | Rising) -> bool:
    """Whether `layer` is of a kind that is worked on here, and `x` (B, C, *S) such a map."""
    weight = layer._parameters.get("weight")  # none where it is parametrised: some move on whenever they are looked at
    if tracing() or kernels() is None or not torch.is_autocast_enabled("cpu") or weight is None or weight.dtype != torch.float32:
        return False
    here = weight.device.type == "cpu" and torch.get_autocast_dtype("cpu") == torch.bfloat16 and type(x) is Tensor
    fits = x.dtype == torch.bfloat16 and x.ndim == weight.ndim and channels_together(x) and x.numel() > 0
    plain = layer.groups == 1 and layer.padding_mode == "zeros" and set(layer.dilation) == {1}
    wide = layer.in_channels % LANES == layer.out_channels % LANES == 0 and max(layer.stride) <= 2
    return here and fits and plain and wide


def suits(x: Tensor, layer: Layer) -> bool:
    """Whether the convolution `layer` should be given `x` here."""
    sides = layer.kernel_size
    same = set(sides) <= {1, 3} and layer.padding == tuple(side // 2 for side in sides)
    return same and serves(x, layer) and max(sides) > 1


def raises(x: Tensor, layer: Rising) -> bool:
    """Whether the transposed `layer` should be given `x` here."""
    same = layer.kernel_size == layer.stride and set(layer.padding) == set(layer.output_padding) == {0}
    return same and serves(x, layer)


def packed(weight: Tensor, extent: Tensor, *, turned: bool) -> Tensor:
    """The kernel `weight` (K, C, *sides) in the order of the products, for K channels of C, or `turned` for C of K."""
    made, weights = kernels(), weight.detach()
    assert made is not None
    strides, ends = strides_of(weights), list(weights.shape[:2])
    if turned:
        strides, ends = torch.cat((strides[:2].flip(0), strides[2:])), ends[::-1]
    out = torch.empty(weights.numel(), dtype=torch.bfloat16)
    made[0](weights.data_ptr(), strides.data_ptr(), out.data_ptr(), *ends, extent.data_ptr())
    return out


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, lattice: Lattice, *, sides: Sequence[int] = ()) -> Tensor:
    """What `lattice` makes of `x` (B, C, *S) by `weight` without a gradient: the coarse map, or where it is rising the fine one, of
    `sides`."""
    made, own = kernels(), x.shape[2:]
    assert made is not None
    there = sides or (tuple(n * s for n, s in zip(own, lattice.step, strict=True)) if lattice.rising else lattice.coarse(own))
    extent = lattice.extent(len(x), *((there, own) if lattice.rising else (own, there)))
    order, start = packed(weight, extent, turned=lattice.rising), None if bias is None else bias.detach().float().contiguous()
    width = weight.shape[1 if lattice.rising else 0]
    out = torch.empty(len(x), width, *there, dtype=x.dtype, memory_format=LAYOUT[x.ndim])
    addresses = [x.data_ptr(), order.data_ptr(), None if start is None else start.data_ptr(), out.data_ptr(), extent.data_ptr()]
    run(made[2 if lattice.rising else 1], *addresses, x.shape[1], width, torch.get_num_threads())
    return out


def learned(x: Tensor, grad: Tensor, weight: Tensor, lattice: Lattice) -> tuple[Tensor, Tensor]:
    """The gradients of the kernel `weight` (K, C, *sides) and of a bias, in float32, by that of what `lattice` made of `x`."""
    made = kernels()
    assert made is not None
    fine, coarse = (grad, x) if lattice.rising else (x, grad)
    out, bias, extent = torch.empty_like(weight), torch.empty(grad.shape[1]), lattice.extent(len(x), fine.shape[2:], coarse.shape[2:])
    strides = strides_of(out)
    addresses = [fine.data_ptr(), coarse.data_ptr(), out.data_ptr(), strides.data_ptr(), bias.data_ptr(), extent.data_ptr()]
    run(made[3], *addresses, fine.shape[1], coarse.shape[1], int(lattice.rising), torch.get_num_threads())
    return out, bias


class Convolved(torch.autograd.Function):
    """`Convolved.apply(lattice, weight, bias, x)`: `convolved` with a gradient."""

    @staticmethod
    def forward(ctx: Any, lattice: Lattice, *given: Any) -> Tensor:
        weight, bias, x = given
        ctx.save_for_backward(weight, x)
        ctx.lattice, ctx.biased = lattice, bias is not None
        return convolved(x, weight, bias, lattice)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        weight, x = ctx.saved_tensors
        lattice: Lattice = ctx.lattice
        if torch.is_grad_enabled():  # of this gradient another will be wanted
            return None, *by_torch(grads[0], weight, x, lattice=lattice, biased=ctx.biased)
        grad = grads[0].to(x.dtype).contiguous(memory_format=LAYOUT[x.ndim])
        made, bias = learned(x, grad, weight, lattice) if any(ctx.needs_input_grad[1:3]) else (None, None)
        back = returned(grad, weight, lattice, x.shape[2:]) if ctx.needs_input_grad[3] else None
        return None, made, bias if ctx.biased else None, back


def returned(grad: Tensor, weight: Tensor, lattice: Lattice, sides: Sequence[int]) -> Tensor:
    """The gradient of a map of `sides` by that of what `lattice` made of it."""
    return convolved(grad, weight, None, Lattice(lattice.side, lattice.step, lattice.pad, rising=not lattice.rising), sides=sides)


def by_torch(grad: Tensor, weight: Tensor, x: Tensor, *, lattice: Lattice, biased: bool) -> tuple[Tensor | None, ...]:
    """The gradients of weights, bias and map by operations whose own gradients torch knows."""
    ones, ends = [1] * len(lattice.step), [grad.shape[1]]
    how = [ends, lattice.step, lattice.pad, ones, lattice.rising, [0] * len(ones), 1, [True, True, biased]]
    with torch.autocast("cpu", enabled=False):
        back, made, bias = torch.ops.aten.convolution_backward(grad.float(), x.float(), weight, *how)
    return made, bias, back.to(grad.dtype)


def direct(x: Tensor, layer: Layer | Rising) -> Tensor:
    """What `layer` gives of a map that it `suits` or that it `raises`, with a gradient where one is wanted."""
    if x.shape[1] != layer.in_channels:
        raise VesaliusError(f"Expected {layer.in_channels} channels for a convolution; got {x.shape[1]}. Does the image have the planned ones?")
    pad = tuple(int(p) for p in layer.padding)
    lattice = Lattice(layer.kernel_size, layer.stride, pad, rising=isinstance(layer, Rising))
    if not torch.is_grad_enabled():
        return convolved(x, layer.weight, layer.bias, lattice)
    with_gradient: Callable[..., Tensor] = Convolved.apply
    return with_gradient(lattice, layer.weight, layer.bias, x)
