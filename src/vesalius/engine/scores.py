"""Summaries of scores: means per label and group, each with an interval from a bootstrap over patients.

The interval of a mean is BCa (Efron 1987, JASA 82) over patients drawn with replacement, all cases of a patient together;
its level is widened for few patients as Hesterberg 2015 (The American Statistician 69) advises, without which ten
patients would be given 85 % where 95 % is promised. Its coverage on simulated clusters is a test.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]
Floats = NDArray[np.float64]
WORDS = ("case", "patient", "label", "state")  # what in a row is not a number
STATES = ("scored", "both_empty", "missed", "hallucinated")
ALL = "all"  # the label that stands for the mean over labels, case by case
LEVEL = 0.95


def summarise(rows: Sequence[Row], *, seed: int = 0, draws: int = 2000,
              groups: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:  # fmt: skip
    """`rows` with their summary, over all and per group: the Scores of `metrics.json`.

    `groups[key][case]` is the value of the case, for instance groups["sex"]["patient_7"] == "F"; a case without one is in no group.
    """
    return {
        "rows": list(rows),
        "summary": summary(rows, seed=seed, draws=draws),
        "groups": {key: _by_value(rows, values, seed=seed, draws=draws) for key, values in (groups or {}).items()},
    }


def _by_value(rows: Sequence[Row], values: Mapping[str, Any], *, seed: int, draws: int) -> dict[str, Any]:
    seen = sorted({str(values[row["case"]]) for row in rows if values.get(row["case"]) is not None})
    parts = {value: [row for row in rows if str(values.get(row["case"])) == value] for value in seen}
    return {value: summary(part, seed=seed, draws=draws) for value, part in parts.items()}


def summary(rows: Sequence[Row], *, seed: int = 0, draws: int = 2000) -> dict[str, Any]:
    """{label or "all": {metric: {"mean", "low", "high", "median", "n"}, "counts": {state: number}}}; None where undefined."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    parts = {label: [row for row in rows if row["label"] == label] for label in labels}
    told = {label: _one_label(part, seed, draws) for label, part in parts.items()}
    return {**told, ALL: {**_one_label(over_labels(rows), seed, draws), "counts": _counts(rows)}}


def numbers(rows: Sequence[Row]) -> list[str]:
    """Names of the metrics that the rows hold, in order."""
    return list(dict.fromkeys(key for row in rows for key in row if key not in WORDS))


def over_labels(rows: Sequence[Row]) -> list[Row]:
    """One row per case: the mean over its labels of what is defined."""
    metrics = numbers(rows)
    cases: dict[str, list[Row]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(row)
    return [
        {"case": case, "patient": part[0]["patient"], "label": ALL, **{m: _mean([r.get(m) for r in part]) for m in metrics}}
        for case, part in cases.items()
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [v for v in values if v is not None]
    return sum(defined) / len(defined) if defined else None


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    return {state: sum(row.get("state") == state for row in rows) for state in STATES}


def _one_label(rows: Sequence[Row], seed: int, draws: int) -> dict[str, Any]:
    metrics = numbers(rows)
    values = np.array([[nan if row.get(m) is None else row[m] for m in metrics] for row in rows], float).reshape(len(rows), len(metrics))
    low, high = intervals(values, [row["patient"] for row in rows], seed=seed, draws=draws)
    told: dict[str, Any] = {}
    for m, metric in enumerate(metrics):
        defined = values[~np.isnan(values[:, m]), m]
        centre = (float(defined.mean()), float(np.median(defined))) if len(defined) else (None, None)
        ends = [None if np.isnan(end[m]) else float(end[m]) for end in (low, high)]
        told[metric] = {"mean": centre[0], "low": ends[0], "high": ends[1], "median": centre[1], "n": len(defined)}
    return {**told, "counts": _counts(rows)}


def intervals(values: Floats, patients: Sequence[str], *, seed: int = 0, draws: int = 2000) -> tuple[Floats, Floats]:
    """Ends (M,) of the 95 % intervals of the column means of `values` (cases, M), NaN being undefined.

    Patients are drawn, never cases. NaN where fewer than two patients have a value.
    """
    names, owner = np.unique(np.asarray(patients, str), return_inverse=True)
    defined = ~np.isnan(values)
    total, count = np.zeros((len(names), values.shape[1])), np.zeros((len(names), values.shape[1]))
    np.add.at(total, owner, np.where(defined, values, 0))
    np.add.at(count, owner, defined)
    ends = np.full((2, values.shape[1]), nan)
    generator = np.random.default_rng(seed)
    if len(names) > 1:
        weight = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws).astype(float)
        for m in np.flatnonzero((count > 0).sum(0) > 1):
            ends[:, m] = _bca(total[:, m], count[:, m], weight)
    return ends[0], ends[1]


def _bca(total: Floats, count: Floats, weight: Floats) -> Floats:
    """Both ends for the ratio sum(total) / sum(count) over patients; `weight` (draws, patients) is how often each was drawn."""
    from scipy.special import ndtr, ndtri, stdtrit

    with np.errstate(invalid="ignore"):  # a draw may hold no patient that has a value
        drawn = (weight @ total) / (weight @ count)
    drawn = drawn[~np.isnan(drawn)]
    mean = total.sum() / count.sum()
    ties = np.isclose(drawn, mean, rtol=1e-12, atol=0)
    below = ((drawn < mean) & ~ties).mean() + ties.mean() / 2
    bias = ndtri(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    has = count > 0
    n = int(has.sum())
    left_out = (total.sum() - total[has]) / (count.sum() - count[has])
    pull = left_out.mean() - left_out
    bend = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5) if (pull**2).sum() > 1e-24 * mean**2 else 0.0
    wide = sqrt(n / (n - 1)) * stdtrit(n - 1, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])  # Hesterberg's widening, as normal quantiles
    return np.asarray(np.quantile(drawn, ndtr(bias + (bias + wide) / (1 - bend * (bias + wide)))))
