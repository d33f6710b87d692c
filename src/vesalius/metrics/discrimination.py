"""How well scores rank cases: area under the ROC curve and average precision, one class against the rest.

Hanley & McNeil 1982; the macro mean over classes is of one-versus-rest areas. Average precision is the sum of precisions
weighted by the steps of recall, without interpolation between points.
"""

from math import nan

import numpy as np

from vesalius.core.card import Card
from vesalius.metrics._answers import Answers, Binary, over_problems

CARD = Card(
    entry="discrimination",
    title="Discrimination",
    summary="AUC and average precision; of several classes or findings the plain mean, each against the rest.",
    paper="Hanley & McNeil 1982, Radiology 143, 29-36; intervals: DeLong et al. 1988, Biometrics 44, 837-845",
    tasks=("classify",),
    facts={
        "auc": {
            "definition": "chance that a case with the finding is ranked above one without, ties half; mean over classes that have both",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": None, "no_negatives": None,
        },
        "average_precision": {
            "definition": "precision meaned over the steps of recall; mean over classes that have cases with and without",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": None, "no_negatives": None,
        },
    },
)  # fmt: skip


def discrimination(answers: Answers) -> dict[str, float]:
    """auc and average_precision in 0..1, NaN where every class lacks positives or negatives."""
    return {
        "auc": over_problems(answers, lambda problem: problem.curve.area),
        "average_precision": over_problems(answers, average_precision),
    }


def average_precision(problem: Binary) -> float:
    """Sum over thresholds of (step of recall) x precision; its value by chance is the share of positives."""
    if not problem.both:
        return nan
    curve = problem.curve
    return float(np.sum(np.diff(curve.sensitivity) * curve.precision[1:]))
