"""Whether probabilities mean what they say: Brier score, log loss, expected calibration error, reliability bins.

Brier 1950; Guo et al. 2017 (bins of equal width); Nguyen & O'Connor 2015 (bins of equal mass). Of two classes and of
findings the probability of "yes" is held against how often it was so; of more classes, that of the class that was said
against how often it was right. The calibration error of a finite sample is above zero even where nothing is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from vesalius.core.card import Card
from vesalius.metrics._answers import Answers, macro
from vesalius.metrics._curves import Flags, Floats
from vesalius.metrics._delong import numbered

CARD = Card(
    entry="calibration",
    title="Calibration",
    summary="Brier score, log loss, and expected calibration error over bins of equal width and of equal mass.",
    paper="Brier 1950, Mon. Weather Rev. 78, 1-3; Guo et al. 2017, ICML (ECE); Nguyen & O'Connor 2015, EMNLP (equal mass)",
    tasks=("classify",),
    facts={
        "brier": {
            "definition": "mean squared error of the probability of yes (0..1); of three classes or more summed over classes (0..2)",
            "unit": "1", "better": "low", "perfect": 0.0, "no_positives": "usual", "no_negatives": "usual",
        },
        "log_loss": {
            "definition": "mean negative log probability of the truth in nats, probabilities held 1e-15 off 0 and 1",
            "unit": "1", "better": "low", "perfect": 0.0, "no_positives": "usual", "no_negatives": "usual",
        },
        "ece": {
            "definition": "mean distance between probability and frequency over 15 bins of equal width, weighed by their cases",
            "unit": "1", "better": "low", "perfect": 0.0, "no_positives": "usual", "no_negatives": "usual",
        },
        "ece_mass": {
            "definition": "mean distance between probability and frequency over 15 bins that hold equally many cases",
            "unit": "1", "better": "low", "perfect": 0.0, "no_positives": "usual", "no_negatives": "usual",
        },
    },
)  # fmt: skip

BINS = 15  # Guo et al.
FLOOR = 1e-15


@dataclass(frozen=True, eq=False)
class Bins:
    """A reliability diagram: mean `probability` and `frequency` of the event in each bin that holds cases, and `count` of them."""

    probability: Floats
    frequency: Floats
    count: Floats

    @property
    def error(self) -> float:
        """The expected calibration error; NaN without a case."""
        return float(np.abs(self.probability - self.frequency) @ self.count / self.count.sum()) if len(self.count) else nan


def calibration(answers: Answers) -> dict[str, float]:
    """brier, log_loss, ece and ece_mass; of findings the plain mean; NaN without a case."""
    asked = events(answers)
    return {
        "brier": brier(answers),
        "log_loss": log_loss(answers),
        "ece": macro([reliability(p, y).error for p, y in asked]),
        "ece_mass": macro([reliability(p, y, equal_mass=True).error for p, y in asked]),
    }


def events(answers: Answers) -> list[tuple[Floats, Flags]]:
    """(probability, whether it came true) of what is held against frequencies, each (n,)."""
    if answers.exclusive and answers.classes > 2:
        said = answers.said
        return [(answers.probabilities[np.arange(len(said)), said], said == answers.truth)]
    return [(problem.score, problem.truth) for problem in answers.problems]


def reliability(probability: Floats, truth: Flags, *, bins: int = BINS, equal_mass: bool = False) -> Bins:
    """Bins of `probability` (N,) in 0..1, closed below, of equal width, or between quantiles; equal ones share a bin."""
    inner = np.arange(1, bins) / bins
    edges = np.unique(np.quantile(probability, inner)) if equal_mass and len(probability) else inner
    index = np.searchsorted(edges, probability, side="right")
    count = np.bincount(index, minlength=len(edges) + 1).astype(float)
    there = count > 0
    sums = [np.bincount(index, values, minlength=len(edges) + 1)[there] for values in (probability, truth.astype(float))]
    return Bins(sums[0] / count[there], sums[1] / count[there], count[there])


def consistent_errors(probability: Floats, *, patients: Sequence[object] | NDArray[np.generic] | None = None, draws: int = 500,
                      seed: int = 0, equal_mass: bool = False) -> Floats:  # fmt: skip
    """Calibration errors (draws,) of answers that are calibrated and have these probabilities (N,): what chance alone makes.

    Consistency resampling (Broecker & Smith 2007, Weather and Forecasting 22): the truth is drawn from the probabilities,
    with one random number for all images of a patient, as if they were all alike. An error above their 95th percentile is
    hardly chance.
    """
    owner, generator = numbered(patients, len(probability)), np.random.default_rng(seed)
    people = int(owner.max(initial=-1)) + 1
    drawn = (generator.random(people)[owner] < probability for _ in range(draws))
    return np.array([reliability(probability, truth, equal_mass=equal_mass).error for truth in drawn])


def brier(answers: Answers) -> float:
    """See the card."""
    if not len(answers.truth):
        return nan
    if answers.exclusive and answers.classes > 2:
        return float(((answers.probabilities - np.eye(answers.classes)[answers.truth]) ** 2).sum(1).mean())
    return macro([float(((q.score - q.truth) ** 2).mean()) if len(q.truth) else nan for q in answers.problems])


def log_loss(answers: Answers) -> float:
    """See the card."""
    if not answers.exclusive:
        return macro([_nats(np.where(q.truth, q.score, 1 - q.score)) for q in answers.problems])
    return _nats(answers.probabilities[np.arange(len(answers.truth)), answers.truth])


def _nats(of_truth: Floats) -> float:
    return float(-np.log(of_truth.clip(FLOOR, 1)).mean()) if len(of_truth) else nan
