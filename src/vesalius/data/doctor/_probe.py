"""How much of the label a part of the pictures tells: a ridge regression on coarse cells, cross-validated by patient.

Centre and margin blanked in turn: Maguolo & Nanni 2021, A critic evaluation of methods for COVID-19 automatic detection from X-ray
images, Information Fusion 76. Shallow on purpose: what it finds is there for every network. The shuffled labels go through the same
pipeline, folds and choice of the penalty. Intervals: DeLong et al. 1988, a patient's cases summed (Obuchowski 1997, Biometrics 53).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log, nan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
CELLS, PIXELS = 9, 8  # cells a side of a thumbnail, and pixels a side of a cell: the margin is one cell, a ninth
FOLDS, SHUFFLES = 5, 20
PENALTIES = 10.0 ** np.arange(-1, 4)  # on the squared coefficients of standardised features, in units of one case
REGIONS = ("whole", "margin", "centre")


@dataclass(frozen=True)
class Area:
    """An area under the ROC curve with its interval of 95 %; `shuffled` are the areas that shuffled labels reach, `each` the areas of the
    questions of which this is the mean."""

    auc: float
    low: float
    high: float
    shuffled: tuple[float, ...] = ()
    each: tuple["Area", ...] = ()

    @property
    def chance(self) -> tuple[float, float, float]:
        """Mean, 2.5th and 97.5th percentile of what shuffled labels reach."""
        found = np.array(self.shuffled or [nan])
        return float(found.mean()), float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def inside(region: str) -> NDArray[np.bool_]:
    """(81,) which cells belong to a region."""
    middle = np.zeros((CELLS, CELLS), bool)
    middle[1:-1, 1:-1] = True
    return {"whole": np.ones(CELLS**2, bool), "centre": middle.ravel(), "margin": ~middle.ravel()}[region]


def cells(thumbs: NDArray[np.uint8], region: str) -> NDArray[np.float32]:
    """(N, V, 72, 72) -> (N, F): of each cell of `region` mean, spread, extremes and edges, in units of the mean and spread of that region
    alone, so that nothing of the rest of the picture shines through."""
    parts = thumbs.reshape(*thumbs.shape[:2], CELLS, PIXELS, CELLS, PIXELS).swapaxes(3, 4).astype(np.float32)
    parts = parts.reshape(*thumbs.shape[:2], CELLS**2, PIXELS, PIXELS)[:, :, inside(region)]
    middle, spread = parts.mean((2, 3, 4), keepdims=True), parts.std((2, 3, 4), keepdims=True)
    parts = (parts - middle) / (spread + np.float32(1e-3))
    found = [parts.mean((3, 4)), parts.std((3, 4)), parts.max((3, 4)), parts.min((3, 4))]
    found += [np.abs(np.diff(parts, axis=axis)).mean((3, 4)) for axis in (3, 4)]
    return np.concatenate([part.reshape(len(thumbs), -1) for part in found], 1)


def probed(features: NDArray[np.floating], targets: Floats, patients: Sequence[str], *, seed: int = 0) -> Area:
    """The mean area over the columns of `targets` (N, K) of 0 / 1, NaN unknown, that `features` (N, F) reach on patients
    that were left out."""
    generator, (_, owner) = np.random.default_rng(seed), np.unique(np.asarray(patients, str), return_inverse=True)
    known = np.where(np.isnan(targets), np.nanmean(targets, 0), targets)
    dealt = [shuffled(targets, owner, generator) for _ in range(SHUFFLES)]
    wanted = np.hstack([known, *(np.where(np.isnan(t), np.nanmean(t, 0), t) for t in dealt)])
    scores = left_out(standard(features), wanted, folds(known, owner, generator))
    width = targets.shape[1]
    parts = [scores[:, k * width : (k + 1) * width] for k in range(1 + SHUFFLES)]

    def of(columns: slice) -> Area:
        areas = [area(said[:, columns], t[:, columns], owner) for said, t in zip(parts, [targets, *dealt], strict=True)]
        return replace(areas[0], shuffled=tuple(one.auc for one in areas[1:]))

    return replace(of(slice(None)), each=tuple(of(slice(k, k + 1)) for k in range(width)))


def standard(features: NDArray[np.floating]) -> Floats:
    """Features in standard deviations, clipped to four; scaled so that a case has length 1 or so."""
    x = np.asarray(features, float)
    return np.asarray(np.clip((x - x.mean(0)) / (x.std(0) + 1e-6), -4, 4) / sqrt(x.shape[1]))


def folds(targets: Floats, owner: NDArray[np.intp], generator: np.random.Generator) -> NDArray[np.intp]:
    """(N,) the fold of each case: patients with like targets are dealt out in turn."""
    people = np.unique(owner, return_index=True)[1]
    kinds = np.unique(targets[people], axis=0, return_inverse=True)[1].ravel()
    turn = np.lexsort((generator.permutation(len(people)), kinds))
    dealt = np.empty(len(people), np.intp)
    dealt[turn] = np.arange(len(people)) % min(FOLDS, len(people))
    return dealt[owner]


def shuffled(targets: Floats, owner: NDArray[np.intp], generator: np.random.Generator) -> Floats:
    """Targets dealt anew among patients: all cases of one get those of the first case of another."""
    first = np.unique(owner, return_index=True)[1]
    return np.asarray(targets[first[generator.permutation(len(first))]][owner])


def left_out(x: Floats, y: Floats, fold: NDArray[np.intp]) -> Floats:
    """(N, M) what ridge regressions say of cases of the fold that they did not see; each column of `y` (N, M) has the penalty that is best
    for it, leaving out one case at a time. Every fold has the mean 0: a fold with more of a class leaves fewer of it to learn from, by
    which what is said of unlike folds would go against the truth."""
    out = np.zeros_like(y)
    for k in np.unique(fold):
        seen, left = fold != k, fold == k
        directions, strength = principal(x[seen])
        u = x[seen] @ directions / strength
        target = y[seen] - y[seen].mean(0)
        inner, squares, best = u.T @ target, u**2, np.full(y.shape[1], np.inf)
        for penalty in PENALTIES:
            kept = strength**2 / (strength**2 + penalty)
            lever = np.minimum(squares @ kept + 1 / len(target), 0.999)
            cost = (((target - u @ (kept[:, None] * inner)) / (1 - lever)[:, None]) ** 2).mean(0)
            better = cost < best
            out[np.ix_(left, better)] = x[left] @ directions @ ((kept / strength)[:, None] * inner[:, better])
            best = np.minimum(best, cost)
        out[left] -= out[left].mean(0)
    return out


def principal(x: Floats) -> tuple[Floats, Floats]:
    """Right singular vectors (F, R) and singular values (R,) of `x` (N, F), from the smaller of its two Gram matrices."""
    wide = x.shape[1] > len(x)
    squares, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    kept = squares > squares[-1] * 1e-9
    strength = np.sqrt(squares[kept])
    return (x.T @ vectors[:, kept] / strength if wide else vectors[:, kept]), strength


def area(scores: Floats, targets: Floats, owner: NDArray[np.intp]) -> Area:
    """Mean area over the columns that have both kinds, with its interval over patients."""
    found = [influence(scores[told, k], targets[told, k] == 1, owner[told], count=int(owner.max()) + 1)
             for k in range(targets.shape[1]) if (told := ~np.isnan(targets[:, k])).any()]  # fmt: skip
    found = [one for one in found if not np.isnan(one[0])]
    if not found:
        return Area(nan, nan, nan)
    value, pull = float(np.mean([one[0] for one in found])), np.mean([one[1] for one in found], 0)
    low, high = interval(value, float(pull @ pull), fewest=min(one[2] for one in found))
    return Area(value, low, high)


def influence(score: Floats, truth: NDArray[np.bool_], owner: NDArray[np.intp], *, count: int) -> tuple[float, Floats, int]:
    """The area, what each of `count` patients pulls at it, and patients of the rarer kind."""
    from scipy.stats import rankdata

    yes, no = int(truth.sum()), int((~truth).sum())
    if not yes or not no:
        return nan, np.zeros(count), 0
    ranks = rankdata(score)
    below = (ranks[truth] - rankdata(score[truth])) / no
    above = 1 - (ranks[~truth] - rankdata(score[~truth])) / yes
    value, pull = float(below.mean()), np.zeros(len(score))
    people = [len(np.unique(owner[part])) for part in (truth, ~truth)]
    for part, places, number in ((truth, below, people[0]), (~truth, above, people[1])):
        pull[part] = (places - value) / part.sum() * sqrt(number / max(1, number - 1))
    return value, np.bincount(owner, pull, minlength=count).astype(float), min(people)


def interval(value: float, variance: float, *, fewest: int) -> tuple[float, float]:
    """Symmetric on the logit scale; at 0 and 1 the exact binomial one for as many patients as the rarer kind has."""
    if value in (0.0, 1.0):
        far = 0.025 ** (1 / fewest)
        return (far, 1.0) if value else (0.0, 1 - far)
    middle, half = log(value / (1 - value)), float(ndtri(0.975)) * sqrt(variance) / (value * (1 - value))
    return 1 / (1 + exp(min(700, half - middle))), 1 / (1 + exp(-min(700, middle + half)))
