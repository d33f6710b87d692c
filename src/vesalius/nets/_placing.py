"""What the kernels of a joined way up give is put in its places, and taken out of them, in one pass where the kernels in C are
(core/kernels/place.c); see `place` of _climb.py for the same in torch."""

import ctypes
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from vesalius.core.kernels import kernel
from vesalius.nets._together import LAYOUT, channels_together, tracing

FORWARD, BACKWARD = ("place_forward", "ppppi"), ("place_backward", "ppppi")
AXES = 3


def serves(fine: Tensor, edge: Sequence[int]) -> bool:
    """Whether the kernels take `fine` (B, K, *S) and its edge of the shape (*sides, K)."""
    if tracing() or type(fine) is not Tensor or fine.dtype != torch.bfloat16 or not fine.numel() or not channels_together(fine):
        return False
    wide = all(place == 1 or side > 1 for side, place in zip(fine.shape[2:], edge, strict=False))
    return wide and kernel(*FORWARD) is not None and kernel(*BACKWARD) is not None


def put(out: Tensor, edge: Tensor, *, steps: Sequence[int], blocks: Sequence[Tensor]) -> bool:
    """Adds `blocks` (B, stride K, *blocks) and `edge` to `out` (B, K, *S); False where nothing was done, since that is not for the
    kernels."""
    if not serves(out, edge.shape) or any(one.dtype != out.dtype for one in blocks):
        return False
    call, maps, border = kernel(*FORWARD), [one.contiguous(memory_format=LAYOUT[out.ndim]) for one in blocks], edge.float().contiguous()
    assert call is not None  # see `serves`
    where = grid(out, edge.shape, steps=steps, block=maps[0].shape)
    call(out.data_ptr(), border.data_ptr(), numbers([one.data_ptr() for one in maps]), where, torch.get_num_threads())
    return True


def taken(grad: Tensor, edge: Sequence[int], *, steps: Sequence[int], block: Sequence[int]) -> tuple[Tensor, list[Tensor]] | None:
    """The gradients at an edge and at each block, of those shapes, where `grad` (B, K, *S) is that at what they were put in; None where
    that is not for the kernels."""
    if torch.is_grad_enabled() or not serves(grad, edge):
        return None
    call, sums = kernel(*BACKWARD), torch.zeros(*edge, dtype=torch.float64)
    maps = [torch.empty(*block, dtype=grad.dtype, memory_format=LAYOUT[grad.ndim]) for _ in range(prod(steps[:-1]))]
    assert call is not None
    where = grid(grad, edge, steps=steps, block=block)
    call(grad.data_ptr(), sums.data_ptr(), numbers([one.data_ptr() for one in maps]), where, torch.get_num_threads())
    return sums.float(), maps


def grid(fine: Tensor, edge: Sequence[int], *, steps: Sequence[int], block: Sequence[int]) -> Any:
    """What the kernels call a grid, two axes as three."""
    axes = (fine.shape[2:], steps, block[2:], edge[:-1])
    return numbers([*fine.shape[:2], *(one for axis in axes for one in (*[1] * (AXES - len(axis)), *axis))])


def numbers(values: Sequence[int]) -> Any:
    """Whole numbers of 64 bits in a row of memory."""
    return (ctypes.c_int64 * len(values))(*values)
