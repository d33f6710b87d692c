"""Numbers as a reader wants them, and the paired comparison of two sets of scores."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.engine.scores import intervals

Rows = list[dict[str, Any]]
DASH = "–"
MINUS = "−"


@dataclass(frozen=True)
class Interval:
    """A mean over `n` cases of `patients` patients, with its 95 % interval; None where fewer than two patients are known."""

    mean: float
    low: float | None
    high: float | None
    n: int
    patients: int

    @property
    def width(self) -> float | None:
        return None if self.low is None or self.high is None else self.high - self.low

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """'0.876', '−1.20', '12 345', or a dash for an undefined number."""
    if value is None:
        return DASH
    text = f"{abs(value):,.{digits}f}".replace(",", "\u202f")
    negative = value < 0 and any(c in "123456789" for c in text)
    return (MINUS if negative else "+" if sign else "") + text


def interval(low: float | None, high: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """'0.868 to 0.884'; '' where it is unknown."""
    if low is None or high is None:
        return ""
    return f"{number(low, digits, sign=sign)} to {number(high, digits, sign=sign)}"


def duration(seconds: float | None) -> str:
    """'45 s', '12 min', '1 h 05 min'."""
    if seconds is None:
        return DASH
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def plural(count: int, one: str, many: str = "") -> str:
    """'1 case', '3 cases'."""
    return f"{count:,} {one if count == 1 else many or one + 's'}".replace(",", "\u202f")


def listed(words: Sequence[str], most: int = 6) -> str:
    """'a, b and c'; beyond `most`, 'a, b, c and 4 more'."""
    shown = [*words] if len(words) <= most else [*words[:most], f"{len(words) - most} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else ""


def labels(rows: Rows) -> list[str]:
    """Label names in the order of the rows."""
    return list(dict.fromkeys(str(row["label"]) for row in rows))


def patients(rows: Rows) -> int:
    """How many different patients the rows are of."""
    return len({str(row.get("patient") or row["case"]) for row in rows})


def case_means(rows: Rows, metric: str) -> dict[str, float]:
    """Mean over the labels of each case, of what is defined and not merely absent from truth and prediction alike."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.get(metric) is not None and row.get("state") != "both_empty":
            found[str(row["case"])].append(row[metric])
    return {case: sum(v) / len(v) for case, v in found.items()}


def difference(ours: Rows, theirs: Rows, metric: str, *, label: str | None = None) -> Interval | None:
    """`differences` of one metric; None where no case is left."""
    return differences(ours, theirs, [metric], label=label).get(metric)


def differences(ours: Rows, theirs: Rows, metrics: Sequence[str], *, label: str | None = None) -> dict[str, Interval]:
    """By metric the mean of (ours - theirs) over cases, of one label or of the mean over the labels that both define; the interval is that
    of all other means (see `engine.scores`): patients are drawn, never cases. A metric without a case is left out."""
    other = {(row["case"], row["label"]): row for row in theirs}
    cases: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for row in ours:
        if (row["case"], row["label"]) in other and label in (None, row["label"]):
            gaps = [_gap(row.get(m), other[row["case"], row["label"]].get(m)) for m in metrics]
            cases[str(row["case"]), str(row.get("patient") or row["case"])].append(gaps)
    if not cases:
        return {}
    values, owners = np.array([_means(np.array(gaps)) for gaps in cases.values()]), np.array([patient for _, patient in cases])
    low, high = intervals(values, owners.tolist())
    known = ~np.isnan(values)
    return {m: Interval(float(values[known[:, k], k].mean()), _or_none(low[k]), _or_none(high[k]), int(known[:, k].sum()),
                        len(set(owners[known[:, k]]))) for k, m in enumerate(metrics) if known[:, k].any()}  # fmt: skip


def _gap(mine: float | None, yours: float | None) -> float:
    return np.nan if mine is None or yours is None else mine - yours


def _means(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over the rows of (labels, metrics), NaN left out; NaN where nothing is left."""
    known = ~np.isnan(gaps)
    return np.asarray(np.where(known.any(0), np.where(known, gaps, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
