"""How much of a mask a coarser grid can hold: the Dice of each class with itself after a way down and up again.

That is the most that a network on the coarser grid could reach. Thick organs survive an eightfold reduction, vessels hardly
a twofold one; planning takes a coarser grid only where this says that nothing would be lost.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

FACTORS = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
MARGIN = 8  # voxels around a class
LARGEST = 1 << 23  # voxels looked at per class; of a larger one the middle
LINEAR = {2: "bilinear", 3: "trilinear"}
THICK = 2.0  # an axis so many times as coarse as the finest is not reduced


def fine_axes(spacing: Sequence[float]) -> tuple[bool, ...]:
    """Axes that a coarser grid reduces: those that are not thick already."""
    return tuple(step < THICK * min(spacing) for step in spacing)


def survival(masks: Iterable[NDArray[np.bool_]], spacing: Sequence[float]) -> NDArray[np.float64]:
    """(factors, K): Dice of each of K `masks` (*S) with itself reduced by each factor; NaN where a class is absent."""
    fine = fine_axes(spacing)
    return np.array([[_dice(part, factor, fine) for factor in FACTORS] for part in map(_around, masks)]).T


def _around(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The box of `mask` with a margin, no larger than LARGEST; empty where the mask is."""
    for axis in range(mask.ndim):
        line = np.flatnonzero(mask.any(tuple(a for a in range(mask.ndim) if a != axis)))
        if not line.size:
            return np.zeros((0,) * mask.ndim, bool)
        low, high = max(0, int(line[0]) - MARGIN), int(line[-1]) + 1 + MARGIN
        mask = mask[(*(slice(None),) * axis, slice(low, high))]
    while mask.size > LARGEST:
        axis = int(np.argmax(mask.shape))
        side = mask.shape[axis]
        mask = mask[(*(slice(None),) * axis, slice(side // 4, side // 4 + side // 2))]
    return mask


def _dice(mask: NDArray[np.bool_], factor: float, fine: Sequence[bool]) -> float:
    if not mask.any():
        return float("nan")
    sides = [max(1, round(side / factor)) if free else side for side, free in zip(mask.shape, fine, strict=True)]
    full = torch.from_numpy(np.ascontiguousarray(mask, np.float32))[None, None]
    back = interpolate(interpolate(full, sides, mode="area"), mask.shape, mode=LINEAR[mask.ndim], align_corners=False)[0, 0].numpy() > 0.5
    return float(2 * (back & mask).sum() / (back.sum() + mask.sum()))


def pooled(rows: Sequence[NDArray[np.float64]]) -> dict[str, Any]:
    """Over cases: {"factors", "dice": mean over the cases that have a class, then over classes, per factor}; no dice without any."""
    if not rows:
        return {"factors": list(FACTORS), "dice": []}
    table = np.array(rows, float)
    there = ~np.isnan(table)
    count = there.sum(0)
    means = np.where(there, table, 0).sum(0) / np.maximum(count, 1)
    seen = (count > 0).any(0)
    return {"factors": list(FACTORS), "dice": means[:, seen].mean(1).tolist() if seen.any() else []}
