"""Measures that belong to a set of cases (an area under a curve has no value for one case), with intervals by drawing patients.

The bootstrap is that of `vesalius.metrics`. Two answers to the same cases are drawn together, so that their difference has an interval
of its own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.engine.scores import LEVEL
from vesalius.metrics._bootstrap import Intervals, bootstrap

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Table = dict[str, dict[str, float]]  # {label or "all": {measure: value}}
Measure = Callable[[str, Index], Table]  # (who, which cases) -> table; NaN where undefined
DRAWS, FEWER, LARGE = 1000, 200, 5_000  # draws, and of more cases than LARGE


def summaries(people: Sequence[str], patients: Sequence[str], measure: Measure, *, seed: int = 0,
              draws: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """({who: summary}, difference of the first to the second): {label: {measure: {"mean", "low", "high", "median", "n"}}}, where
    "mean" is the value over all cases. None where a value is not defined."""
    names = [(label, name) for label, row in measure(people[0], np.arange(len(patients))).items() for name in row]

    def values(index: Index) -> Floats:
        tables = (measure(who, index) for who in people)
        found = np.array([[table[label][name] for label, name in names] for table in tables])
        return np.concatenate([*found, found[0] - found[1]] if len(people) > 1 else found)

    number = draws or (DRAWS if len(patients) <= LARGE else FEWER)
    found = bootstrap(values, patients, draws=number, seed=seed, level=LEVEL)
    parts = [_told(names, found, k, cases=len(patients)) for k in range(len(people) + (len(people) > 1))]
    return dict(zip(people, parts, strict=False)), parts[-1] if len(people) > 1 else {}


def _told(names: Sequence[tuple[str, str]], found: Intervals, part: int, *, cases: int) -> dict[str, Any]:
    """Part number `part` of the values in `found`, by label and measure."""
    told: dict[str, Any] = {}
    for k, (label, name) in enumerate(names, part * len(names)):
        low, high, value = (_none(ends[k]) for ends in (found.low, found.high, found.value))
        told.setdefault(label, {})[name] = {"mean": value, "low": low, "high": high, "median": None, "n": cases}
    return told


def _none(value: float) -> float | None:
    return float(value) if value == value else None
