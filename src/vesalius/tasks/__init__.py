"""Tasks answer the spine's questions: what the target is, what is planned, what counts as good, what is written."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vesalius.core.errors import UsageError, suggest
from vesalius.core.shelf import Shelf
from vesalius.core.space import Array, Space
from vesalius.data.case import Case, Listed
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.data.prepare import Preparation
from vesalius.data.split import Split
from vesalius.io.image import Image
from vesalius.metrics._answers import Cut
from vesalius.tasks._rules import Rules

TASKS = Shelf("tasks")


class Shallow(Protocol):
    """A baseline that learns without a deep network."""

    def fit(self, pairs: Any, *, patients: Sequence[str] | None = None) -> Any:
        """Learn from (image (C, *S), target) pairs. `patients` says whose each is: where some are held back to choose by, so are all
        images of their patients."""

    def predict(self, image: NDArray[np.float32]) -> Array:
        """An answer coded as the targets are; where cases as a whole are answered, (K,) probabilities."""


@runtime_checkable
class Rivals(Shallow, Protocol):
    """Several baselines of whole cases that learn from the same pairs; `predict` is the answer of the one that `stands` as the baseline."""

    stands: str

    def answers(self, image: NDArray[np.float32]) -> dict[str, Array]:
        """(K,) probabilities by the name of each."""


class Prior(Shallow, Protocol):
    """A baseline that says how likely every voxel is, for a network to correct."""

    def odds(self, image: NDArray[np.float32]) -> Array:
        """(K, *S) log odds of each label of `image` (C, *S); of exclusive ones against the background."""

    def save(self, path: Path) -> None:
        """Write what was learned to the file at `path`."""


class Task(ABC):
    """What the pipeline asks of a task. `grain` is what gets an answer, every voxel or the case as a whole, or "image" where
    images alone are learned from; `nets` are the networks that suit it, best first; `foreground` the part of a batch that is centred on
    a class; `leading` the measures that stand in short tables, the one that ranks runs first; `unfolded` why it is not cross-validated, ""
    where it is. Concrete tasks are VoxelTasks, CaseTasks or ImageTasks."""

    grain: Literal["voxel", "case", "image"]
    nets: tuple[str, ...]
    foreground: float
    leading: tuple[str, ...]
    unfolded: str = ""
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
    def baseline(self, labels: Labels) -> Shallow | None:
        """The shallow opponent that stands beside every model."""

    def parted(self, dataset: Dataset, split: Split) -> tuple[Split, str]:
        """The split with those cases to train on that are learned from, and words about it ("" where it is as it was)."""
        return split, ""

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
    def baseline(self, labels: Labels) -> Shallow:
        """There is one in every case."""

    @abstractmethod
    def score(self, answer: Array, truth: Array, *, space: Space, labels: Labels) -> list[dict[str, Any]]:
        """Rows (one per label) of every metric on the scan's own grid."""

    @abstractmethod
    def prior(self, labels: Labels, path: Path | None) -> Prior:
        """A baseline for networks to correct: the one in the file at `path`, or one that has yet to learn."""

    @abstractmethod
    def written(self, answer: Array, like: Image, labels: Labels) -> Image:
        """The answer on the grid of `like`, ready to be saved."""


class CaseTask(Task):
    """A task that answers cases as a whole, many at a time, by rows of a table."""

    grain = "case"

    @abstractmethod
    def baseline(self, labels: Labels) -> Shallow:
        """There is one in every case."""

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
        self, probabilities: Array, truth: Array, labels: Labels, *, thresholds: Mapping[str, Cut]
    ) -> dict[str, dict[str, float]]:
        """{label or "all": {measure: value}} of a set of cases; NaN where undefined. `thresholds` are those of calibrations."""

    @abstractmethod
    def examined(self, logits: Array, truth: Array, labels: Labels, *, rules: Rules, names: Sequence[str],
                 patients: Sequence[str]) -> dict[str, Any]:  # fmt: skip
        """Whether what was set on validation holds on these cases, as plain JSON."""


class Learned(Protocol):
    """A method that has learned from images alone, in evaluation mode, as tasks see it; see methods/_unlabelled.py."""

    shape: tuple[int, ...]

    def infer(self, image: Tensor) -> Tensor:
        """What it makes of images (B, C, *S): most give them back as they would have them."""

    def features(self, image: Tensor) -> Tensor:
        """(B, K)."""

    def score(self, image: Tensor) -> Tensor:
        """(B,) how strange each image is."""

    def anomaly_map(self, image: Tensor) -> Tensor:
        """(B, 1, *S) how strange each pixel is."""


@dataclass(frozen=True)
class Images(Listed):
    """Prepared images of one part in order: `pixels[k]` (C, *S), mapped from disk, is case k; `labels` say what its classes are, `about`
    are the plan's train.rules, and `how` the images were brought onto their grid (None: they were made on it). `plain[k]` is the same
    image in the preparation in which pixels are compared, whatever the method asks for; empty where `pixels` are that already."""

    cases: Sequence[Case]
    pixels: Sequence[NDArray[np.floating]]
    labels: Labels
    device: str = "cpu"
    about: Mapping[str, Any] = field(default_factory=dict)
    how: Preparation | None = None
    plain: Sequence[NDArray[np.floating]] = ()

    def __len__(self) -> int:
        return len(self.cases)

    def batches(self, size: int = 64) -> Iterator[Tensor]:
        """(B, C, *S) float32, every image once and in order."""
        for start in range(0, len(self), size):
            some = np.stack([np.asarray(one, np.float32) for one in self.pixels[start : start + size]])
            yield torch.from_numpy(some).to(self.device)

    def chosen(self, numbers: Iterable[int]) -> "Images":
        """Those of these numbers, in this order."""
        numbers = list(numbers)
        plain = [self.plain[k] for k in numbers] if self.plain else ()
        return replace(self, cases=[self.cases[k] for k in numbers], pixels=[self.pixels[k] for k in numbers], plain=plain)

    @property
    def as_compared(self) -> "Images":
        """The images as pixels are compared, by the same rule for every method."""
        return replace(self, pixels=self.plain or self.pixels, plain=(), how=None)

    def told(self, answer: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
        """What `answer` says of every image, batch by batch, on the CPU: (N, ...)."""
        with torch.inference_mode():
            parts = [answer(batch).float().cpu().numpy() for batch in self.batches()]
        return np.asarray(np.concatenate(parts)) if parts else np.zeros(0, np.float32)


Index = NDArray[np.intp]
Table = dict[str, dict[str, float]]  # {label or "all": {measure: value}}


@dataclass(frozen=True)
class Judged:
    """What a task of images found on one part. `rows[who]` has a row for each image ("case", "patient", "label", numbers); "model" is
    among them, "baseline" stands beside. `measure(who, numbers of cases)` gives measures that belong to a set of cases; without it the
    numbers of the rows are meaned. `more` is kept beside them in metrics.json, as plain JSON."""

    rows: Mapping[str, list[dict[str, Any]]]
    measure: Callable[[str, Index], Table] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


class ImageTask(Task):
    """A task that learns from images alone; labels, where there are any, serve to judge what was learned. `serves` are the words on the
    cards of methods that suit it, `method` the one that is planned unless another is asked for; `compares` says that judging looks at
    pixels in one preparation of the data too (Images.plain)."""

    grain = "image"
    nets = ()
    foreground = 0.0
    unfolded = (
        "What learns from images alone is not trained in folds: the features, scores and made images of several models do not mean the "
        "same, so that they cannot answer together. Leave --folds out. To see how much chance there is, train several runs with "
        "--seed 0, 1, 2 ...; to cross-validate what the features are good for, begin runs with labels from this one: "
        "vesalius train DATA -o RUN --init PRETRAINED --folds 5."
    )
    serves: tuple[str, ...]
    method: str
    compares: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods that suit it, by their cards."""
        return tuple(name for name, card in Shelf("methods").cards.items() if set(card.tasks) & set(self.serves))

    def out_channels(self, labels: Labels) -> int:
        """None: the method has networks of its own."""
        return 0

    def loss(self, labels: Labels, settings: Mapping[str, Any] | None = None, *, counts: Sequence[int] | None = None) -> nn.Module:
        """Methods have losses of their own, so settings of one are an error."""
        if settings:
            raise UsageError("train.loss is not heard where images alone are learned from: the method has its own loss (train.arguments).")
        return nn.Identity()

    def baseline(self, labels: Labels) -> Shallow | None:
        """None that is fitted before learning; what stands beside comes from `judge`."""
        return None

    def quick_score(self, answer: Array, truth: Array, labels: Labels) -> float:
        """The share of the spread of images `truth` (N, C, *S) about their mean that `answer` explains, not below 0."""
        spread = float(((truth - truth.mean(0)) ** 2).sum())
        return max(0.0, 1 - float(((answer - truth) ** 2).sum()) / spread) if spread else float(np.array_equal(answer, truth))

    def checked(self, dataset: Dataset) -> None:
        """An error where the data set cannot serve the task; told before anything is read."""

    def ruled(self, rules: Mapping[str, Any]) -> None:
        """An error where the plan's train.rules hold what the task does not know; told before any work."""
        if rules:
            raise UsageError(f"This task has no settings in train.rules; got {', '.join(rules)}.")

    def look(self, method: Learned, images: Images) -> float | None:
        """One number in 0..1 for the curve during training, of some validation images; None where the method has none."""
        image = np.concatenate([batch.cpu().numpy() for batch in images.batches()])
        answer = images.told(method.infer)
        return self.quick_score(answer, image, images.labels) if answer.shape == image.shape else None

    def calibrate(self, method: Learned, seen: Images, *, trained: Images, rules: Mapping[str, Any]) -> dict[str, Any]:
        """What is set on validation images and on no others, as plain JSON for calibration.json. `rules` are the plan's train.rules."""
        return {}

    def seconds(self, cases: int, each: float) -> float:
        """Seconds that judging so many images takes, where the method answers one in `each` seconds."""
        return 2 * cases * each + 2.0

    @abstractmethod
    def judge(self, method: Learned, seen: Images, *, trained: Images, calibration: Mapping[str, Any], folder: Path) -> Judged:
        """What was learned from the images `trained`, judged on those of one part; pictures may be written into `folder`."""

    def answers(self, method: Learned, images: Images, calibration: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What is said of new images, a row of a table for each ("case" first); an error in words where there is nothing to say."""
        raise UsageError("This model has no answer to single images.")

    def heat(self, method: Learned, images: Images) -> NDArray[np.float32] | None:
        """(N, 1, *S) a map over each image, to be written on its own grid; None where there is none."""
        return None


def aimed(dataset: Dataset, task: str = "", *, method: str = "", normal: Sequence[str] = ()) -> Dataset:
    """`dataset` for the task called `task` ("" keeps what it is labelled for); an error in words where that cannot be. `method` names the
    way of learning that will be asked for, `normal` the classes that are to be learned from alone."""
    if unknown := [name for name in normal if name not in dataset.labels.names]:
        raise UsageError(suggest(unknown[0], dataset.labels.names, "class"))
    if normal:
        dataset = replace(dataset, metadata={**dataset.metadata, "normal": list(normal)})
    if not task and not dataset.alone:
        return dataset
    chosen: Task = TASKS[task or dataset.task]()
    if isinstance(chosen, ImageTask):
        if method and method not in chosen.methods:
            raise UsageError(_misplaced(method, task or dataset.task, chosen))
        made = replace(dataset, task=task or dataset.task, alone=True)
        chosen.checked(made)
        return made
    if dataset.alone or task != dataset.task:
        able = [name for name in TASKS if issubclass(TASKS[name], ImageTask)]
        what = "nothing" if dataset.alone else f"the task '{dataset.task}'"
        raise UsageError(f"{dataset.root} is labelled for {what}, not for '{task}'. Leave --task out, or learn from the images alone: "
                         f"--task {' or '.join(able)}.")  # fmt: skip
    return dataset


def _misplaced(method: str, task: str, chosen: ImageTask) -> str:
    """Why `method` does not serve the task: it serves another, or there is none of that name."""
    known = Shelf("methods").cards
    if method not in known:
        return suggest(method, chosen.methods, f"method for the task '{task}'")
    uses = [name for name in TASKS if issubclass(TASKS[name], ImageTask) and method in TASKS[name]().methods]
    instead = f"it serves {' and '.join(f'--task {name}' for name in uses)}" if uses else "it learns from labels, without --task"
    return f"{method} is no method for --task {task}: {instead}. For --task {task} choose one of {', '.join(chosen.methods)}."
