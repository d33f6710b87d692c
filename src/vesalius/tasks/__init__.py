"""Tasks answer the spine's questions: what the target is, what is planned, what counts as good, what is written."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vesalius.core.shelf import Shelf
from vesalius.core.space import Array, Space
from vesalius.data.labels import Labels
from vesalius.io.image import Image

TASKS = Shelf("tasks")


class Shallow(Protocol):
    """A baseline that learns without a deep network."""

    def fit(self, pairs: Any) -> Any:
        """Learn from (image (C, *S), target (K, *S)) pairs."""

    def predict(self, image: NDArray[np.float32]) -> NDArray[np.uint8]:
        """An answer coded as the targets are."""


class Task(ABC):
    """What the pipeline asks of a task. `nets` are the networks that suit it, best first; `foreground` the part of a batch
    that is centred on a class; `exclusive_by_nature` is left to the labels."""

    nets: tuple[str, ...]
    foreground: float

    @abstractmethod
    def out_channels(self, labels: Labels) -> int:
        """Logits per voxel."""

    @abstractmethod
    def loss(self, labels: Labels) -> nn.Module:
        """Called with logits at every scale, finest first, and the target; gives named terms."""

    @abstractmethod
    def baseline(self, labels: Labels) -> Shallow:
        """The shallow opponent that stands beside every model."""

    @abstractmethod
    def quick_score(self, answer: Array, truth: Array, labels: Labels) -> float:
        """One number in 0..1, higher is better, for the curve during training."""

    @abstractmethod
    def score(self, answer: Array, truth: Array, *, space: Space, labels: Labels) -> list[dict[str, Any]]:
        """Rows (one per label) of every metric on the scan's own grid."""

    @abstractmethod
    def definitions(self, unit: str) -> dict[str, str]:
        """What each metric means, in a sentence; lengths are in `unit`."""

    @abstractmethod
    def written(self, answer: Array, like: Image, labels: Labels) -> Image:
        """The answer on the grid of `like`, ready to be saved."""
