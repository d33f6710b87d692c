"""The libraries of kernels that this processor can run, and memory in which to try them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vesalius.core import kernels

LIBRARIES = [name for name in kernels.NEEDS if kernels.find(kernels.FOLDER, wished=name)]
GUARD = 64  # numbers before and behind a map, which are not to be read or written


def kernel(library: str, name: str, kinds: str) -> Any:
    """A kernel of that library, whose arguments are of these `kinds`."""
    found = kernels.find(kernels.FOLDER, wished=library)
    assert found is not None
    entry = getattr(found[1], name)
    entry.argtypes, entry.restype = [kernels.KINDS[kind] for kind in kinds], None
    return entry


def guarded(shape: Sequence[int], kind: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """A map of that `shape` without numbers, between others that are none, and all of that memory."""
    room = torch.full((torch.Size(shape).numel() + 2 * GUARD,), float("nan"), dtype=kind)
    return room[GUARD:-GUARD].view(*shape), room


def untouched(room: Tensor) -> bool:
    """Whether nothing was written beside the map."""
    return bool(room[:GUARD].isnan().all() and room[-GUARD:].isnan().all())
