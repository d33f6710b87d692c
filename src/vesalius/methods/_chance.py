"""Random numbers of a method as a function of (seed, step, number of the draw, row), so that a run that was killed continues
to the last bit and several processes draw what one would for the joint batch."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

HALF = 2.0**-25  # keeps a uniform number of 24 bits off 0 and 1, where a normal one has no value
LEAST = -(2.0**15)  # of the whole numbers that 16 bits are


class Chance:
    """Draws for one step. Rows are samples: process `rank` of `world` holds samples rank, rank + world, ... and draws only theirs.

    On the processor a row is the same however many follow it; on a GPU that holds for one process alone.
    """

    def __init__(self, seed: int, step: int, device: torch.device | str = "cpu", *, rank: int = 0, world: int = 1) -> None:
        self.words, self.device = (seed, step), torch.device(device)
        self.rank, self.world, self.number = rank, world, 0

    def uniform(self, size: Sequence[int], *, shared: bool = False) -> Tensor:
        """Numbers in [0, 1) of `size`; `shared` rows are those of every process alike."""
        words = (*self.words, self.number)
        self.number += 1
        rows, *others = size
        if shared or self.world == 1:
            return _uniform(words, (rows, *others), self.device)
        joint = _uniform(words, (self.rank + (rows - 1) * self.world + 1, *others), self.device)
        return joint[self.rank :: self.world]

    def bits(self, probability: Tensor, *, shared: bool = False) -> Tensor:
        """Units that are 1 with `probability`, as float32."""
        return (self.uniform(probability.shape, shared=shared) < probability).float()

    def coins(self, probability: Tensor, out: Tensor, *, shared: bool = False) -> Tensor:
        """As `bits`, into `out` of any type; probabilities are met to 2^-17, for a quarter of the time. They are changed: memory that is
        used again does not push the weights out of the cache."""
        if self.device.type != "cpu" or (self.world > 1 and not shared):
            return out.copy_(self.uniform(probability.shape, shared=shared) < probability)
        lots = _sixteen((*self.words, self.number), probability.numel()).reshape(probability.shape)
        self.number += 1
        edge = torch.add(probability.new_tensor(LEAST - 0.5), probability, alpha=2**16, out=probability)
        return torch.lt(lots, edge, out=out)

    def normal(self, size: Sequence[int], *, shared: bool = False) -> Tensor:
        """Standard normal numbers, each from one uniform one."""
        middle = self.uniform(size, shared=shared) * (1 - 2 * HALF) + HALF
        return torch.erfinv(2 * middle - 1) * math.sqrt(2)


def _uniform(words: Sequence[int], size: Sequence[int], device: torch.device) -> Tensor:
    """On the processor numpy's PCG64, which is three times as fast as torch's generator and fills rows in order."""
    *start, number = words
    seeds = np.random.SeedSequence(start, spawn_key=(number,))  # a key, so that no draw repeats what others make of (seed, step)
    if device.type == "cpu":
        return torch.from_numpy(np.random.Generator(np.random.PCG64(seeds)).random(size, dtype=np.float32))
    generator = torch.Generator(device).manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))
    return torch.rand(*size, generator=generator, device=device)


def _sixteen(words: Sequence[int], number: int) -> Tensor:
    """`number` whole numbers from -2^15 to 2^15 - 1."""
    *start, draw = words
    raw = np.random.PCG64(np.random.SeedSequence(start, spawn_key=(draw,))).random_raw(number // 4 + 1)
    return torch.from_numpy(raw.view(np.int16)[:number])
