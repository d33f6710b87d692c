"""When convolutions by minimal filtering (Lavin & Gray 2016, arXiv:1509.09308; `winograd.c`, `winograd_full.c`) are worth it: sizes alone
decide, by what was measured (docs/explanation/speed.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

Number = Literal["bf16", "fp32"]
SIDES = ((3, 3, 3), (1, 3, 3), (3, 3))  # of kernels
LANES = 16  # channels that are worked on together
MOST = 2  # maps that can be taken as one


@dataclass(frozen=True)
class Way:
    """Of maps of one kind of number: outputs of a tile along an axis, products of a tile for each pair of channels, tiles for each
    channel and in each plane from which on the kernels pay, and how much of the tiles must lie in the map."""

    step: int
    points: int
    least: float
    plane: int
    whole: float


WAYS: dict[Number, Way] = {"bf16": Way(2, 16, 2, 1, 2 / 3), "fp32": Way(4, 36, 1 / 8, 4, 1 / 2)}


def pays(batch: int, sides: Sequence[int], channels: int, *, number: Number) -> bool:
    """Whether `batch` maps of these `sides` have tiles enough, and these enough voxels; `channels`: of the map or of what is made of it,
    whichever are more."""
    (height, width), way = sides[-2:], WAYS[number]
    tiles = -(-height // way.step) * -(-width // way.step)
    enough = tiles >= way.plane and prod((batch, *sides[:-2])) * tiles >= way.least * channels
    return enough and height * width >= way.whole * way.step**2 * tiles
