"""What can be read off features that stay as they are: by a straight line, and by the nearest labelled images.

Alain & Bengio 2016 (arXiv:1610.01644) for linear probes: logistic regression, its penalty chosen on validation patients. Wu et al. 2018
(CVPR) for votes of neighbours weighted by exp(cosine / .07). Ours lets the shares of the classes vote like one more neighbour, so that
no probability is 0, and chooses the number of neighbours on validation patients too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax

from vesalius.core.errors import DataError
from vesalius.data.labels import IGNORE, Labels
from vesalius.metrics._answers import Answers
from vesalius.metrics._search import ranked
from vesalius.tasks.classify.baseline import membership, regression

Rows = NDArray[np.float32]
Probabilities = NDArray[np.float64]
PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # on squared coefficients of standardised features, per case; the largest first
NEIGHBOURS = (1, 3, 5, 10, 20, 50, 100)
TEMPERATURE = 0.07
CLIP = 4.0  # standard deviations
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Told:
    """`features` (N, F) with `targets` (N, 1 | K) as `Labels.coded` gives them, and `patients` (N,)."""

    features: Rows
    targets: NDArray[np.uint8]
    patients: NDArray[np.str_]

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or len({len(self.features), len(self.targets), len(self.patients)}) != 1:
            raise DataError(f"Expected features (N, F) with a target and a patient for each; got {self.features.shape}, "
                            f"{self.targets.shape} and {len(self.patients)} patients.")  # fmt: skip

    def take(self, rows: NDArray[np.intp]) -> "Told":
        return Told(self.features[rows], self.targets[rows], self.patients[rows])


@dataclass(frozen=True, eq=False)
class Parts:
    """What is learned from, what choices are made on (empty: they are made on folds over patients), and what is tested."""

    train: Told
    val: Told
    test: Told


@dataclass(frozen=True, eq=False)
class Probed:
    """What a probe says of the test cases, and the choice it made: a penalty, or a number of neighbours."""

    answers: Answers
    chosen: float


def linear_probe(parts: Parts, labels: Labels) -> Probed:
    """Logistic regression on standardised features; the penalty has the least cross entropy on validation patients."""
    costs = [0.0] * len(PENALTIES)
    for learned, checked in _choices(parts, labels):
        scale = _Scale.of(learned.features)
        costs = [cost + _nats(_logits(_fit(learned, scale, penalty, labels=labels), scale, checked.features), checked.targets, labels)
                 for cost, penalty in zip(costs, PENALTIES, strict=True)]  # fmt: skip
    penalty = PENALTIES[int(np.argmin(costs))]
    scale = _Scale.of(parts.train.features)
    logits = _logits(_fit(parts.train, scale, penalty, labels=labels), scale, parts.test.features)
    return Probed(_answers(softmax(logits, 1) if labels.one_of else expit(logits), parts.test, labels), penalty)


@dataclass(frozen=True, eq=False)
class _Scale:
    """Mean and spread of the features that are learned from."""

    mean: Rows
    spread: Rows

    @classmethod
    def of(cls, features: Rows) -> "_Scale":
        return cls(features.mean(0), features.std(0) + np.float32(1e-6))

    def __call__(self, features: Rows) -> Rows:
        """In standard deviations, clipped to four, and a 1."""
        return np.hstack([np.clip((features - self.mean) / self.spread, -CLIP, CLIP), np.ones((len(features), 1))]).astype(np.float32)


def _fit(told: Told, scale: _Scale, penalty: float, *, labels: Labels) -> Rows:
    return regression(scale(told.features), told.targets, penalty, classes=_width(labels))


def _logits(coefficients: Rows, scale: _Scale, features: Rows) -> Probabilities:
    return np.asarray(scale(features) @ coefficients, np.float64)


def _width(labels: Labels) -> int:
    """Classes of a softmax, or minus the findings."""
    return len(labels.names) if labels.one_of else -len(labels.names)


def _nats(logits: Probabilities, targets: NDArray[np.uint8], labels: Labels) -> float:
    """Mean cross entropy."""
    inside, known = membership(targets, _width(labels))
    if labels.one_of:
        return float(-log_softmax(logits, 1)[inside].mean())
    return float(np.logaddexp(0, np.where(inside, -logits, logits))[known].sum() / max(1, known.sum()))


def _choices(parts: Parts, labels: Labels) -> Iterator[tuple[Told, Told]]:
    """(learned from, checked on): validation where it shows every class, else folds over the patients of the training part."""
    if _shows_all(parts.val.targets, labels):
        yield parts.train, parts.val
        return
    train = parts.train
    for held in _folds(train, labels):
        kept = np.setdiff1d(np.arange(len(train.targets)), held)
        if len(held) and len(kept):
            yield train.take(kept), train.take(held)


def _shows_all(targets: NDArray[np.uint8], labels: Labels) -> bool:
    if labels.one_of:
        return len(np.unique(targets)) == len(labels.names)
    return bool(len(targets)) and bool((((targets == 1).any(0)) & ((targets == 0).any(0))).all())


def _folds(told: Told, labels: Labels) -> list[NDArray[np.intp]]:
    """Rows of each fold: patients dealt out within the class of their first case."""
    names, first, owner = np.unique(told.patients, return_index=True, return_inverse=True)
    order = np.lexsort((names, *told.targets[first].T[::-1]))
    fold = np.empty(len(names), int)
    fold[order] = np.arange(len(names)) % FOLDS
    return [np.flatnonzero(fold[owner] == k) for k in range(FOLDS)]


def neighbour_probe(parts: Parts, labels: Labels) -> Probed:
    """Votes of the labelled images whose features point most in the same direction."""
    costs = [0.0] * len(NEIGHBOURS)
    for learned, checked in _choices(parts, labels):
        found = votes(learned, checked.features, labels, most=NEIGHBOURS)
        costs = [cost + _nats(_as_logits(p, labels), checked.targets, labels) for cost, p in zip(costs, found, strict=True)]
    best = NEIGHBOURS[int(np.argmin(costs))]
    return Probed(_answers(votes(parts.train, parts.test.features, labels, most=(best,))[0], parts.test, labels), best)


def directions(features: Rows, centre: Rows) -> Rows:
    """`features` from `centre` on, of length one: their distances are those of cosines."""
    away = np.asarray(features, np.float32) - centre
    return np.asarray(away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12))


def votes(learned: Told, asked: Rows, labels: Labels, *, most: Sequence[int]) -> list[Probabilities]:
    """(N, K) probabilities for each number of neighbours in `most`."""
    centre = learned.features.mean(0)
    near, which = ranked(directions(asked, centre), directions(learned.features, centre), min(max(most), len(learned.targets)))
    inside, known = membership(learned.targets, _width(labels))
    shares = (inside & known).sum(0) / np.maximum(1, known.sum(0))
    cosine = 1 - near**2 / 2
    weight = np.exp((cosine - cosine[:, :1]) / TEMPERATURE)
    found = []
    for k in most:
        said = (weight[:, :k, None] * (inside & known)[which[:, :k]]).sum(1) + shares
        found.append(np.asarray(said / ((weight[:, :k, None] * known[which[:, :k]]).sum(1) + 1)))
    return found


def _as_logits(p: Probabilities, labels: Labels) -> Probabilities:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(p) if labels.one_of else np.log(p / (1 - p)))


def _answers(probabilities: Probabilities, test: Told, labels: Labels) -> Answers:
    truth = test.targets[:, 0] if labels.one_of else test.targets
    if labels.one_of:
        probabilities = probabilities / probabilities.sum(1, keepdims=True)
    return Answers.of(probabilities, np.where(truth == IGNORE, IGNORE, truth).astype(int), patients=list(test.patients))
