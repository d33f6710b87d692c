"""A transposed convolution and the convolution behind it as one: on the way up of a U-Net no norm and no activation stands between them.

A voxel of the fine grid sees three fine voxels along an axis, which lie in two coarse ones: of 27 products for each fine channel, and one
for each coarse channel, 8 for each coarse channel are left, and neither the raised map nor its place beside the skip is made. The numbers
are the same up to rounding, the border, beyond which there is nothing, included. `pays` says where this is taken.

Fine voxels are counted in blocks, one voxel for each step of the stride; along an axis where a voxel sees two coarse ones a block begins
one voxel before what the coarse voxel of its number covers, and there is one block more than coarse voxels.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Steps = Sequence[int]
Box = tuple[slice, ...]
Rising = nn.ConvTranspose2d | nn.ConvTranspose3d
Near = nn.Conv2d | nn.Conv3d
CONVOLVE: dict[int, Any] = {2: F.conv2d, 3: F.conv3d}
SEEN = {(1, 1): 1, (3, 1): 3, (1, 2): 1, (3, 2): 2}  # coarse voxels that a fine one sees, by side of the kernel and stride
LEAST = 4  # voxels along each axis of a coarse map
GAIN = 0.9  # part of the products that may be left
WORTH = {False: 20, True: 250}  # fine voxels for each coarse channel, from which on joining pays: without a gradient, and with one
EVERY = slice(None)


def seen(up: Rising, conv: Near) -> tuple[int, ...]:
    """Coarse voxels along each axis that a voxel behind `conv` sees, which comes after the transposed convolution `up`; none where the
    two are not joined here."""
    pairs, ones = list(zip(conv.kernel_size, up.stride, strict=True)), (1,) * len(conv.kernel_size)
    plain = conv.stride == ones and conv.dilation == ones and conv.groups == 1 and conv.bias is not None and up.bias is not None
    fits = all(pair in SEEN for pair in pairs) and conv.padding == tuple(side // 2 for side in conv.kernel_size)
    return tuple(SEEN[pair] for pair in pairs) if plain and fits else ()


def pays(x: Tensor, up: Rising, conv: Near, *, learning: bool) -> bool:
    """Whether the coarse map `x` (B, C, *s) should go through `up` and `conv` at once."""
    across = seen(up, conv)
    if not across or min(x.shape[2:]) < LEAST:
        return False
    before = prod(conv.kernel_size) * up.out_channels + up.in_channels
    after = up.in_channels * prod(n * (side + (n == 2)) / side for n, side in zip(across, x.shape[2:], strict=True))
    voxels = len(x) * prod(x.shape[2:]) * prod(up.stride)
    return after < GAIN * before and voxels >= WORTH[learning] * up.in_channels


def joined(rising: Tensor, near: Tensor, across: Steps) -> list[Tensor]:
    """The kernels `rising` (C, c, *strides) of a transposed convolution and `near` (K, c, *sides) of a convolution as one. For each
    place in a block along all axes but the last: (stride K, C, *across), K outputs for every place along the last axis."""
    steps, sides = tuple(rising.shape[2:]), tuple(near.shape[2:])
    left = near.movedim((0, 1), (-2, -1)).reshape(-1, near.shape[1])
    each = (left @ rising.movedim(0, -1).reshape(near.shape[1], -1)).reshape(prod(sides), len(near), prod(steps), len(rising))
    made = places(sides, steps, tuple(across)).to(each.dtype) @ each.movedim(2, 1).reshape(-1, len(near) * len(rising))
    made = made.reshape(prod(steps[:-1]), steps[-1], *across, len(near), len(rising))
    whole = made.movedim((-2, -1), (2, 3)).reshape(prod(steps[:-1]), -1, len(rising), *across)
    return list(whole.unbind(0))


@lru_cache
def places(sides: tuple[int, ...], steps: tuple[int, ...], across: tuple[int, ...]) -> Tensor:
    """Which products count where, 0 or 1: a row for each place in a block and each coarse voxel that it sees, a column for each place in
    the kernel of the convolution and each in that of the transposed one."""
    with torch.inference_mode(False):  # what is kept must serve gradients too
        found = torch.ones(())
        for side, step, n in zip(sides, steps, across, strict=True):
            inside, coarse, near, own = (torch.arange(count) for count in (step, n, side, step))
            reach = step * (n - 1 - coarse) + inside[:, None]
            axis = (reach[..., None, None] == own - near[:, None] + side - 1).float()
            found = torch.tensordot(found, axis, 0)
        order = [4 * axis + k for k in range(4) for axis in range(len(sides))]
        return found.permute(order).reshape(prod(steps) * prod(across), prod(sides) * prod(steps))


def edges(bias: Tensor, near: Tensor) -> Tensor:
    """(*sides, K) what `bias` (c,) at every voxel gives behind the kernel `near` (K, c, *sides), at the first, inner and last voxels
    along each axis."""
    sides = near.shape[2:]
    flat = bias.reshape(1, -1, *[1] * len(sides)).expand(1, -1, *sides)
    out: Tensor = CONVOLVE[len(sides)](flat, near, padding=[side // 2 for side in sides])[0]
    return out.movedim(0, -1)


class Placed(torch.autograd.Function):
    """`Placed.apply(steps, out, edge, *blocks)`: `out` (B, K, *S), whose channels lie together, and what is added to it: the results of
    the kernels of `joined`, and `edge` (*sides, K) at its border."""

    @staticmethod
    def forward(ctx: Any, steps: Steps, *maps: Tensor) -> Tensor:
        out, edge, *blocks = maps
        ctx.steps, ctx.edge, ctx.block = steps, edge.shape, blocks[0].shape
        ctx.mark_dirty(out)
        return place(out, edge, steps=steps, blocks=blocks)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,) = grads
        batch, channels, *sides = ctx.block
        blocks = []
        for fine, part in _rows(grad, ctx.steps, sides):
            block = grad.new_zeros(batch, *sides, channels).movedim(-1, 1)
            part(block).copy_(fine)
            blocks.append(block)
        edge, voxels = torch.zeros(ctx.edge), grad.movedim(1, -1)
        for here, there in _faces(ctx.edge):
            edge[there] += _collapsed(voxels[here].float(), edge[there].shape)
        return None, grad, edge, *blocks


def place(out: Tensor, edge: Tensor, *, steps: Steps, blocks: Sequence[Tensor]) -> Tensor:
    """`Placed` without a gradient."""
    for (fine, part), block in zip(_rows(out, steps, blocks[0].shape[2:]), blocks, strict=True):
        fine.add_(part(block))
    voxels = out.movedim(1, -1)
    for here, there in _faces(edge.shape):
        voxels[here] += _spread(edge[there].to(out.dtype), out.shape[2:])
    return out


def _rows(out: Tensor, steps: Steps, blocks: Sequence[int]) -> Iterator[tuple[Tensor, Callable[[Tensor], Tensor]]]:
    """For each place in a block along all axes but the last: the voxels (B, ..., K) of `out` there, and where they are in a map
    (B, stride K, *blocks)."""
    fine, voxels = out.movedim(1, -1), out.shape[-1]
    early = [step * n > side for side, step, n in zip(out.shape[2:], steps, blocks, strict=True)]
    last = slice(early[-1], early[-1] + voxels)
    for inside in product(*map(range, steps[:-1])):
        spans = [_span(*axis) for axis in zip(inside, steps[:-1], early[:-1], strict=True)]

        def part(block: Tensor, within: Any = (EVERY, *(span[1] for span in spans), last)) -> Tensor:
            rows = block.movedim(1, -1).contiguous()
            return rows.view(*rows.shape[:-2], steps[-1] * rows.shape[-2], -1)[within]

        yield fine[(EVERY, *(span[0] for span in spans))], part


def _span(inside: int, step: int, early: bool) -> tuple[slice, slice]:
    """Along an axis: the fine voxels at the place `inside` of a block, and their blocks."""
    if not early:
        return slice(inside, None, step), EVERY
    return (slice(step - 1, None, step), slice(1, None)) if inside == 0 else (slice(inside - 1, None, step), slice(None, -1))


def _faces(edge: Sequence[int]) -> Iterator[tuple[Box, Box]]:
    """The border of voxels (B, *S, K) in faces that share none, and their places in an `edge` of the shape (*sides, K)."""
    sides = edge[:-1]
    for axis, last in product(range(len(sides)), (False, True)):
        if sides[axis] == 3:
            here = [slice(1, -1) if side == 3 else EVERY for side in sides[:axis]]
            there = [slice(side // 2, side // 2 + 1) for side in sides[:axis]]
            end = slice(-1, None) if last else slice(1)
            yield (EVERY, *here, end), (*there, end)


def _spread(edge: Tensor, sides: Sequence[int]) -> Tensor:
    """Part of an edge (*places, K) for a face of a map of `sides`: its first, inner and last places for the voxels that they stand for."""
    for axis, side in enumerate(sides):
        if edge.shape[axis] == 3:
            edge = edge.index_select(axis, torch.tensor([0, *[1] * (side - 2), 2]))
    return edge


def _collapsed(face: Tensor, shape: Sequence[int]) -> Tensor:
    """The sums (*places, K) of a face (B, *S, K): over first, inner and last voxels along each axis, or over all."""
    for axis, places in enumerate(shape[:-1], start=1):
        parts = face.tensor_split((1, -1), axis) if places == 3 else (face,)
        face = torch.cat([part.sum(axis, keepdim=True) for part in parts], axis)
    return face.sum(0)


class Kept:
    """Kernels that were joined for weights which have not changed since."""

    def __init__(self) -> None:
        self.of: tuple[tuple[Tensor, int, int], ...] = ()
        self.made: Any = None

    def __deepcopy__(self, memo: Any) -> "Kept":
        return Kept()

    def get(self, layers: Sequence[nn.Module], make: Callable[[], Any]) -> Any:
        """What `make` gives, from before if all weights of `layers` are what they were."""
        weights = [weight for layer in layers for weight in layer.parameters()]
        if any(weight.is_inference() for weight in weights):  # torch does not count their changes
            return make()
        now = tuple((weight, weight._version, weight.data_ptr()) for weight in weights)
        if not self._same(now):
            self.made, self.of = make(), now
        return self.made

    def _same(self, now: Sequence[tuple[Tensor, int, int]]) -> bool:
        return len(now) == len(self.of) and all(a[0] is b[0] and a[1:] == b[1:] for a, b in zip(now, self.of, strict=True))


def kernels(up: Rising, conv: Near, *, dtype: torch.dtype) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """What `climbed` needs: joined kernels, the kernel of the skip, its bias with what the bias of `up` gives inside, and at the border
    what that gives beyond it. Kernels are joined in single precision, or in `dtype` where a gradient is wanted."""
    learning = torch.is_grad_enabled()
    assert up.bias is not None and conv.bias is not None  # see `seen`
    with torch.autocast("cpu", enabled=False):
        near, other = torch.split(conv.weight, [up.out_channels, conv.in_channels - up.out_channels], 1)
        one, two = (weight.to(dtype) if learning else weight.float() for weight in (up.weight, near))
        made, edge = joined(one, two, seen(up, conv)), edges(up.bias.float(), near.float())
        inner = edge[tuple(side // 2 for side in edge.shape[:-1])]
        return [kernel.to(dtype) for kernel in made], other.to(dtype), (conv.bias + inner).to(dtype), edge - inner


def climbed(x: Tensor, skip: Tensor, *, up: Rising, conv: Near, kept: Kept) -> Tensor:
    """`conv` of `up(x)` beside `skip`."""
    convolve, learning = CONVOLVE[x.ndim - 2], torch.is_grad_enabled()
    make = partial(kernels, up, conv, dtype=x.dtype)
    made, near, bias, edge = make() if learning else kept.get([up, conv], make)
    out = convolve(skip, near, bias, padding=conv.padding)
    blocks = [convolve(x, kernel, padding=[n // 2 for n in seen(up, conv)]) for kernel in made]
    if not learning:
        return place(out, edge, steps=up.stride, blocks=blocks)
    placed: Callable[..., Tensor] = Placed.apply
    return placed(up.stride, out, edge, *blocks)
