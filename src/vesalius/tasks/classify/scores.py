"""What counts as good: the numbers of the metrics shelf over a set of cases, per class and over all.

Ranking, decisions at the thresholds, agreement beyond chance and calibration; each is defined in `vesalius.metrics`, once.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vesalius.core.space import Array
from vesalius.data.labels import Labels
from vesalius.metrics import METRICS
from vesalius.metrics._answers import Answers, Binary, Cut, macro
from vesalius.metrics.agreement import agreement
from vesalius.metrics.calibration import calibration
from vesalius.metrics.decisions import OF_A_QUESTION, decisions
from vesalius.metrics.discrimination import average_precision

FAMILIES = ("discrimination", "decisions", "agreement", "calibration")
OF_GRADES = ("kappa_linear", "kappa_quadratic")  # which weigh how far apart two classes are, so that classes must be in order
OF_A_CLASS = {"auc": lambda q: q.curve.area, "average_precision": average_precision, **OF_A_QUESTION}


def definitions() -> dict[str, str]:
    """Every number with what it means, as its card says."""
    return {name: str(fact["definition"]) for family in FAMILIES for name, fact in (METRICS.card(family).facts or {}).items()}


def cuts(labels: Labels, thresholds: Mapping[str, Cut]) -> tuple[Cut, ...]:
    """From which probability on the last of two classes is said, or each finding; .5 where no threshold was set."""
    asked = [labels.names[-1] if len(labels.names) == 2 else ""] if labels.one_of else labels.names
    found = [thresholds.get(name, 0.5) for name in asked]
    return tuple(cut if isinstance(cut, np.ndarray) else float(cut) for cut in found)


def answers_of(probabilities: Array, labels: Labels, *, thresholds: Mapping[str, Cut], truth: Array | None = None,
               patients: Sequence[str] | None = None) -> Answers:  # fmt: skip
    """Probabilities (N, K) with targets (N, 1 | K) as the shelf takes them; without `truth` only `said` means anything."""
    count = len(probabilities)
    known = np.zeros((count, 1 if labels.one_of else len(labels.names)), np.intp) if truth is None else np.asarray(truth).astype(np.intp)
    whose = np.zeros(count, "U1") if patients is None else np.asarray(patients, str)
    target = known[:, 0] if labels.one_of else known
    return Answers(np.asarray(probabilities, float), target, labels.one_of, whose, cuts(labels, thresholds))


def said(answers: Answers) -> NDArray[np.uint8]:
    """What is said, coded as targets are: (N, 1) indices or (N, K) of 0 / 1."""
    found = answers.said.astype(np.uint8)
    return found[:, None] if answers.exclusive else found


def questions(answers: Answers) -> tuple[Binary, ...]:
    """One question of yes and no for each class; of two classes both are asked."""
    if not answers.exclusive or answers.classes != 2:
        return answers.problems
    every = np.arange(len(answers.truth))
    return tuple(Binary(answers.probabilities[:, k], answers.truth == k, answers.said == k, every) for k in (0, 1))


def measures(answers: Answers, labels: Labels) -> dict[str, dict[str, float]]:
    """{class: {measure: value}} and "all": over all classes, of two classes those of the last; NaN where undefined."""
    found = {name: {measure: function(question) for measure, function in OF_A_CLASS.items()}
             for name, question in zip(labels.names, questions(answers), strict=True)}  # fmt: skip
    ranked = {name: _over(found, name, labels) for name in ("auc", "average_precision")}
    every = {**ranked, **decisions(answers), **agreement(answers), **calibration(answers)}
    return {**found, "all": {name: value for name, value in every.items() if labels.kind == "grades" or name not in OF_GRADES}}


def _over(found: dict[str, dict[str, float]], name: str, labels: Labels) -> float:
    rows = list(found.values())
    return rows[1][name] if labels.one_of and len(rows) == 2 else macro([row[name] for row in rows])


def quick(probabilities: Array, truth: Array, labels: Labels) -> float:
    """Mean AUC over the classes that occur beside others; where none does, the share that is right at a probability of one half."""
    answers = answers_of(probabilities, labels, thresholds={}, truth=truth)
    found = macro([question.curve.area for question in answers.problems])
    return found if found == found else float(decisions(answers)["accuracy"])
