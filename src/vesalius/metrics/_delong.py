"""Area under the ROC curve with the variance of DeLong: midranks, influence of each case, covariance of models.

DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44; midranks in O(n log n) as in Sun & Xu 2014, IEEE Signal Processing
Letters 21. Ours sums what the cases of one patient contribute before squaring (Obuchowski 1997, Biometrics 53); with one
case per patient that is DeLong's variance exactly, with more it differs from hers by a factor close to 1 in the cross term.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, nan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from vesalius.core.errors import DataError
from vesalius.metrics._answers import Answers, Indices
from vesalius.metrics._curves import Curve, Flags, Floats


@dataclass(frozen=True, eq=False)
class Areas:
    """`area` (M,) of M models on the same cases and their `covariance` (M, M); `fewest`: patients of the rarer class."""

    area: Floats
    covariance: Floats
    fewest: int


def placements(score: Floats, truth: Flags) -> tuple[float, Floats]:
    """The area, and for each case (N,) the share of the other class that it is ranked rightly against; ties are halves.

    Both classes must be there.
    """
    from scipy.stats import rankdata

    positives, negatives = int(truth.sum()), int((~truth).sum())
    rank = rankdata(score)
    place = np.empty(len(score))
    place[truth] = (rank[truth] - rankdata(score[truth])) / negatives
    place[~truth] = 1 - (rank[~truth] - rankdata(score[~truth])) / positives
    return float(place[truth].mean()), place


def area(score: Floats, truth: Flags) -> float:
    """Area under the ROC curve, the chance that a positive is ranked above a negative; NaN where one of them is absent."""
    return Curve.of(score, truth).area


def influence(score: Floats, truth: Flags, owner: Indices) -> tuple[float, Floats]:
    """The area and what each patient adds to its error, (patients,): the sum of squares is the variance of the area.

    `owner` (N,) is the number of each case's patient. NaN and zeros where a class is absent.
    """
    patients = int(owner.max(initial=-1)) + 1
    if not truth.any() or truth.all():
        return nan, np.zeros(patients)
    middle, place = placements(score, truth)
    off = place - middle
    for part in (truth, ~truth):
        groups = len(np.unique(owner[part]))
        off[part] *= sqrt(groups / (groups - 1)) / part.sum() if groups > 1 else nan
    return middle, np.bincount(owner, off, minlength=patients).astype(float)


def numbered(patients: Sequence[object] | NDArray[np.generic] | None, cases: int) -> Indices:
    """The number (N,) of each case's patient; every case its own without `patients`."""
    if patients is None:
        return np.arange(cases)
    return np.unique(np.asarray(patients).astype(str), return_inverse=True)[1].astype(np.intp)


def delong(scores: Floats, truth: Flags, *, patients: Sequence[object] | NDArray[np.str_] | None = None) -> Areas:
    """Areas of M models with `scores` (M, N) or (N,), on the same cases with `truth` (N,) of yes and no."""
    scores, truth = np.atleast_2d(np.asarray(scores, float)), np.asarray(truth, bool)
    if scores.shape[1:] != truth.shape:
        raise DataError(f"Expected scores (models, N) with truth (N,); got {scores.shape} and {truth.shape}.")
    owner = numbered(patients, len(truth))
    found = [influence(score, truth, owner) for score in scores]
    pull = np.stack([part for _, part in found])
    defined = bool(truth.any() and not truth.all())
    return Areas(np.array([value for value, _ in found]), pull @ pull.T if defined else np.full((len(scores),) * 2, nan),
                 min(len(np.unique(owner[part])) for part in (truth, ~truth)))  # fmt: skip


def macro_area(*models: Answers) -> Areas:
    """Mean areas of one or more models on the same cases over their classes or findings, with covariance."""
    owner = numbered(models[0].patients, len(models[0].truth))
    means, pulls = zip(*(_mean_influence(answers, owner) for answers in models), strict=True)
    asked = [problem for problem in models[0].problems if problem.both]
    fewest = [len(np.unique(owner[q.rows][part])) for q in asked for part in (q.truth, ~q.truth)]
    pull = np.stack(pulls)
    return Areas(np.array(means), pull @ pull.T, min(fewest, default=0))


def _mean_influence(answers: Answers, owner: Indices) -> tuple[float, Floats]:
    """Like `influence`, of the mean over the classes or findings that have positives and negatives."""
    found = [influence(q.score, q.truth, owner[q.rows]) for q in answers.problems if q.both]
    patients = int(owner.max(initial=-1)) + 1
    if not found:
        return nan, np.full(patients, nan)
    wide = [np.pad(part, (0, patients - len(part))) for _, part in found]  # a finding may be unknown for the last patients
    return float(np.mean([value for value, _ in found])), np.mean(wide, 0)


def interval(areas: Areas, *, model: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Ends of the interval of one area, symmetric on the logit scale, which keeps it inside 0..1.

    A perfect (or perfectly wrong) area has no variance of its own; there the interval is the exact binomial one for as
    many successes as there are patients of the rarer class.
    """
    value, spread = float(areas.area[model]), float(areas.covariance[model, model])
    if np.isnan(value) or np.isnan(spread):
        return nan, nan
    if spread == 0 and 0 < value < 1:
        return value, value  # all scores are equal
    if value in (0.0, 1.0):
        far = ((1 - level) / 2) ** (1 / areas.fewest)
        return (far, 1.0) if value > 0.5 else (0.0, 1 - far)
    middle, half = log(value / (1 - value)), float(ndtri((1 + level) / 2)) * sqrt(spread) / (value * (1 - value))
    return 1 / (1 + exp(-(middle - half))), 1 / (1 + exp(-(middle + half)))
