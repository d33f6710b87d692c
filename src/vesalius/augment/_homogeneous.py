"""Homogeneous matrices that transforms share, float64; numpy takes a third of torch's time over a few numbers."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


def still(count: int, ndim: int) -> NDArray[np.float64]:
    """So many identities (count, ndim + 1, ndim + 1)."""
    total = np.zeros((count, ndim + 1, ndim + 1))
    total.reshape(count, -1)[:, :: ndim + 2] = 1
    return total


def diagonal(values: ArrayLike, stretched: Sequence[bool]) -> Tensor:
    """(B, n + 1, n + 1): what stretches the axes for which `stretched` (n,) is true by `values` (B, n) or (B, 1)."""
    numbers = np.asarray(values)
    total = still(len(numbers), len(stretched))
    along = total.reshape(len(numbers), -1)[:, : -1 : len(stretched) + 2]
    np.copyto(along, numbers, where=stretched)
    return torch.from_numpy(total)
