"""Tasks answer the spine's questions: what the target is, what is planned, what counts as good, what is written."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

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
        """Learn from (image (C, *S), target) pairs."""

    def predict(self, image: NDArray[np.float32]) -> Array:
        """An answer coded as the targets are; where cases as a whole are answered, (K,) probabilities."""


class Task(ABC):
    """What the pipeline asks of a task. `grain` is what gets an answer, every voxel or the case as a whole; `nets` are the
    networks that suit it, best first; `foreground` the part of a batch that is centred on a class; `leading` the measures that
    stand in short tables, the one that ranks runs first. Concrete tasks are VoxelTasks or CaseTasks."""

    grain: Literal["voxel", "case"]
    nets: tuple[str, ...]
    foreground: float
    leading: tuple[str, ...]
    fusions: Mapping[str, tuple[str, dict[str, Any]]] = {}  # ways to put several channels together: network and arguments by name

    @abstractmethod
    def out_channels(self, labels: Labels) -> int:
        """Logits per voxel, or per case."""

    @abstractmethod
    def loss(self, labels: Labels, settings: Mapping[str, Any] | None = None, *, counts: Sequence[int] | None = None) -> nn.Module:
        """Called with logits of every head, the finest or last first, and the target; gives named terms. `settings` are the
        plan's train.loss; a word that the task does not know is an error. `counts` are the training cases with each class, where
        cases as a whole are answered. One with `progress(share)` is told how much of training has passed."""

    @abstractmethod
    def baseline(self, labels: Labels) -> Shallow:
        """The shallow opponent that stands beside every model."""

    @abstractmethod
    def quick_score(self, answer: Array, truth: Array, labels: Labels) -> float:
        """One number in 0..1, higher is better, for the curve during training: of one case where voxels are answered, of many
        (N, K) probabilities and their truth (N, 1 | K) where cases are."""

    @abstractmethod
    def definitions(self, unit: str) -> dict[str, str]:
        """What each metric means, in a sentence; lengths are in `unit`."""


class VoxelTask(Task):
    """A task that answers every voxel of a scan, tile by tile."""

    grain = "voxel"

    @abstractmethod
    def score(self, answer: Array, truth: Array, *, space: Space, labels: Labels) -> list[dict[str, Any]]:
        """Rows (one per label) of every metric on the scan's own grid."""

    @abstractmethod
    def written(self, answer: Array, like: Image, labels: Labels) -> Image:
        """The answer on the grid of `like`, ready to be saved."""


class CaseTask(Task):
    """A task that answers cases as a whole, many at a time, by rows of a table."""

    grain = "case"

    @abstractmethod
    def calibrate(self, logits: Array, truth: Array, labels: Labels, *, names: Sequence[str] | None = None,
                  patients: Sequence[str] | None = None,
                  targets: Mapping[str, Sequence[float]] | None = None) -> dict[str, Any]:  # fmt: skip
        """What is set on validation cases, logits (N, K) and truth (N, 1 | K), and on no others, as plain JSON: a "temperature",
        "thresholds", the rules of "trust", and "operating" points for `targets` {"sensitivity": (.95,) ...}. Of no cases: what is
        used where there is no validation."""

    @abstractmethod
    def probabilities(self, logits: Array, labels: Labels, calibration: Mapping[str, Any]) -> NDArray[np.float64]:
        """(N, K) from logits (N, K)."""

    @abstractmethod
    def rows(self, logits: Array, labels: Labels, calibration: Mapping[str, Any], *, names: Sequence[str],
             truth: Array | None = None) -> list[dict[str, Any]]:  # fmt: skip
        """What is said of each case, called `names`, and with `truth` whether it is right ("state")."""

    @abstractmethod
    def measures(
        self, probabilities: Array, truth: Array, labels: Labels, *, calibration: Mapping[str, Any]
    ) -> dict[str, dict[str, float]]:
        """{label or "all": {measure: value}} of a set of cases; NaN where undefined."""

    @abstractmethod
    def examined(self, logits: Array, truth: Array, labels: Labels, *, calibration: Mapping[str, Any], names: Sequence[str],
                 patients: Sequence[str]) -> dict[str, Any]:  # fmt: skip
        """Whether what was set on validation holds on these cases, as plain JSON."""
