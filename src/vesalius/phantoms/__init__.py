"""Synthetic cohorts with exact ground truth, one anatomy and modality per file."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

from vesalius.core.shelf import Shelf
from vesalius.core.space import Array, Space

PHANTOMS = Shelf("phantoms")


class Sample(TypedDict):
    """`images` (C, *S) float32 of whole numbers that fit 16 bits, `labels` (*S) uint8, `space` of both, and plain JSON `facts`
    (what was drawn; under "volumes_ml" the millilitres of every label, or "areas_cm2" in 2D; under "class" the class where there are
    classes; under "metadata" words by which cases can be grouped)."""

    images: Array
    labels: Array
    space: Space
    facts: dict[str, Any]


class Phantom(ABC):
    """Draws patients. `channels` name the images in order; `labels` say what the values of the truth mean (0 is background);
    `regions` are unions of labels that are scored together; `sites` name where the scans may come from; `extent` in mm is what
    must fit into the picture; `shape` is the smallest that shows all there is to see. Where there are `classes`, a patient belongs
    to one of them, and `labels` say where that can be seen. Of `second_visits` patients, one comes twice."""

    title: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    regions: dict[str, tuple[int, ...]]
    sites: tuple[str, ...]
    shape: tuple[int, ...]
    extent: tuple[float, ...]
    classes: tuple[str, ...] = ()
    second_visits: int = 6

    @property
    def measure(self) -> tuple[str, str, float]:
        """What sizes are called, their unit, and cubic (square) millimetres in one: volumes in ml, areas in cm2."""
        return ("volumes", "ml", 1e3) if len(self.shape) == 3 else ("areas", "cm2", 1e2)

    def class_of(self, seed: int) -> str:
        """The class of patient `seed`; "" where there are none."""
        return turn_of(self.classes, seed) if self.classes else ""

    @abstractmethod
    def sample(self, shape: Sequence[int], *, seed: int, spacing: Sequence[float] | None = None, site: str, visit: int = 0) -> Sample:
        """The scan of patient `seed` at `site`; later visits show the same patient later. `shape` in voxels, `spacing` in mm
        (None: that with which `extent`, in mm, fits)."""


def turn_of(words: Sequence[str], seed: int) -> str:
    """Each of `words` once, in drawn order, in every run of len(words) seeds: equal shares, and no rule that a site could share."""
    block, place = divmod(seed, len(words))
    return words[int(np.random.default_rng([block, 11]).permutation(len(words))[place])]
