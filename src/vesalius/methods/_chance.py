"""Random numbers of a method as a function of (seed, step, number of the draw, row), so that a run that was killed continues
to the last bit and several processes draw what one would for the joint batch."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

HALF = 2.0**-25  # keeps a uniform number of 24 bits off 0 and 1, where a normal one has no value


class Chance:
    """Draws for one step. Rows are samples: process `rank` of `world` holds samples rank, rank + world, ... and draws only theirs.

    On the processor a row is the same however many follow it; on a GPU that holds for one process alone.
    """

    def __init__(self, seed: int, step: int, device: torch.device | str = "cpu", *, rank: int = 0, world: int = 1) -> None:
        self.words, self.device = (seed, step), torch.device(device)
        self.rank, self.world, self.number = rank, world, 0

    def uniform(self, size: Sequence[int], *, shared: bool = False) -> Tensor:
        """Numbers in [0, 1) of `size`; `shared` rows are those of every process alike."""
        generator = torch.Generator(self.device).manual_seed(mixed(*self.words, self.number))
        self.number += 1
        rows, *others = size
        if shared or self.world == 1:
            return torch.rand(rows, *others, generator=generator, device=self.device)
        joint = torch.rand(self.rank + (rows - 1) * self.world + 1, *others, generator=generator, device=self.device)
        return joint[self.rank :: self.world]

    def bits(self, probability: Tensor, *, shared: bool = False) -> Tensor:
        """Units that are 1 with `probability`, as float32."""
        return (self.uniform(probability.shape, shared=shared) < probability).float()

    def normal(self, size: Sequence[int], *, shared: bool = False) -> Tensor:
        """Standard normal numbers, each from one uniform one."""
        middle = self.uniform(size, shared=shared) * (1 - 2 * HALF) + HALF
        return torch.erfinv(2 * middle - 1) * math.sqrt(2)


def mixed(*words: int) -> int:
    """One seed of 63 bits from several whole numbers."""
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
