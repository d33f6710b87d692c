"""Decision curve: what acting on a model is worth, in true positives per case, beside acting on all and on nobody.

Vickers & Elkin 2006. Who acts from a probability t on holds a needless action to be t / (1 - t) as bad as a missed one;
the net benefit is true positives minus that price times false positives, per case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from vesalius.core.card import Card
from vesalius.metrics._answers import Answers, Binary, Cut, macro
from vesalius.metrics._curves import Curve, Flags, Floats

CARD = Card(
    entry="net_benefit",
    title="Net benefit",
    summary="True positives less the price of false ones, per case, where the probability of yes reaches the threshold.",
    paper="Vickers & Elkin 2006, Med. Decis. Making 26, 565-574",
    tasks=("classify",),
    facts={
        "net_benefit": {
            "definition": "true less t / (1 - t) false positives per case, yes being said from probability t, the threshold, on",
            "unit": "1", "better": "high", "perfect": "prevalence", "no_positives": "usual", "no_negatives": "usual",
        },
    },
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefits (T,) at `threshold` of acting on the `model`, on `everybody`; acting on nobody is worth 0."""

    threshold: Floats
    model: Floats
    everybody: Floats


def net_benefit(answers: Answers) -> dict[str, float]:
    """At the thresholds of the answers (of three classes or more: .5 each); the plain mean over classes or findings."""
    asked = answers.problems
    cuts = answers.thresholds if len(answers.thresholds) == len(asked) else (0.5,) * len(asked)
    return {"net_benefit": macro([_at(problem, cut) for problem, cut in zip(asked, cuts, strict=True)])}


def _at(problem: Binary, cut: Cut) -> float:
    """Where each case has a threshold of its own, false alarms are priced one by one."""
    where = np.broadcast_to(cut if isinstance(cut, float) else cut[problem.rows], problem.score.shape)
    if not len(where) or (where >= 1).any():
        return nan
    said = problem.score >= where
    return float(((said & problem.truth) - (said & ~problem.truth) * where / (1 - where)).sum() / len(where))


def decision_curve(score: Floats, truth: Flags, thresholds: Sequence[float] | Floats) -> DecisionCurve:
    """For `score` (N,) in 0..1 and `truth` (N,); thresholds are below 1."""
    cut = np.asarray(thresholds, float)
    curve = Curve.of(score, truth)
    index = np.searchsorted(-curve.threshold, -cut, side="right") - 1
    price, n = cut / (1 - cut), len(truth)
    everybody = curve.positives / n - price * curve.negatives / n
    return DecisionCurve(cut, (curve.true[index] - price * curve.false[index]) / n, everybody)
