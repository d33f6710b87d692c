"""Two runs on the same cases: is one better, or could the difference be chance?

AUC by DeLong's test (1988), decisions by McNemar's exact test with its mid-p (Fagerland, Lydersen, Laake 2013), any other
number by a bootstrap over patients. All are paired: each case, and each patient, is compared with itself.
"""

from collections.abc import Callable
from math import nan, sqrt
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from vesalius.core.errors import DataError
from vesalius.core.settings import Settings
from vesalius.metrics import METRICS
from vesalius.metrics._answers import Answers
from vesalius.metrics._bootstrap import Patients, bootstrap
from vesalius.metrics._curves import Flags
from vesalius.metrics._delong import macro_area

LEVEL = 0.95
Score = Callable[[Answers], dict[str, float]]


class Difference(Settings):
    """`first` less `second` of one number, its interval of 95 %, and the chance `p` of one as large if there were none."""

    metric: str
    test: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float


class Discordant(Settings):
    """McNemar's table: cases that only the `first` or only the `second` answered rightly, with the two-sided chances."""

    first: int
    second: int
    p_exact: float
    p_mid: float


def compare(first: Answers, second: Answers, *, seed: int = 0, draws: int = 2000) -> dict[str, Any]:
    """Every number of both with its difference, as plain JSON: {"differences": [...], "discordant": {...} or None, "remarks": [...]}.

    `first` and `second` hold the same cases in the same order. McNemar's test wants one case per patient.
    """
    require_same_cases(first, second)
    singles = len(np.unique(first.patients)) == len(first.patients)
    remarks = [] if singles else ["Some patients have several cases: no McNemar test, whose cases must be independent; see accuracy."]
    found = [delong_test(first, second), *bootstrap_differences(first, second, seed=seed, draws=draws)]
    return {
        "differences": [difference.model_dump(mode="json") for difference in found],
        "discordant": mcnemar(first.right, second.right).model_dump(mode="json") if singles else None,
        "remarks": remarks,
    }


def require_same_cases(first: Answers, second: Answers) -> None:
    """Raise a DataError unless both answer the same cases in the same order."""
    same = first.exclusive == second.exclusive and first.probabilities.shape == second.probabilities.shape
    if not same or not np.array_equal(first.truth, second.truth) or not np.array_equal(first.patients, second.patients):
        raise DataError("Two runs are compared on the same cases in the same order; these differ in truth, patients or classes: "
                        f"{first.probabilities.shape} and {second.probabilities.shape}. Let both predict the same test part.")  # fmt: skip


def delong_test(first: Answers, second: Answers) -> Difference:
    """The difference of two AUCs (of several classes: of their means) by DeLong's test; cases of one patient are summed."""
    areas = macro_area(first, second)
    gap, spread = float(areas.area[0] - areas.area[1]), float(np.array([1, -1]) @ areas.covariance @ np.array([1, -1]))
    half = float(ndtri((1 + LEVEL) / 2)) * sqrt(max(spread, 0.0)) if spread == spread else nan
    p = float(2 * ndtr(-abs(gap) / sqrt(spread))) if spread > 1e-18 else nan if spread != spread or gap else 1.0
    return Difference(metric="auc", test="DeLong", first=float(areas.area[0]), second=float(areas.area[1]),
                      difference=gap, low=gap - half, high=gap + half, p=p)  # fmt: skip


def mcnemar(first: Flags, second: Flags) -> Discordant:
    """From whether each of N independent cases was answered rightly (N,) by the first and by the second.

    The exact test is conservative; mid-p counts half of what was seen and keeps its level nearly always.
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    n, least = only_first + only_second, min(only_first, only_second)
    tail, seen = float(binom.cdf(least, n, 0.5)), float(binom.pmf(least, n, 0.5))
    exact = min(1.0, 2 * tail)
    mid = 1.0 if only_first == only_second else 2 * tail - seen
    return Discordant(first=only_first, second=only_second, p_exact=exact, p_mid=mid)


def all_numbers(answers: Answers) -> dict[str, float]:
    """Every number of classification on the shelf but the AUC, which has a test of its own."""
    entries = [name for name in METRICS if "classify" in METRICS.card(name).tasks]
    found: dict[str, float] = {}
    for name in entries:
        found |= METRICS[name](answers)
    return {name: value for name, value in found.items() if name != "auc"}


def bootstrap_differences(first: Answers, second: Answers, *, score: Score = all_numbers, seed: int = 0,
                          draws: int = 2000) -> list[Difference]:  # fmt: skip
    """The difference of every number of `score` by a BCa bootstrap over patients.

    `p` is twice the share of draws on the other side of no difference, never below 2 / (draws + 1).
    """
    names = list(score(first))

    def values(rows: np.ndarray) -> np.ndarray:
        both = [np.array(list(score(answers.take(rows)).values())) for answers in (first, second)]
        return np.concatenate([both[0] - both[1], *both])

    found, n = bootstrap(values, first.patients, draws=draws, seed=seed, level=LEVEL), len(names)
    return [
        Difference(metric=name, test="bootstrap over patients", first=found.value[n + m], second=found.value[2 * n + m],
                   difference=found.value[m], low=found.low[m], high=found.high[m], p=_two_sided(found.drawn[:, m]))
        for m, name in enumerate(names)
    ]  # fmt: skip


def _two_sided(drawn: np.ndarray) -> float:
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return nan
    least = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (least + 1) / (len(drawn) + 1)))


def sign_flips(first: Answers, second: Answers, *, score: Score, draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """Chance of a difference as large in each number of `score` when the two answers of a patient are exchanged at random.

    The permutation test of no difference at all: exact at its level for any number of patients.
    """
    groups, generator = Patients.of(first.patients), np.random.default_rng(seed)
    owner = np.empty(len(first.patients), int)
    owner[groups.rows] = np.repeat(np.arange(len(groups.count)), groups.count)
    seen = _gap(first, second, score)
    extreme = np.ones(len(seen))
    for _ in range(draws):
        swap = (generator.random(len(groups.count)) < 0.5)[owner][:, None]
        p = [np.where(swap, b.probabilities, a.probabilities) for a, b in ((first, second), (second, first))]
        made = [Answers(values, a.truth, a.exclusive, a.patients, a.thresholds) for values, a in zip(p, (first, second), strict=True)]
        extreme += np.abs(_gap(made[0], made[1], score)) >= np.abs(seen) - 1e-12
    return dict(zip(score(first), (extreme / (draws + 1)).tolist(), strict=True))


def _gap(first: Answers, second: Answers, score: Score) -> np.ndarray:
    return np.asarray(np.array(list(score(first).values())) - np.array(list(score(second).values())))
