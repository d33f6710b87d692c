"""What was decided against what was true: accuracy, balanced accuracy, sensitivity, specificity, predictive values, F1.

Numbers of one question are of class 1 where there are two classes; of more classes, or of findings, they are plain means
over the classes, each against the rest. A ratio without a denominator is not a number and is left out of such a mean.
"""

from math import nan

import numpy as np

from vesalius.core.card import Card
from vesalius.metrics._answers import Answers, Binary, macro, over_problems, ratio

CARD = Card(
    entry="decisions",
    title="Decisions",
    summary="Accuracy, balanced accuracy, sensitivity, specificity, PPV, NPV and F1 at the thresholds of the answers.",
    paper="Altman & Bland 1994, BMJ 308, 1552 and 309, 102; Brodersen et al. 2010, ICPR (balanced accuracy)",
    tasks=("classify",),
    facts={
        "accuracy": {
            "definition": "share of the cases (of the known entries, for findings) that were decided rightly",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": "usual", "no_negatives": "usual",
        },
        "balanced_accuracy": {
            "definition": "share decided rightly in each class, meaned over the classes that are there; .5 by chance for two classes",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": "usual", "no_negatives": "usual",
        },
        "sensitivity": {
            "definition": "share of the cases with it that were said to have it (undefined where none has)",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": None, "no_negatives": "usual",
        },
        "specificity": {
            "definition": "share of the cases without it that were said not to have it (undefined where all have it)",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": "usual", "no_negatives": None,
        },
        "ppv": {
            "definition": "share of those said to have it that do (undefined where nobody is); depends on how frequent it is here",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": 0.0, "no_negatives": 1.0,
        },
        "npv": {
            "definition": "share of those said not to have it that do not (undefined where nobody is); depends on how frequent it is",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": 1.0, "no_negatives": 0.0,
        },
        "f1": {
            "definition": "harmonic mean of sensitivity and PPV: twice the true positives over said plus true",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": 0.0, "no_negatives": "usual",
        },
        "f1_macro": {
            "definition": "F1 of each class, also of class 0 of two, meaned over the classes that are there or were said",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": "usual", "no_negatives": "usual",
        },
    },
)  # fmt: skip


def decisions(answers: Answers) -> dict[str, float]:
    """Eight numbers in 0..1, NaN where undefined."""
    found = [_of_table(table) for table in answers.tables]
    total = [np.trace(table) for table in answers.tables], [table.sum() for table in answers.tables]
    return {
        "accuracy": ratio(float(sum(total[0])), float(sum(total[1]))),
        "balanced_accuracy": macro([recall for recall, _ in found]),
        **{name: over_problems(answers, score) for name, score in OF_A_QUESTION.items()},
        "f1_macro": macro([mean for _, mean in found]),
    }


def sensitivity(problem: Binary) -> float:
    """NaN without a positive."""
    return ratio(problem.counts[0], problem.counts[0] + problem.counts[2])


def specificity(problem: Binary) -> float:
    """NaN without a negative."""
    return ratio(problem.counts[3], problem.counts[3] + problem.counts[1])


def ppv(problem: Binary) -> float:
    """NaN where yes was never said."""
    return ratio(problem.counts[0], problem.counts[0] + problem.counts[1])


def npv(problem: Binary) -> float:
    """NaN where no was never said."""
    return ratio(problem.counts[3], problem.counts[3] + problem.counts[2])


def f1(problem: Binary) -> float:
    """NaN where nothing is true and nothing was said."""
    true, false, missed, _ = problem.counts
    return ratio(2 * true, 2 * true + false + missed)


OF_A_QUESTION = {"sensitivity": sensitivity, "specificity": specificity, "ppv": ppv, "npv": npv, "f1": f1}


def _of_table(table: np.ndarray) -> tuple[float, float]:
    """Balanced accuracy and macro F1 of one confusion table [truth, said]."""
    right, actual, said = np.diag(table), table.sum(1), table.sum(0)
    recall = [r / a for r, a in zip(right, actual, strict=True) if a]
    scores = [2 * r / (a + s) for r, a, s in zip(right, actual, said, strict=True) if a + s]
    return (float(np.mean(recall)), float(np.mean(scores))) if recall else (nan, nan)
