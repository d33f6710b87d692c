"""Operating points: of each class the threshold that reaches a wished sensitivity or specificity on validation cases, and what it does on
others. Where patients have several cases the intervals come from drawing patients, else they are exact binomial ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.space import Array
from vesalius.data.labels import Labels
from vesalius.metrics._bootstrap import bootstrap
from vesalius.trust._kept import Flags, Floats, Kept
from vesalius.trust.operating import OperatingPoint, Rate, fixed_sensitivity, fixed_specificity

CHOOSE = {"sensitivity": fixed_sensitivity, "specificity": fixed_specificity}
RATES = ("sensitivity", "specificity", "ppv", "npv")
DRAWS = 500
Targets = Mapping[str, Sequence[float]]


class Operating(Kept):
    """One class with its point: at least `least` of `wish` (sensitivity or specificity) on the validation cases."""

    label: str
    wish: str
    least: float
    point: OperatingPoint


Part = tuple[Sequence[Operating], NDArray[np.intp]]  # points, and the cases that are judged by them


def asked(probabilities: Array, truth: Array, labels: Labels) -> list[tuple[str, Floats, NDArray[np.int64]]]:
    """(class, probabilities (N,), truth (N,) of 0 / 1, 255 unknown): the last of two classes, each of more, each finding."""
    p, known = np.asarray(probabilities, float), np.asarray(truth).astype(np.int64)
    if not labels.one_of:
        return [(name, p[:, k], known[:, k]) for k, name in enumerate(labels.names)]
    kept = [1] if len(labels.names) == 2 else range(len(labels.names))
    return [(labels.names[k], p[:, k], (known[:, 0] == k).astype(np.int64)) for k in kept]


def chosen(probabilities: Array, truth: Array, labels: Labels, *, targets: Targets) -> tuple[Operating, ...]:
    """The points for all `targets` {"sensitivity": (.95,), "specificity": ...}; none for a class without cases of both kinds."""
    return tuple(Operating(label=name, wish=wish, least=least, point=CHOOSE[wish](p, there, least=least))
                 for name, p, there in asked(probabilities, truth, labels) if {0, 1} <= set(there.tolist())
                 for wish, levels in targets.items() for least in levels)  # fmt: skip


def measured(parts: Sequence[Part], probabilities: Array, truth: Array, *, labels: Labels,
             patients: NDArray[np.str_]) -> list[dict[str, Any]]:  # fmt: skip
    """{"class", "wish", "least", "thresholds", "on_validation", "sensitivity", "specificity", "ppv", "npv"} of each point on the cases
    that `parts` of them are judged by it; "thresholds" and "on_validation" have an entry for each part."""
    by_name = {name: (p, there) for name, p, there in asked(probabilities, truth, labels)}
    rows = []
    for label, wish, least in dict.fromkeys((one.label, one.wish, one.least) for points, _ in parts for one in points):
        p, there = by_name[label]
        mine = [(one.point, cases[there[cases] <= 1]) for points, cases in parts for one in points
                if (one.label, one.wish, one.least) == (label, wish, least)]  # fmt: skip
        kept = np.concatenate([cases for _, cases in mine])
        said = np.concatenate([point.says(p[cases]) for point, cases in mine])
        rows.append({"class": label, "wish": wish, "least": least, "thresholds": [point.threshold for point, _ in mine],
                     "on_validation": [point.fitted.model_dump(mode="json") for point, _ in mine],
                     **rates(said, there[kept] == 1, patients[kept])})  # fmt: skip
    return rows


def rates(said: Flags, truth: Flags, patients: NDArray[np.str_]) -> dict[str, dict[str, Any]]:
    """The four rates of decisions (N,) with their intervals."""
    exact = {name: Rate.of(int((part & whole).sum()), int(whole.sum())) for name, (part, whole) in _parts(said, truth).items()}
    if len(set(patients.tolist())) == len(patients):
        return {name: one.to_json() for name, one in exact.items()}

    def shares(rows: NDArray[np.intp]) -> list[float]:
        parts = _parts(said[rows], truth[rows]).values()
        return [float((part & whole).sum() / whole.sum()) if whole.any() else np.nan for part, whole in parts]

    drawn = bootstrap(shares, patients, draws=DRAWS)
    ends = zip(np.clip(drawn.low, 0, 1), np.clip(drawn.high, 0, 1), strict=True)
    return {name: {**one.to_json(), "low": None if np.isnan(low) else float(low), "high": None if np.isnan(high) else float(high)}
            for (name, one), (low, high) in zip(exact.items(), ends, strict=True)}  # fmt: skip


def _parts(said: Flags, truth: Flags) -> dict[str, tuple[Flags, Flags]]:
    """(what counts, among which) of each rate."""
    return {"sensitivity": (said, truth), "specificity": (~said, ~truth), "ppv": (truth, said), "npv": (~truth, ~said)}
