"""Synthetic cohorts with exact ground truth, one anatomy and modality per file."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypedDict

from vesalius.core.shelf import Shelf
from vesalius.core.space import Array, Space

PHANTOMS = Shelf("phantoms")


class Sample(TypedDict):
    """`images` (C, *S) float32 of whole numbers that fit 16 bits, `labels` (*S) uint8, `space` of both, and plain JSON `facts`
    (what was drawn; under "volumes_ml" the millilitres of every label, under "metadata" words by which cases can be grouped)."""

    images: Array
    labels: Array
    space: Space
    facts: dict[str, Any]


class Phantom(ABC):
    """Draws patients. `channels` name the images in order; `labels` say what the values of the truth mean (0 is background);
    `regions` are unions of labels that are scored together; `sites` name where the scans may come from; `extent` in mm is what
    must fit into the picture; `shape` is the smallest that shows all there is to see."""

    title: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    regions: dict[str, tuple[int, ...]]
    sites: tuple[str, ...]
    shape: tuple[int, ...]
    extent: tuple[float, ...]

    @abstractmethod
    def sample(self, shape: Sequence[int], *, seed: int, spacing: Sequence[float] | None = None, site: str, visit: int = 0) -> Sample:
        """The scan of patient `seed` at `site`; later visits show the same patient later. `shape` in voxels, `spacing` in mm
        (None: that with which `extent`, in mm, fits)."""
