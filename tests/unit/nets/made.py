"""Maps on which kernels in bf16 are tried."""

import torch
from torch import Tensor

from vesalius.nets._together import LAYOUT


def whole_numbers(shape: tuple[int, ...], seed: int, *, low: int = -2, high: int = 3) -> Tensor:
    """Small enough that sums of their products are exact."""
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).float()


def together(x: Tensor) -> Tensor:
    """In bf16, channels together."""
    return x.bfloat16().contiguous(memory_format=LAYOUT[x.ndim])
