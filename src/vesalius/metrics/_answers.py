"""What a classifier said of N cases beside the truth: what every metric of classification is given.

Two forms, told apart by the truth: (N,) class indices where classes exclude each other, (N, K) of 0 / 1 where findings may
come together. 255 is unknown: such a case, or such an entry of a finding, counts nowhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vesalius.core.errors import DataError
from vesalius.data.labels import IGNORE
from vesalius.metrics._curves import Curve, Flags, Floats

Indices = NDArray[np.intp]
Cut = float | Floats  # a threshold for all cases, or (N,) one for each
SLACK = 1e-2  # how far probabilities of half precision may miss a sum of 1


@dataclass(frozen=True, eq=False)
class Binary:
    """One question of yes and no: `score` (n,) of yes, `truth` (n,), the decision `said` (n,), and the `rows` (n,) of the answers."""

    score: Floats
    truth: Flags
    said: Flags
    rows: Indices

    @cached_property
    def counts(self) -> tuple[int, int, int, int]:
        """True positives, false positives, false negatives, true negatives."""
        said, true = int(self.said.sum()), int(self.truth.sum())
        hits = int((self.said & self.truth).sum())
        return hits, said - hits, true - hits, len(self.truth) - said - true + hits

    @cached_property
    def curve(self) -> Curve:
        """Decisions at every threshold."""
        return Curve.of(self.score, self.truth)

    @property
    def both(self) -> bool:
        """Whether positives and negatives are there."""
        return bool(self.truth.any() and not self.truth.all())


@dataclass(frozen=True, eq=False)
class Answers:
    """`probabilities` (N, K); `truth` (N,) indices if `exclusive`, else (N, K) of 0 / 1 / 255; `patients` (N,) are whose each case is.

    `thresholds`: one for two classes that exclude each other (class 1 is said from there on), one per finding for findings;
    of more classes the most probable one is said. Each is one number, or a number for each case (N,).
    """

    probabilities: Floats
    truth: Indices
    exclusive: bool
    patients: NDArray[np.str_]
    thresholds: tuple[Cut, ...]

    @classmethod
    def of(cls, probabilities: ArrayLike, truth: ArrayLike, *, patients: Sequence[object] | None = None,
           thresholds: Sequence[float] | float = 0.5) -> "Answers":  # fmt: skip
        """From (N,) probabilities of class 1, or (N, K), and truth (N,) or (N, 1) of indices, or (N, K) of 0 / 1.

        Without `patients` every case is its own.
        """
        p, y = np.asarray(probabilities, float), np.asarray(truth)
        p = np.stack([1 - p, p], 1) if p.ndim == 1 else p
        y = y[:, 0] if y.shape == (len(p), 1) and p.shape[1:] != (1,) else y
        require_fitting(p, y)
        exclusive = y.ndim == 1
        whose = np.arange(len(y)) if patients is None else np.asarray(patients)
        if whose.shape != (len(y),):
            raise DataError(f"Expected one patient for each of {len(y)} cases, got an array of shape {whose.shape}.")
        cuts = np.broadcast_to(np.asarray(thresholds, float), 1 if exclusive else p.shape[1])
        known = y != IGNORE if exclusive else np.ones(len(y), bool)
        return cls(p[known], y[known].astype(np.intp), exclusive, whose[known].astype(str), tuple(map(float, cuts)))

    def take(self, rows: Indices) -> "Answers":
        """The cases `rows`, in that order and as often as they are named."""
        cuts = tuple(cut if isinstance(cut, float) else cut[rows] for cut in self.thresholds)
        return Answers(self.probabilities[rows], self.truth[rows], self.exclusive, self.patients[rows], cuts)

    @property
    def classes(self) -> int:
        return int(self.probabilities.shape[1])

    @cached_property
    def said(self) -> Indices:
        """The class of each case (N,), or 0 / 1 of each finding (N, K)."""
        if not self.exclusive:
            return np.stack([self.probabilities[:, k] >= cut for k, cut in enumerate(self.thresholds)], 1).astype(np.intp)
        if self.classes == 2:
            return (self.probabilities[:, 1] >= self.thresholds[0]).astype(np.intp)
        return np.asarray(self.probabilities.argmax(1))

    @property
    def right(self) -> Flags:
        """Whether each case was answered rightly (N,); with findings, whether every known one was."""
        same = self.said == self.truth
        return np.asarray(same if self.exclusive else (same | (self.truth == IGNORE)).all(1))

    @cached_property
    def problems(self) -> tuple[Binary, ...]:
        """The questions of yes and no: class 1 of two, one class against the rest for more, each finding by itself."""
        said, every = self.said, np.arange(len(self.truth))
        if self.exclusive:
            asked = [1] if self.classes == 2 else range(self.classes)
            return tuple(Binary(self.probabilities[:, k], self.truth == k, said == k, every) for k in asked)
        rows = [np.flatnonzero(self.truth[:, k] != IGNORE) for k in range(self.classes)]
        return tuple(Binary(self.probabilities[r, k], self.truth[r, k] == 1, said[r, k] == 1, r) for k, r in enumerate(rows))

    @cached_property
    def tables(self) -> tuple[NDArray[np.int64], ...]:
        """Confusion tables [truth, said]: one (K, K) of classes, or a (2, 2) for each finding."""
        if self.exclusive:
            return (table(self.truth, self.said, self.classes),)
        return tuple(table(q.truth.astype(np.intp), q.said.astype(np.intp), 2) for q in self.problems)

    def remarks(self, names: Sequence[str]) -> list[str]:
        """A sentence for every class or finding (`names`, K of them) of which some number is not defined, and why."""
        asked = names[1:] if self.exclusive and self.classes == 2 else names
        told = []
        for name, problem in zip(asked, self.problems, strict=True):
            if not problem.both:
                lacks = "no case" if not problem.truth.any() else "no case without it"
                told.append(f"{name}: {lacks} among {len(problem.truth)}, so that its AUC and average precision are not defined.")
        return told


def require_fitting(probabilities: Floats, truth: NDArray[np.generic]) -> None:
    """Raise a DataError unless the two have fitting shapes and hold probabilities and known indices."""
    n, k = probabilities.shape if probabilities.ndim == 2 else (-1, -1)
    if n < 0 or truth.shape not in ((n,), (n, k)):
        raise DataError(f"Expected probabilities (N, K) with truth (N,) of class indices or (N, K) of 0 / 1; "
                        f"got {probabilities.shape} and {truth.shape}.")  # fmt: skip
    if not np.isfinite(probabilities).all() or (probabilities < -SLACK).any() or (probabilities > 1 + SLACK).any():
        raise DataError("Expected probabilities in 0..1; got numbers outside or not finite. Logits go through softmax or sigmoid first.")
    if truth.ndim == 1 and n and np.abs(probabilities.sum(1) - 1).max() > SLACK:
        raise DataError("Probabilities of classes that exclude each other must sum to 1 in each case. "
                        "For findings that may come together give the truth as (N, K) of 0 / 1.")  # fmt: skip
    values, most = np.unique(truth), k if truth.ndim == 1 else 2
    wrong = [v for v in values.tolist() if v != IGNORE and (v != int(v) or not 0 <= v < most)]
    if wrong:
        raise DataError(f"Truth must hold whole numbers 0..{most - 1}, or {IGNORE} for unknown; got {wrong[:5]}.")


def table(truth: Indices, said: Indices, classes: int) -> NDArray[np.int64]:
    """(classes, classes) numbers of cases by [truth, said]."""
    return np.bincount(truth * classes + said, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def macro(values: Sequence[float]) -> float:
    """The plain mean of what is defined; NaN where nothing is."""
    defined = [v for v in values if not np.isnan(v)]
    return sum(defined) / len(defined) if defined else nan


def over_problems(answers: Answers, score: Callable[[Binary], float]) -> float:
    """The plain mean of `score` over the questions of `answers` that define it."""
    return macro([score(problem) for problem in answers.problems])


def ratio(part: float, whole: float) -> float:
    """`part` / `whole`, not a number where there is nothing to divide by."""
    return part / whole if whole else nan
