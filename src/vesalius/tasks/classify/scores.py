"""What counts as good: measures of ranking, of decisions and of probabilities over a set of cases, per class and over all.

Each measure is a function of the probability (N,) of a class, whether it is there (N,) and whether it was said (N,). More plug in as
entries of OF_A_CLASS.
"""

from collections.abc import Callable
from math import nan

import numpy as np
from numpy.typing import NDArray

from vesalius.core.space import Array
from vesalius.data.labels import Labels
from vesalius.tasks.classify.decide import positives

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Measure = Callable[[Floats, Flags, Flags], float]
BINS = 15  # of the calibration error
TINY = 1e-12

DEFINITIONS = {
    "auc": "area under the ROC curve: the chance that a case of the class gets a higher probability than one that is not, ties half; "
    "over all: the mean over classes, of two classes that of the last",
    "accuracy": "share of cases whose class was said; of findings: share of known findings that were said rightly",
    "balanced_accuracy": "mean over classes of the share of their cases that were recognised; of findings: mean of (sensitivity + "
    "specificity) / 2",
    "sensitivity": "share of the cases of a class that were said to be of it",
    "specificity": "share of the cases of other classes that were not said to be of it",
    "ppv": "share of the cases said to be of a class that are (at the mixture of classes in this set)",
    "f1": "harmonic mean of sensitivity and positive predictive value; over all: the mean over classes",
    "brier": "mean squared distance of the probabilities to the truth, summed over classes (Brier 1950); of findings: mean over findings",
    "ece": f"expected calibration error: mean gap between the stated probability of what was said and how often it was right, over {BINS} "
    "bins",
    "kappa": "Cohen's kappa with quadratic weights: agreement beyond chance, where grades further apart weigh more",
}


def auc(probability: Floats, there: Flags, said: Flags) -> float:
    """The Mann-Whitney statistic over the number of pairs (Hanley & McNeil 1982)."""
    yes, no = probability[there], np.sort(probability[~there])
    if not len(yes) or not len(no):
        return nan
    below, not_above = no.searchsorted(yes, "left").sum(), no.searchsorted(yes, "right").sum()
    return float((int(below) + int(not_above)) / (2 * len(yes) * len(no)))


def sensitivity(probability: Floats, there: Flags, said: Flags) -> float:
    """NaN where the class does not occur."""
    return float(said[there].mean()) if there.any() else nan


def specificity(probability: Floats, there: Flags, said: Flags) -> float:
    """NaN where nothing else occurs."""
    return float((~said[~there]).mean()) if not there.all() else nan


def ppv(probability: Floats, there: Flags, said: Flags) -> float:
    """NaN where the class was never said."""
    return float(there[said].mean()) if said.any() else nan


def f1(probability: Floats, there: Flags, said: Flags) -> float:
    """2 TP / (2 TP + FP + FN); NaN where the class neither occurs nor is said."""
    total = there.sum() + said.sum()
    return float(2 * (there & said).sum() / total) if total else nan


OF_A_CLASS: dict[str, Measure] = {"auc": auc, "sensitivity": sensitivity, "specificity": specificity, "ppv": ppv, "f1": f1}


def measures(probabilities: Array, truth: Array, labels: Labels, *, said: Array) -> dict[str, dict[str, float]]:
    """{class: {measure: value}} and "all": over all classes."""
    there, told = positives(truth, labels), positives(said, labels) == 1
    found: dict[str, dict[str, float]] = {}
    for k, name in enumerate(labels.names):
        known = there[:, k] >= 0
        of = (probabilities[known, k], there[known, k] == 1, told[known, k])
        found[name] = {measure: function(*of) for measure, function in OF_A_CLASS.items()}
    return {**found, "all": _all(probabilities, there, found, labels=labels, told=told)}


def _all(
    probabilities: Array, there: NDArray[np.int64], found: dict[str, dict[str, float]], *, labels: Labels, told: Flags
) -> dict[str, float]:
    two = labels.one_of and len(labels.names) == 2
    of_classes = found.values()
    known = there >= 0
    right = told == (there == 1)
    sharp = probabilities.max(1) if labels.one_of else np.where(told, probabilities, 1 - probabilities)[known]
    hit = _chosen(there, probabilities.argmax(1)) if labels.one_of else right[known]
    balanced = [f["sensitivity"] if labels.one_of else (f["sensitivity"] + f["specificity"]) / 2 for f in of_classes]
    squares = np.where(known, (probabilities - there) ** 2, 0)
    made = {
        "auc": found[labels.names[1]]["auc"] if two else mean([f["auc"] for f in of_classes]),
        "accuracy": float(right.all(1).mean() if labels.one_of else right[known].mean()) if known.any() else nan,
        "balanced_accuracy": mean(balanced),
        "f1": mean([f["f1"] for f in of_classes]),
        "brier": float(squares.sum() / (len(there) if labels.one_of else max(1, known.sum()))) if len(there) else nan,
        "ece": calibration_error(sharp, hit),
    }
    return made | ({"kappa": weighted_kappa(there.argmax(1), told.argmax(1), len(labels.names))} if labels.kind == "grades" else {})


def _chosen(there: NDArray[np.int64], which: NDArray[np.int64]) -> Flags:
    return np.asarray(there[np.arange(len(there)), which] == 1)


def mean(values: list[float]) -> float:
    """Of what is defined; NaN where nothing is."""
    defined = [v for v in values if v == v]
    return sum(defined) / len(defined) if defined else nan


def calibration_error(stated: Floats, right: Flags) -> float:
    """Naeini et al. 2015: bins of equal width, each weighed by its cases."""
    if not len(stated):
        return nan
    bins = np.minimum((stated * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    gaps = np.bincount(bins, stated - right, BINS)
    return float(np.abs(gaps).sum() / counts.sum())


def weighted_kappa(truth: NDArray[np.int64], said: NDArray[np.int64], count: int) -> float:
    """Cohen 1968 with weights (i - j)^2; NaN where chance would agree wholly."""
    table = np.zeros((count, count))
    np.add.at(table, (truth, said), 1)
    far = (np.arange(count)[:, None] - np.arange(count)) ** 2
    expected = (np.outer(table.sum(1), table.sum(0)) * far).sum() / max(1, len(truth))
    return float(1 - (table * far).sum() / expected) if expected else nan


def quick(probabilities: Array, truth: Array, labels: Labels) -> float:
    """Mean AUC over the classes that occur beside others; where none does, the share that the most probable class is right."""
    there = positives(truth, labels)
    aucs = [auc(probabilities[known, k], there[known, k] == 1, there[known, k] == 1)
            for k in range(len(labels.names)) if (known := there[:, k] >= 0).any()]  # fmt: skip
    found = mean(aucs)
    if found == found:
        return found
    if labels.one_of:
        return float(_chosen(there, probabilities.argmax(1)).mean())
    known = there >= 0
    return float(((probabilities > 0.5) == (there == 1))[known].mean()) if known.any() else nan
