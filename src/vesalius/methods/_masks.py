"""What is hidden of an image: cells of a grid, or boxes; True where it is hidden."""

from collections.abc import Sequence
from math import ceil, prod

import torch
from torch import Tensor

from vesalius.core.errors import UsageError
from vesalius.methods._chance import Chance


def cells(sides: Sequence[int], cell: Sequence[int], share: float, *, rows: int, chance: Chance) -> Tensor:
    """(rows, 1, *S): of the grid of cells of `cell` pixels, `share` (rounded, at least one, never all), drawn for each row."""
    grid = _grid(sides, cell)
    number = min(max(1, round(share * prod(grid))), prod(grid) - 1)
    rank = chance.uniform((rows, prod(grid))).argsort(1).argsort(1)
    return _grown((rank < number).reshape(rows, 1, *grid), sides, cell)


def covers(sides: Sequence[int], cell: Sequence[int], parts: int) -> Tensor:
    """(parts, 1, *S): masks that hide each cell of the grid once among them."""
    grid = _grid(sides, cell)
    order = torch.randperm(prod(grid), generator=torch.Generator().manual_seed(0)) % parts
    return _grown(torch.stack([order == part for part in range(parts)]).reshape(parts, 1, *grid), sides, cell)


def boxes(sides: Sequence[int], number: int, share: tuple[float, float], *, rows: int, chance: Chance) -> Tensor:
    """(rows, 1, *S): `number` boxes for each row, their sides between two parts of the image's, at places drawn."""
    lot, n, hidden = chance.uniform((rows, number, 2, len(sides))), len(sides), None
    for box in range(number):
        inside = None
        for axis, side in enumerate(sides):
            width = (side * (share[0] + lot[:, box, 0, axis] * (share[1] - share[0]))).round().clamp(min=1, max=side)
            first = (lot[:, box, 1, axis] * (side - width + 1)).floor()
            place = torch.arange(side, device=lot.device)
            within = (place >= first[:, None]) & (place < (first + width)[:, None])
            within = within.reshape(rows, 1, *(side if a == axis else 1 for a in range(n)))
            inside = within if inside is None else inside & within
        hidden = inside if hidden is None else hidden | inside  # type: ignore[operator]
    assert hidden is not None
    return hidden


def _grid(sides: Sequence[int], cell: Sequence[int]) -> tuple[int, ...]:
    grid = tuple(ceil(side / c) for side, c in zip(sides, cell, strict=True))
    if min(cell) < 1 or prod(grid) < 2:
        raise UsageError(f"Cells to hide have at least one pixel, and there are at least two of them; got {tuple(cell)} of {tuple(sides)}.")
    return grid


def _grown(mask: Tensor, sides: Sequence[int], cell: Sequence[int]) -> Tensor:
    """A mask of cells as one of pixels."""
    for axis, (side, c) in enumerate(zip(sides, cell, strict=True), start=2):
        mask = mask.repeat_interleave(c, axis).narrow(axis, 0, side)
    return mask
