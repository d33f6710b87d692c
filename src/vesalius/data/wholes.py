"""Which whole cases are learned from: a pure function of (seed, step, sample), so that any step can be repeated at any time.

As patches.py, but a sample is a case on the fixed grid, its target lies on no grid, and classes may be drawn evenly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vesalius.data.batch import Batch, Kind
from vesalius.data.cache import Stored
from vesalius.data.labels import IGNORE
from vesalius.data.patches import AUGMENT_STREAM, ORDER_STREAM, on_device


@dataclass(frozen=True)
class Wholes:
    """Batches of whole cases. `balance` 0 draws each case once per epoch, 1 each class equally often; between them a class of n
    cases is drawn in proportion to n ** (1 - balance), every case of it about equally often."""

    cases: Sequence[Stored]
    balance: float
    seed: int
    device: str = "cpu"

    @cached_property
    def pixels(self) -> list[tuple[Tensor, Tensor]]:
        """Image and target of each case: the memory map itself on a CPU, in the memory of an accelerator otherwise."""
        return [(on_device(case.image, self.device), on_device(case.target, self.device)) for case in self.cases]

    @cached_property
    def strata(self) -> NDArray[np.int64]:
        """The class of each case."""
        return strata([case.target for case in self.cases])

    def batch(self, step: int, size: int, *, rank: int = 0, world: int = 1) -> tuple[Batch, list[int]]:
        """Batch number `step` of `size` samples (this process's share of it) and the seed of each sample's augmentation."""
        numbers = range(step * size + rank, (step + 1) * size, world)
        pairs = [self.pixels[self.which(number)] for number in numbers]
        image, target = (torch.stack(part) for part in zip(*pairs, strict=True))
        seeds = [int(np.random.default_rng((self.seed, AUGMENT_STREAM, number)).integers(2**62)) for number in numbers]
        return Batch({"image": image.float(), "target": target}, {"image": Kind.IMAGE, "target": Kind.LABEL}), seeds

    def which(self, number: int) -> int:
        """The case of sample `number`."""
        epoch, turn = divmod(number, len(self.cases))
        if epoch not in self._orders:
            self._orders[epoch] = order(self.strata, self.balance, np.random.default_rng((self.seed, ORDER_STREAM, epoch)))
            self._orders.pop(epoch - 2, None)
        return int(self._orders[epoch][turn])

    @cached_property
    def _orders(self) -> dict[int, NDArray[np.int64]]:
        """The last epochs, so that each is drawn once."""
        return {}


def strata(targets: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """The class of each target (1,); of several findings (K,) the rarest that is there counts, K where there is none."""
    table = np.stack(targets)
    if not table.shape[1]:
        return np.zeros(len(table), np.int64)
    if table.shape[1] == 1:
        return np.asarray(table[:, 0], np.int64)
    there = (table > 0) & (table != IGNORE)
    rarest = np.where(there, there.sum(0), len(table) + 1).argmin(1)
    return np.asarray(np.where(there.any(1), rarest, table.shape[1]), np.int64)


def order(of: NDArray[np.int64], balance: float, draw: np.random.Generator) -> NDArray[np.int64]:
    """The cases of one epoch, as many as there are, in a random order; `of` is the stratum of each."""
    if balance == 0:
        return draw.permutation(len(of))
    kinds, counts = np.unique(of, return_counts=True)
    share = counts ** (1.0 - balance)
    ends = np.rint(np.cumsum(share) / share.sum() * len(of)).astype(int)
    drawn = []
    for kind, wanted in zip(kinds, np.diff(ends, prepend=0), strict=True):
        mine = np.flatnonzero(of == kind)
        rounds = [draw.permutation(mine) for _ in range(-(-wanted // len(mine)))]
        drawn.append(np.concatenate([*rounds, mine[:0]])[:wanted])
    return draw.permutation(np.concatenate(drawn))
