"""Measures that belong to a set of cases (an area under a curve has no value for one case), with intervals by drawing patients.

The interval is BCa (Efron 1987, JASA 82), widened for few patients (Hesterberg 2015, The American Statistician 69), as that of means
in scores.py. Two answers to the same cases are drawn together, so that their difference has an interval of its own.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from vesalius.engine.scores import LEVEL

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Table = dict[str, dict[str, float]]  # {label or "all": {measure: value}}
Measure = Callable[[str, Index], Table]  # (who, which cases) -> table; NaN where undefined
DRAWS, FEWER, LARGE = 1000, 200, 20_000  # draws, and of more cases than LARGE
LEFT_OUT = 100  # parts of the patients that are left out in turn


def summaries(people: Sequence[str], patients: Sequence[str], measure: Measure, *, seed: int = 0,
              draws: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """({who: summary}, difference of the first to the second): {label: {measure: {"mean", "low", "high", "median", "n"}}}, where
    "mean" is the value over all cases. None where a value is not defined."""
    whole = np.arange(len(patients))
    tables = {who: measure(who, whole) for who in people}
    names = [(label, name) for label, row in tables[people[0]].items() for name in row]
    value = np.array([[tables[who][label][name] for label, name in names] for who in people])
    number = draws or (DRAWS if len(patients) <= LARGE else FEWER)

    def measured(index: Index) -> Floats:
        found = (measure(who, index) for who in people)
        return np.array([[table[label][name] for label, name in names] for table in found])

    drawn, left = _replicates(patients, measured, seed=seed, draws=number)
    count = len(set(patients))
    made = {who: _told(names, value[k], (drawn[:, k], left[:, k]), patients=count, cases=len(patients)) for k, who in enumerate(people)}
    if len(people) < 2:
        return made, {}
    gaps = drawn[:, 0] - drawn[:, 1], left[:, 0] - left[:, 1]
    return made, _told(names, value[0] - value[1], gaps, patients=count, cases=len(patients))


def _replicates(patients: Sequence[str], measured: Callable[[Index], Floats], *, seed: int, draws: int) -> tuple[Floats, Floats]:
    """(draws, who, measures) of patients drawn with replacement, and (parts, who, measures) with a part of the patients left out."""
    _, owner = np.unique(np.asarray(patients, str), return_inverse=True)
    count = int(owner.max()) + 1
    order = np.argsort(owner, kind="stable")
    ends = np.cumsum(np.bincount(owner, minlength=count))
    mine = np.split(order, ends[:-1])
    shape = measured(order).shape
    if count < 2:
        return np.empty((0, *shape)), np.empty((0, *shape))
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        chosen = generator.integers(count, size=count)
        drawn.append(measured(order[chosen] if len(order) == count else np.concatenate([mine[k] for k in chosen])))
    shuffled = generator.permutation(count) % min(LEFT_OUT, count)
    left = [measured(np.flatnonzero(shuffled[owner] != k)) for k in range(min(LEFT_OUT, count))]
    return np.stack(drawn), np.stack(left)


def _told(
    names: Sequence[tuple[str, str]], value: Floats, replicates: tuple[Floats, Floats], *, patients: int, cases: int
) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for k, (label, name) in enumerate(names):
        low, high = _ends(float(value[k]), replicates[0][:, k], replicates[1][:, k], patients=patients)
        told.setdefault(label, {})[name] = {"mean": _none(value[k]), "low": low, "high": high, "median": None, "n": cases}
    return told


def _none(value: float) -> float | None:
    return float(value) if value == value else None


def _ends(value: float, drawn: Floats, left: Floats, *, patients: int) -> tuple[float | None, float | None]:
    """BCa ends; (None, None) where the value, or half of the draws, are not defined."""
    defined = drawn[~np.isnan(drawn)]
    if value != value or len(defined) < max(2, len(drawn) / 2):
        return None, None
    ties = np.isclose(defined, value, rtol=1e-12, atol=1e-12)
    below = ((defined < value) & ~ties).mean() + ties.mean() / 2
    bias = ndtri(np.clip(below, 1 / len(defined), 1 - 1 / len(defined)))
    pull = np.nanmean(left) - left[~np.isnan(left)] if (~np.isnan(left)).any() else np.zeros(1)
    spread = float((pull**2).sum())
    bend = float((pull**3).sum() / (6 * spread**1.5)) if spread > 1e-24 else 0.0
    wide = sqrt(patients / (patients - 1)) * stdtrit(patients - 1, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    ends = np.quantile(defined, ndtr(bias + (bias + wide) / (1 - bend * (bias + wide))))
    return float(ends[0]), float(ends[1])
