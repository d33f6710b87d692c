"""All that moves voxels of a batch on a processor, in one pass over each sample: `places` of the kernels, which chooses for itself between
copies, the axes and space (core/kernels/places.c). Where it cannot be had the ways through torch stand (_sampling.py, _lines.py)."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vesalius.core.kernels import kernel

KINDS = "ppiiiii"  # of what the kernel takes
SHARED = 2**16  # voxels of a patch from which several threads pay
LARGEST, LONGEST = 2**31, 2**20  # voxels of a source and of a side: numbers have 32 bits, and places must leave some for fractions
SIZES = (1, 2, 4, 8)  # bytes of what a mask holds


@dataclass(frozen=True, eq=False)
class Shown:
    """One tensor (B, C, *L), the room for what it shows, `out` (B, C, *S), and whether that is the nearest voxel or linear."""

    source: Tensor
    out: Tensor
    nearest: bool


def show(shown: Sequence[Shown], matrices: Sequence[Tensor], fields: Sequence[Tensor | None], *,
         spacing: tuple[float, ...], outside: str) -> bool:  # fmt: skip
    """Fill every `out` of a batch, each sample by its homogeneous matrix from output to input (n + 1, n + 1) and, where there is one, its
    displacement (n, *S), both millimetre-like; False, and nothing is filled, where the kernel cannot be had for these tensors."""
    filled = kernel("places", KINDS)
    if filled is None or not all(map(_fits, shown)) or not _agree(shown, matrices, fields):
        return False
    axes, sides, patch = len(spacing), shown[0].source.shape[2:], shown[0].out.shape[2:]
    sources = [_dense(one.source) for one in shown]
    matrix = torch.stack(list(matrices)).double()
    kept = [None if field is None else field.to(torch.float32).contiguous() for field in fields]  # alive until the end
    flat = (1,) * (3 - axes)
    numbers = [*flat, *sides, *flat, *patch, math.prod(sides[-2:]), sides[-1]]
    for one, source in zip(shown, sources, strict=True):
        numbers += one.nearest, source.element_size(), source.shape[1], source.stride(1)
    ends = [
        (end.data_ptr(), end.stride(0) * end.element_size())
        for one, source in zip(shown, sources, strict=True)
        for end in (source, one.out)
    ]
    start, step = matrix.data_ptr(), matrix.stride(0) * matrix.element_size()
    for row, field in enumerate(kept):
        numbers += start + row * step, 0 if field is None else field.data_ptr(), *(first + row * further for first, further in ends)
    threads = torch.get_num_threads() if math.prod(patch) >= SHARED else 1
    table, steps = struct.pack(f"{len(numbers)}q", *numbers), struct.pack(f"{axes}d", *spacing)
    filled(table, steps, axes, len(shown), len(kept), outside == "zeros", threads)
    return True


def _agree(shown: Sequence[Shown], matrices: Sequence[Tensor], fields: Sequence[Tensor | None]) -> bool:
    """Whether all is of the same samples, of which there are some, and of one shape before and after."""
    shapes = {(len(matrices), *one.source.shape[2:], *one.out.shape[2:]) for one in shown if len(one.source) == len(matrices)}
    patch = shown[0].out.shape[2:]
    there = all(field is None or tuple(field.shape) == (len(patch), *patch) for field in fields)
    return len(matrices) == len(fields) > 0 and len(shapes) == 1 and all(len(one.source) == len(matrices) for one in shown) and there


def _fits(one: Shown) -> bool:
    """Whether the kernel knows tensors of this kind."""
    source, out = one.source, one.out
    known = source.element_size() in SIZES and not source.is_complex() if one.nearest else source.dtype == torch.float32
    sides, patch = source.shape[2:], out.shape[2:]
    within = len(sides) == len(patch) and all(map(int.__ge__, sides, patch))
    plain = source.device.type == "cpu" and not source.requires_grad and source.shape[:2] == out.shape[:2]
    return (known and within and plain and source.dtype == out.dtype and out.is_contiguous()
            and len(sides) in (2, 3) and sides[-1] > 1 and max(sides) <= LONGEST and math.prod(sides) < LARGEST)  # fmt: skip


def _dense(source: Tensor) -> Tensor:
    """`source` with the voxels of each channel one after another."""
    step = 1
    for side, stride in zip(reversed(source.shape[2:]), reversed(source.stride()[2:]), strict=True):
        if side > 1 and stride != step:
            return source.contiguous()
        step *= side
    return source
