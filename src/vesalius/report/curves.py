"""Curves of a classifier from the rows of its scores: ROC, precision and recall, reliability; and the table of what was said for what."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vesalius.metrics._curves import Curve
from vesalius.metrics.calibration import reliability as bins
from vesalius.metrics.net_benefit import decision_curve
from vesalius.report.figures import Frame, Line, chart

Rows = Sequence[dict[str, Any]]
Floats = NDArray[np.float64]
SQUARE = {"width": 330.0, "height": 300.0, "left": 50.0, "x_range": (0.0, 1.0)}
ACTS = np.linspace(0.01, 0.99, 99)  # probabilities from which on one might act
POINTS = 300  # of a curve: more cannot be seen


def truth_and_probability(rows: Rows, label: str) -> tuple[NDArray[np.bool_], Floats]:
    """Whether each case is of the class, and the probability that was stated."""
    there = np.array([label in str(row["truth"]).split("; ") for row in rows], bool)
    return there, np.array([row["probabilities"][label] for row in rows], float)


def roc(there: NDArray[np.bool_], probability: Floats) -> tuple[Floats, Floats]:
    """1 - specificity and sensitivity at every threshold, from (0, 0) to (1, 1)."""
    curve = Curve.of(probability, there)
    return curve.false / max(1, curve.negatives), curve.true / max(1, curve.positives)


def precision_recall(there: NDArray[np.bool_], probability: Floats) -> tuple[Floats, Floats]:
    """Recall and precision at every threshold that says yes to at least one case."""
    curve = Curve.of(probability, there)
    return curve.true[1:] / max(1, curve.positives), curve.precision[1:]


def reliability(there: NDArray[np.bool_], probability: Floats) -> tuple[Floats, Floats]:
    """Mean stated probability and share that came true, in the bins of the calibration error that hold any case."""
    found = bins(probability, there)
    return found.probability, found.frequency


def curves(model: Rows, baseline: Rows, names: Sequence[str]) -> list[tuple[str, Markup]]:
    """(title, drawing) of ROC, precision and recall, and reliability. Of two classes the last is drawn; the baseline beside it."""
    shown = names[-1:] if len(names) == 2 else names[:6]
    made = []
    for title, function, x_title, chance in (
        ("ROC: sensitivity over 1 − specificity", roc, "1 − specificity", True),
        ("Precision over recall", precision_recall, "recall (sensitivity)", False),
        ("Reliability: what came true over what was stated", reliability, "stated probability", True),
    ):
        lines = [_line(function(*truth_and_probability(model, label)), _kind(k, len(shown)), label) for k, label in enumerate(shown)]
        if len(shown) == 1 and baseline:
            lines.append(_line(function(*truth_and_probability(baseline, shown[0])), "baseline", f"{shown[0]}, shallow baseline"))
        if function is reliability:
            lines = [Line(line.x, line.y, line.kind, dots=True, name=line.name) for line in lines]
        edge = [Line((0.0, 1.0), (0.0, 1.0), "rater", faint=True, name="chance" if function is roc else "honest")] if chance else []
        frame = Frame(title, x_title=x_title, marks=(), **SQUARE)  # type: ignore[arg-type]
        made.append((title, chart([*edge, *lines, Line((0.0, 0.0), (0.0, 1.0), "rater", faint=True)], frame)))
    return made


def decisions(model: Rows, baseline: Rows, names: Sequence[str]) -> list[tuple[str, Markup]]:
    """The decision curve as a (title, drawing): net benefit over the probability from which on one acts, in the colours of `curves`, beside
    acting on everybody (grey, where one class is drawn) and on nobody (0). What lies far below nobody is left out."""
    shown = names[-1:] if len(names) == 2 else names[:6]
    lines = [_worth(benefit(model, name), _kind(k, len(shown)), name) for k, name in enumerate(shown)]
    if len(shown) == 1:
        there, _ = truth_and_probability(model, shown[0])
        lines.append(replace(_worth(decision_curve(np.ones(len(there)), there, ACTS).model, "rater", "acting on everybody"), faint=True))
        if baseline:
            lines.append(_worth(benefit(baseline, shown[0]), "baseline", f"{shown[0]}, shallow baseline"))
    lines.append(Line((0.0, 1.0), (0.0, 0.0), "rater", faint=True, name="acting on nobody"))
    title = "Decision curve: net benefit over the probability to act from"
    return [(title, chart(lines, Frame(title, x_title="probability to act from", marks=(), **SQUARE)))]  # type: ignore[arg-type]


def benefit(rows: Rows, label: str) -> Floats:
    """Net benefit of acting on what is said of a class, at each of `ACTS`."""
    there, probability = truth_and_probability(rows, label)
    return decision_curve(probability, there, ACTS).model


def _worth(found: Floats, kind: str, name: str) -> Line:
    kept = found >= -max(0.0, float(found.max())) / 5
    return Line(ACTS[kept].tolist(), found[kept].tolist(), kind, name=name)


def _kind(k: int, count: int) -> str:
    return "model" if count == 1 else f"fold{k % 6}"


def _line(points: tuple[Floats, Floats], kind: str, name: str) -> Line:
    x, y = points
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).round().astype(int)) if len(x) else np.zeros(0, int)
    return Line(x[kept].tolist(), y[kept].tolist(), kind, name=name)


def confusion(rows: Rows, names: Sequence[str]) -> list[tuple[str, list[tuple[int, float]]]]:
    """(truth, [(cases, share of that truth)] for each class that was said); empty for findings, of which a case may have several."""
    if any(str(row[key]) not in names for row in rows for key in ("truth", "said")):
        return []
    table = np.zeros((len(names), len(names)), int)
    place = {name: k for k, name in enumerate(names)}
    for row in rows:
        table[place[row["truth"]], place[row["said"]]] += 1
    return [(name, [(int(n), n / max(1, table[k].sum())) for n in table[k]]) for k, name in enumerate(names)]
