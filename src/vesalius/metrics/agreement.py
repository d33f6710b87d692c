"""Agreement beyond chance: Cohen's kappa (plain, and weighted for ordered classes) and Matthews' correlation."""

from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray

from vesalius.core.card import Card
from vesalius.metrics._answers import Answers, macro

CARD = Card(
    entry="agreement",
    title="Agreement beyond chance",
    summary="Cohen's kappa, its linear and quadratic weights for ordered classes, and Matthews' correlation coefficient.",
    paper="Cohen 1960, Educ. Psychol. Meas. 20, 37-46; Cohen 1968, Psychol. Bull. 70, 213-220; Gorodkin 2004, Comput. Biol. Chem. 28",
    tasks=("classify",),
    facts={
        "kappa": {
            "definition": "agreement beyond that of unrelated answers with the same frequencies; 0 where only one class is true",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": 0.0, "no_negatives": 0.0,
        },
        "kappa_linear": {
            "definition": "kappa in which a confusion costs the distance of the two classes in their order",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": 0.0, "no_negatives": 0.0,
        },
        "kappa_quadratic": {
            "definition": "kappa in which a confusion costs the squared distance of the two classes in their order",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": 0.0, "no_negatives": 0.0,
        },
        "mcc": {
            "definition": "correlation of said and true classes (Matthews; Gorodkin for several); 0 where either is one class only",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": 0.0, "no_negatives": 0.0,
        },
    },
)  # fmt: skip


def agreement(answers: Answers) -> dict[str, float]:
    """kappa, kappa_linear, kappa_quadratic and mcc in -1..1; of findings the plain mean; NaN without a case."""
    tables = answers.tables
    told = {f"kappa{word}": macro([kappa(t, power) for t in tables]) for word, power in (("", 0), ("_linear", 1), ("_quadratic", 2))}
    return {**told, "mcc": macro([correlation(t) for t in tables])}


def kappa(table: NDArray[np.int64], power: int = 0) -> float:
    """1 - (cost seen) / (cost of unrelated answers) of a table [truth, said]; confusing i with j costs |i - j| ** `power`."""
    total = table.sum()
    if total == 0:
        return nan
    apart = np.abs(np.subtract.outer(np.arange(len(table)), np.arange(len(table))))
    cost = (apart > 0) * apart.astype(float) ** power
    expected = float((cost * np.outer(table.sum(1), table.sum(0))).sum() / total)
    return 1 - float((cost * table).sum()) / expected if expected else 0.0


def correlation(table: NDArray[np.int64]) -> float:
    """Correlation coefficient R_K of a table [truth, said]."""
    total = float(table.sum())
    if total == 0:
        return nan
    actual, said = table.sum(1).astype(float), table.sum(0).astype(float)
    spread = (total**2 - actual @ actual) * (total**2 - said @ said)
    return float((np.trace(table) * total - actual @ said) / sqrt(spread)) if spread > 0 else 0.0
