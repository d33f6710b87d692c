"""Instance normalisation and the leaky ReLU behind it as one, forward and backward, where the kernels in C are (core/kernels/normalise.c).

For maps in bf16 or fp32 on a processor whose channels lie together. Torch goes over such a map six times on the way there and back for
what here takes two passes each way, writes samples apart and together again, and sums in single precision.
"""

from collections.abc import Callable
from math import gcd, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.kernels import Kernel, kernel
from vesalius.nets._together import LAYOUT, Norm, channels_together, tracing

TILE, BLOCK, MORE = 64, 128, 11  # as the kernels have them: numbers in a tile, tiles in a block, and lanes of room beside the blocks
FORWARD = "normalise_forward", "ppppppiiiidf"
BACKWARD = "normalise_backward", "ppppppppiiiif"
SINGLE_FORWARD = "normalise_single_forward", FORWARD[1]
SINGLE_BACKWARD = "normalise_single_backward", BACKWARD[1]


def calls(kind: torch.dtype) -> tuple[Kernel, Kernel] | None:
    """The kernels for maps of that `kind`, there and back; None where there are none."""
    names = {torch.bfloat16: (FORWARD, BACKWARD), torch.float32: (SINGLE_FORWARD, SINGLE_BACKWARD)}.get(kind)
    there, back = map(kernel, *zip(*names, strict=True)) if names else (None, None)
    return None if there is None or back is None else (there, back)


def room(x: Tensor) -> Tensor:
    """Memory in which the kernels work on `x` (B, C, *S): sums of each block, then of each sample, and what is done to each lane."""
    batch, channels, voxels = *x.shape[:2], prod(x.shape[2:])
    period = min(channels // gcd(channels, TILE), -(-voxels * channels // TILE))
    blocks = voxels * channels // TILE // (BLOCK * period) + 1
    return torch.empty(batch, (2 * blocks + MORE) * period * TILE)


def fits(x: Tensor, layer: Norm) -> bool:
    """Whether the kernels can serve: there are such, nobody writes down what is computed, and all is where and what they expect."""
    if tracing() or type(x) is not Tensor or calls(x.dtype) is None or not x.numel() or not channels_together(x):
        return False
    given = [one for one in (layer.weight, layer.bias) if one is not None]
    plain = all(one.dtype == torch.float32 and one.device == x.device and one.is_contiguous() for one in given)
    if x.ndim != (5 if isinstance(layer, nn.InstanceNorm3d) else 4) or any(one.shape != x.shape[1:2] for one in given):
        return False  # torch says what is wrong, or that a sample is alone
    return plain


def normalised_at_once(x: Tensor, layer: Norm, *, slope: float = 1.0, own: bool = False) -> Tensor | None:
    """`x` (B, C, *S) normalised per sample, then leaky with `slope`; None where that is not for the kernels. `own`: nobody else needs
    what is in `x`."""
    learning = torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in (x, layer.weight, layer.bias))
    if not fits(x, layer) or (learning and prod(x.shape[2:]) == 1):  # torch says what is wrong with a single voxel
        return None
    if learning:
        apply: Callable[..., Tensor] = Normalised.apply
        return apply(x, layer.weight, layer.bias, (layer.eps, slope))
    out = x if own else torch.empty_like(x)
    there(x, out, layer=(layer.weight, layer.bias), numbers=(layer.eps, slope))
    return out


class Normalised(torch.autograd.Function):
    """`Normalised.apply(x, weight, bias, (eps, slope))`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *how: Any) -> Tensor:
        weight, bias, numbers = how
        out = torch.empty_like(x)
        moments = there(x, out, layer=(weight, bias), numbers=numbers)
        ctx.numbers = numbers
        ctx.save_for_backward(x, weight, bias, moments)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, moments = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted, of which the kernels know nothing
            given = {k: one for k, one in enumerate((x, weight, bias)) if ctx.needs_input_grad[k]}
            made = step_by_step(x, weight, bias, numbers=ctx.numbers)
            found = dict(zip(given, torch.autograd.grad(made, [*given.values()], grads[0], create_graph=True), strict=True))
            return *(found.get(k) for k in range(3)), None
        grad = grads[0].contiguous(memory_format=LAYOUT[x.ndim])
        out, slopes = back(x, grad, layer=(weight, bias), kept=(moments, ctx.numbers[1]))
        scale, shift = (None if one is None else slopes[k] for k, one in enumerate((weight, bias)))
        return out, scale, shift, None


def step_by_step(x: Tensor, weight: Tensor | None, bias: Tensor | None, *, numbers: tuple[float, float]) -> Tensor:
    """The same formula in torch."""
    variance, mean = torch.var_mean(x.float(), tuple(range(2, x.ndim)), correction=0, keepdim=True)
    flat = (x.float() - mean) * torch.rsqrt(variance + numbers[0])
    sides = (-1, *[1] * (x.ndim - 2))
    scaled = flat if weight is None else flat * weight.view(sides)
    return F.leaky_relu(scaled if bias is None else scaled + bias.view(sides), numbers[1]).to(x.dtype)


Pair = tuple[Tensor | None, Tensor | None]


def there(x: Tensor, out: Tensor, *, layer: Pair, numbers: tuple[float, float]) -> Tensor:
    """Writes into `out`, and gives the moments (B, 2, C): mean, and one over the deviation. `layer`: weight and bias; `numbers`: what is
    added to the variance, and the slope of the leaky ReLU."""
    moments, space, call = torch.empty(len(x), 2, x.shape[1], dtype=torch.float64), room(x), calls(x.dtype)
    assert call is not None  # see `fits`
    call[0](x.data_ptr(), out.data_ptr(), *map(address, layer), moments.data_ptr(), space.data_ptr(), *sizes(x), *numbers)
    return moments


def back(x: Tensor, grad: Tensor, *, layer: Pair, kept: tuple[Tensor, float]) -> tuple[Tensor, Tensor]:
    """The gradients at `x`, and at weight and bias (2, C); `kept`: the moments, and the slope."""
    out, slopes, space, call = torch.empty_like(x), torch.empty(2, x.shape[1]), room(x), calls(x.dtype)
    assert call is not None
    places = [one.data_ptr() for one in (kept[0], space, slopes)]
    call[1](x.data_ptr(), grad.data_ptr(), out.data_ptr(), *map(address, layer), *places, *sizes(x), kept[1])
    return out, slopes


def address(value: Tensor | None) -> int | None:
    """Where it is."""
    return None if value is None else value.data_ptr()


def sizes(x: Tensor) -> tuple[int, int, int, int]:
    """Samples, voxels and channels of `x` (B, C, *S), and how many threads may work on it."""
    return len(x), prod(x.shape[2:]), x.shape[1], torch.get_num_threads()
