"""From logits to what is said: one temperature and one threshold per class, both set on validation cases and on no others.

Temperature scaling: Guo et al. 2017, On calibration of modern neural networks (ICML). Thresholds: the largest balanced accuracy,
which is Youden's index (Youden 1950, Cancer 3, 32-35).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax

from vesalius.core.settings import Settings
from vesalius.core.space import Array
from vesalius.data.labels import IGNORE, Labels

FEW = 20  # cases, below which nothing is fitted
RANGE = 0.05, 20.0  # of temperatures
Floats = NDArray[np.float64]


class Calibration(Settings):
    """`temperature` divides the logits; a class is said where its probability is above its threshold (of one of three and more
    classes the most probable one is said, without thresholds). `cases` were fitted on, `nats` is their mean cross entropy before
    and after."""

    version: int = 1
    temperature: float = 1.0
    thresholds: dict[str, float] = {}
    cases: int = 0
    nats: tuple[float, float] | None = None


def fit(logits: Array, truth: Array, labels: Labels) -> Calibration:
    """Temperature and thresholds of validation logits (N, K) with truth (N, 1 | K); of few cases neither."""
    if len(logits) < FEW:
        return Calibration(cases=len(logits))
    logits = np.asarray(logits, np.float64)
    low, high = np.log(RANGE)
    best = minimize_scalar(lambda t: nats(logits / np.exp(t), truth, labels), bounds=(low, high), method="bounded")
    temperature = float(np.exp(best.x))
    probabilities = calibrated(logits, labels, Calibration(temperature=temperature))
    judged = judged_alone(labels)
    thresholds = {labels.names[k]: threshold(probabilities[:, k], positives(truth, labels)[:, k]) for k in judged}
    return Calibration(temperature=temperature, thresholds=thresholds, cases=len(logits),
                       nats=(nats(logits, truth, labels), nats(logits / temperature, truth, labels)))  # fmt: skip


def judged_alone(labels: Labels) -> list[int]:
    """The classes that are said by a threshold: each finding, and the last of two classes."""
    if labels.one_of:
        return [1] if len(labels.names) == 2 else []
    return list(range(len(labels.names)))


def positives(truth: Array, labels: Labels) -> NDArray[np.int64]:
    """(N, K): 1 where a case is of the class, 0 where it is not, -1 where that is unknown."""
    if labels.one_of:
        return np.asarray(truth[:, :1] == np.arange(len(labels.names)), np.int64)
    wide = np.asarray(truth, np.int64)
    return np.where(wide == IGNORE, -1, wide)


def nats(logits: Floats, truth: Array, labels: Labels) -> float:
    """Mean cross entropy over cases, or over the findings that are known."""
    if labels.one_of:
        return float(-log_softmax(logits, 1)[np.arange(len(truth)), truth[:, 0]].mean())
    there = positives(truth, labels)
    known = there >= 0
    return float(np.logaddexp(0, np.where(there == 1, -logits, logits))[known].mean()) if known.any() else 0.0


def calibrated(logits: Array, labels: Labels, calibration: Calibration) -> Floats:
    """(N, K) probabilities."""
    scaled = np.asarray(logits, np.float64) / calibration.temperature
    return np.asarray(softmax(scaled, 1) if labels.one_of else expit(scaled))


def threshold(probability: Floats, there: NDArray[np.int64]) -> float:
    """The probability above which saying yes gives the largest balanced accuracy; in the middle of the range that does. 0.5 where
    yes or no never occurs."""
    probability, there = probability[there >= 0], there[there >= 0]
    yes = int((there == 1).sum())
    if not 0 < yes < len(there):
        return 0.5
    order = np.argsort(probability, kind="stable")
    value, mark = probability[order], there[order] == 1
    cuts = np.flatnonzero(np.diff(value) > 0) + 1  # cases below each cut are said no
    if not len(cuts):
        return 0.5
    missed, spared = np.cumsum(mark)[cuts - 1], np.cumsum(~mark)[cuts - 1]
    score = 1 - missed / yes + spared / (len(there) - yes)
    best = np.flatnonzero(score >= score.max() - 1e-9)
    return float((value[cuts[best[0]] - 1] + value[cuts[best[-1]]]) / 2)


def decided(probabilities: Array, labels: Labels, calibration: Calibration) -> NDArray[np.uint8]:
    """What is said, coded as targets are: (N, 1) indices or (N, K) of 0 / 1."""
    limits: Any = calibration.thresholds
    if labels.one_of and len(labels.names) == 2:
        return np.asarray(probabilities[:, 1:] > limits.get(labels.names[1], 0.5), np.uint8)
    if labels.one_of:
        return np.asarray(probabilities.argmax(1)[:, None], np.uint8)
    return np.asarray(probabilities > np.array([limits.get(name, 0.5) for name in labels.names]), np.uint8)
