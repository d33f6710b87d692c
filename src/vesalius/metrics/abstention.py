"""Risk against coverage: how wrong a classifier is on the cases that it is surest of, and the area under that curve.

Geifman, Uziel, El-Yaniv 2019 (AURC and its excess over the best order). Confidence is the probability of what was said.
Cases of equal confidence are answered or left together, on average over their orders.
"""

from dataclasses import dataclass
from math import nan

import numpy as np

from vesalius.core.card import Card
from vesalius.metrics._answers import Answers, macro
from vesalius.metrics._curves import Flags, Floats

CARD = Card(
    entry="abstention",
    title="Abstention",
    summary="Area under the curve of error against the share of cases that are answered, surest first.",
    paper="Geifman, Uziel, El-Yaniv 2019, Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, ICLR",
    tasks=("classify",),
    facts={
        "aurc": {
            "definition": "share of wrong answers among the surest cases, meaned over how many are answered",
            "unit": "1", "better": "low", "perfect": 0.0, "no_positives": "usual", "no_negatives": "usual",
        },
        "excess_aurc": {
            "definition": "that area less the one of the best order, in which every wrong case comes last",
            "unit": "1", "better": "low", "perfect": 0.0, "no_positives": "usual", "no_negatives": "usual",
        },
    },
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Share of wrong answers (`risk`) among the surest `coverage` of the cases, and their least `confidence`; all (N,)."""

    coverage: Floats
    risk: Floats
    confidence: Floats

    @property
    def area(self) -> float:
        """AURC; NaN without a case."""
        return float(self.risk.mean()) if len(self.risk) else nan


def abstention(answers: Answers) -> dict[str, float]:
    """aurc and excess_aurc in 0..1; of findings the plain mean."""
    curves = [(risk_coverage(c, right), right) for c, right in confidences(answers)]
    return {
        "aurc": macro([curve.area for curve, _ in curves]),
        "excess_aurc": macro([curve.area - risk_coverage(right.astype(float), right, best=True).area for curve, right in curves]),
    }


def confidences(answers: Answers) -> list[tuple[Floats, Flags]]:
    """(probability of what was said, whether it was right), each (n,): one pair, or one per finding."""
    if answers.exclusive:
        said = answers.said
        return [(answers.probabilities[np.arange(len(said)), said], said == answers.truth)]
    return [(np.where(q.said, q.score, 1 - q.score), q.said == q.truth) for q in answers.problems]


def risk_coverage(confidence: Floats, right: Flags, *, best: bool = False) -> RiskCoverage:
    """The curve from the surest case on. Ties share their errors evenly; `best` puts the right ones first instead."""
    order = np.argsort(-confidence, kind="stable")
    ranked, wrong = confidence[order], 1.0 - right[order]
    if not best:
        _, group, size = np.unique(-ranked, return_inverse=True, return_counts=True)
        wrong = (np.bincount(group, wrong) / size)[group] if len(wrong) else wrong
    number = np.arange(1, len(wrong) + 1)
    return RiskCoverage(number / max(len(wrong), 1), np.cumsum(wrong) / number, ranked)
