"""Intervals of any number by drawing patients with replacement, all cases of a patient together: BCa, widened for few patients.

Efron 1987, JASA 82; the widening is that of Hesterberg 2015, The American Statistician 69. The acceleration comes from
leaving out patients in at most 100 groups, which for many patients is nearly as good as one by one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import DataError
from vesalius.metrics._answers import Answers, Indices
from vesalius.metrics._curves import Floats

GROUPS = 100
Statistic = Callable[[Indices], Sequence[float] | Floats]


@dataclass(frozen=True, eq=False)
class Intervals:
    """`value`, `low`, `high` (M,) of M numbers, and `drawn` (draws, M) their values in the draws, NaN where undefined."""

    value: Floats
    low: Floats
    high: Floats
    drawn: Floats


@dataclass(frozen=True, eq=False)
class Patients:
    """Rows of cases sorted by patient: those of patient i are `rows[start[i] : start[i] + count[i]]`."""

    rows: Indices
    start: Indices
    count: Indices

    @classmethod
    def of(cls, patients: Sequence[object] | NDArray[np.generic]) -> "Patients":
        owner = np.unique(np.asarray(patients).astype(str), return_inverse=True)[1]
        count = np.bincount(owner).astype(np.intp)
        return cls(np.argsort(owner, kind="stable"), np.cumsum(count) - count, count)

    def cases(self, chosen: Indices) -> Indices:
        """Rows of all cases of the patients `chosen`, as often as each is named."""
        count = self.count[chosen]
        before = np.cumsum(count) - count
        return np.asarray(self.rows[np.repeat(self.start[chosen] - before, count) + np.arange(count.sum())])


def bootstrap(statistic: Statistic, patients: Sequence[object] | NDArray[np.generic], *, draws: int = 2000, seed: int = 0,
              level: float = 0.95) -> Intervals:  # fmt: skip
    """`statistic(rows)` gives M numbers of the cases in `rows`; `patients` (N,) says whose each case is.

    NaN ends where fewer than two patients are there or a number is undefined in most draws.
    """
    if len(patients) == 0:
        raise DataError("No case to draw from; give at least one.")
    groups, generator = Patients.of(patients), np.random.default_rng(seed)
    n = len(groups.count)
    value = np.asarray(statistic(np.arange(len(patients))), float)
    picks = (generator.integers(n, size=n) for _ in range(draws if n > 1 else 0))
    drawn = np.array([statistic(groups.cases(pick)) for pick in picks], float).reshape(-1, len(value))
    ends = np.full((2, len(value)), np.nan)
    if n > 1:
        left = _left_out(statistic, groups, generator.permutation(n))
        ends = np.stack([_bca(value[m], drawn[:, m], left[:, m], patients=n, level=level) for m in range(len(value))], 1)
    return Intervals(value, ends[0], ends[1], drawn)


def with_intervals(score: Callable[[Answers], dict[str, float]], answers: Answers, *, draws: int = 2000,
                   seed: int = 0) -> dict[str, dict[str, float | None]]:  # fmt: skip
    """{name: {"value", "low", "high"}} of every number of `score`, by a bootstrap over the patients of `answers`; None is undefined."""
    names = list(score(answers))
    found = bootstrap(lambda rows: list(score(answers.take(rows)).values()), answers.patients, draws=draws, seed=seed)
    parts = {"value": found.value, "low": found.low, "high": found.high}
    return {name: {word: None if np.isnan(part[m]) else float(part[m]) for word, part in parts.items()} for m, name in enumerate(names)}


def _left_out(statistic: Statistic, groups: Patients, order: Indices) -> Floats:
    """The numbers without each of at most 100 groups of patients."""
    parts = np.array_split(order, min(GROUPS, len(order)))
    return np.array([statistic(groups.cases(np.setdiff1d(order, part))) for part in parts], float)


def _bca(value: float, drawn: Floats, left: Floats, *, patients: int, level: float) -> Floats:
    from scipy.special import ndtr, ndtri, stdtrit

    drawn, left = drawn[~np.isnan(drawn)], left[~np.isnan(left)]
    if np.isnan(value) or len(drawn) < 20:
        return np.full(2, np.nan)
    ties = np.isclose(drawn, value, rtol=1e-12, atol=1e-15)
    below = ((drawn < value) & ~ties).mean() + ties.mean() / 2
    bias = ndtri(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    pull = left.mean() - left if len(left) else np.zeros(1)
    spread = (pull**2).sum()
    bend = (pull**3).sum() / (6 * spread**1.5) if spread > 1e-24 else 0.0
    wide = sqrt(patients / (patients - 1)) * stdtrit(patients - 1, [(1 - level) / 2, (1 + level) / 2])
    return np.asarray(np.quantile(drawn, ndtr(bias + (bias + wide) / (1 - bend * (bias + wide)))))
