"""Which regions are learned from: a pure function of (seed, step, sample), so that any step can be repeated at any time.

Resuming, cross-process training and replay need no stored random state: sample number n of the run is always the same
case, the same place and the same augmentation, in whichever process it is drawn (docs/decisions/004).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vesalius.data.batch import Batch, Kind
from vesalius.data.cache import Stored

AUGMENT_STREAM, PLACE_STREAM, ORDER_STREAM = 2, 1, 0


@dataclass(frozen=True)
class Patches:
    """Regions of `patch` plus `margin` voxels per axis; a `foreground` part of each batch is centred on a class voxel.

    Cases come in a fresh random order each epoch; the class to centre on is drawn evenly among those that the case has.
    Places outside a scan are 0 in the image and background in the mask.
    """

    cases: Sequence[Stored]
    patch: tuple[int, ...]
    margin: tuple[int, ...]
    foreground: float
    seed: int
    device: str = "cpu"

    @cached_property
    def pixels(self) -> list[tuple[Tensor, Tensor]]:
        """Image and target of each case where regions are cut: the memory map itself on a CPU, the whole data set in the
        memory of an accelerator otherwise, so that no sample waits for a disk or a bus."""
        return [(on_device(case.image, self.device), on_device(case.target, self.device)) for case in self.cases]

    @property
    def region(self) -> tuple[int, ...]:
        return tuple(p + m for p, m in zip(self.patch, self.margin, strict=True))

    def batch(self, step: int, size: int, *, rank: int = 0, world: int = 1) -> tuple[Batch, list[int]]:
        """Batch number `step` of `size` samples (this process's share of it) and the seed of each sample's augmentation."""
        numbers = range(step * size + rank, (step + 1) * size, world)
        pairs = [self.sample(number, forced=number % size >= round(size * (1 - self.foreground))) for number in numbers]
        image, mask = (torch.stack(part) for part in zip(*pairs, strict=True))
        seeds = [int(self._chooser(AUGMENT_STREAM, number).integers(2**62)) for number in numbers]
        return Batch({"image": image, "target": mask}, {"image": Kind.IMAGE, "target": Kind.MASK}), seeds

    def sample(self, number: int, *, forced: bool) -> tuple[Tensor, Tensor]:
        """Region number `number`: (C, *region) float32 and (K, *region) uint8; `forced` centres it on foreground."""
        epoch, turn = divmod(number, len(self.cases))
        which = int(self._chooser(ORDER_STREAM, epoch).permutation(len(self.cases))[turn])
        start = self._start(self.cases[which], self._chooser(PLACE_STREAM, number), forced)
        image, mask = self.pixels[which]
        return cut(image, start, self.region).float(), cut(mask, start, self.region)

    def _start(self, case: Stored, chooser: np.random.Generator, forced: bool) -> tuple[int, ...]:
        """First voxel of a region; the patch at its centre lies in the scan wherever the scan is large enough."""
        sides = np.asarray(case.image.shape[1:])
        half = np.asarray(self.margin) // 2
        low, high = np.minimum(0, (sides - self.patch) // 2), np.maximum(sides - self.patch, (sides - self.patch) // 2)
        place = chooser.integers(low, high + 1)
        if forced and len(case.places):
            kind = chooser.choice(np.unique(case.places[:, 0]))
            among = case.places[case.places[:, 0] == kind, 1:]
            centre = among[chooser.integers(len(among))] - np.asarray(self.patch) // 2
            place = np.clip(centre, low, high)
        return tuple(int(v) for v in place - half)

    def _chooser(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, stream, number))


def on_device(array: NDArray[Any], device: str) -> Tensor:
    """`array` as a tensor: itself on a CPU, a copy in the memory of an accelerator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a memory map is read-only, and is only read
        tensor = torch.from_numpy(array)
    return tensor if device == "cpu" else tensor.to(device)


def cut(array: Tensor, start: tuple[int, ...], sides: tuple[int, ...]) -> Tensor:
    """(C, *sides) of `array` (C, *S) from `start`, which may lie outside; what is outside is 0."""
    out = array.new_zeros((array.shape[0], *sides))
    source, goal = [slice(None)], [slice(None)]
    for first, side, length in zip(start, sides, array.shape[1:], strict=True):
        low, high = max(first, 0), min(first + side, length)
        if low >= high:
            return out
        source.append(slice(low, high))
        goal.append(slice(low - first, high - first))
    out[tuple(goal)] = array[tuple(source)]
    return out
