"""What one end of the ROC curve gives: specificity where sensitivity is high enough, and the reverse.

The points are those that a threshold can reach, without interpolation. They are chosen on the cases that they are stated
for, which flatters a little; a threshold chosen elsewhere and applied here is `vesalius.trust.operating`.
"""

from math import nan

import numpy as np

from vesalius.core.card import Card
from vesalius.metrics._answers import Answers, Binary, over_problems

CARD = Card(
    entry="operating_points",
    title="Fixed sensitivity or specificity",
    summary="The best specificity with sensitivity of at least .90 and .95, and the best sensitivity with such a specificity.",
    paper="Pepe 2003, The Statistical Evaluation of Medical Tests for Classification and Prediction, Oxford",
    tasks=("classify",),
    facts={
        "specificity_at_90_sensitivity": {
            "definition": "largest specificity of a threshold with a sensitivity of at least .90",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": None, "no_negatives": None,
        },
        "specificity_at_95_sensitivity": {
            "definition": "largest specificity of a threshold with a sensitivity of at least .95",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": None, "no_negatives": None,
        },
        "sensitivity_at_90_specificity": {
            "definition": "largest sensitivity of a threshold with a specificity of at least .90",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": None, "no_negatives": None,
        },
        "sensitivity_at_95_specificity": {
            "definition": "largest sensitivity of a threshold with a specificity of at least .95",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": None, "no_negatives": None,
        },
    },
)  # fmt: skip

ROUNDING = 1e-12  # 19 of 20 is .95 also where the division says .9499999


def operating_points(answers: Answers) -> dict[str, float]:
    """Four numbers in 0..1; of several classes or findings the plain mean; NaN where positives or negatives are absent."""
    found = {}
    for level in (90, 95):
        found[f"specificity_at_{level}_sensitivity"] = over_problems(answers, lambda q, level=level: best_specificity(q, level / 100))  # type: ignore[misc]
        found[f"sensitivity_at_{level}_specificity"] = over_problems(answers, lambda q, level=level: best_sensitivity(q, level / 100))  # type: ignore[misc]
    return {name: found[name] for name in CARD.facts or {}}


def best_specificity(problem: Binary, sensitivity: float) -> float:
    """The largest specificity with at least this sensitivity."""
    curve = problem.curve
    return float(np.max(curve.specificity[curve.sensitivity >= sensitivity - ROUNDING])) if problem.both else nan


def best_sensitivity(problem: Binary, specificity: float) -> float:
    """The largest sensitivity with at least this specificity."""
    curve = problem.curve
    return float(np.max(curve.sensitivity[curve.specificity >= specificity - ROUNDING])) if problem.both else nan
