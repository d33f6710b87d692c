"""How what was fitted on validation cases fares on others: areas with DeLong's interval, reliability before and after the temperature,
coverage of the sets of possible classes, errors among answered cases, and how many are called strange."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.space import Array
from vesalius.data.labels import IGNORE, Labels
from vesalius.metrics._answers import Answers
from vesalius.metrics._curves import Flags, Floats
from vesalius.metrics._delong import delong, interval, macro_area
from vesalius.metrics.abstention import risk_coverage
from vesalius.metrics.calibration import calibration as calibration_numbers
from vesalius.metrics.calibration import events, reliability
from vesalius.tasks.classify.decide import Calibration, calibrated
from vesalius.tasks.classify.operate import measured
from vesalius.tasks.classify.scores import answers_of, questions
from vesalius.trust._kept import owners
from vesalius.trust.operating import Rate
from vesalius.trust.out_of_distribution import energy
from vesalius.trust.rules import Trust, confidence

POINTS = 100  # of the curve of risk against coverage


def examined(logits: Array, truth: Array, labels: Labels, *, calibration: Calibration, names: Sequence[str],
             patients: Sequence[str]) -> dict[str, Any]:  # fmt: skip
    """{"areas", "reliability", "risk_coverage", "remarks"}, with operating points "operating", and with fitted rules {"coverage",
    "abstention", "strange"}, as plain JSON.

    Rates come with exact binomial intervals over patients: a patient is covered where all its cases are, strange where any is.
    """
    p = calibrated(logits, labels, calibration)
    answers = answers_of(p, labels, thresholds=calibration.thresholds, truth=truth, patients=patients)
    before = answers_of(calibrated(logits, labels, Calibration()), labels, thresholds={}, truth=truth, patients=patients)
    sure = confidence(p, answers.said, exclusive=labels.one_of)
    found: dict[str, Any] = {
        "areas": areas(answers, labels), "reliability": {"before": bins(before), "after": bins(answers)},
        "risk_coverage": curve(sure, answers.right), "remarks": answers.remarks(labels.names),
    }  # fmt: skip
    if calibration.operating:
        found["operating"] = measured(calibration.operating, p, truth, labels=labels, patients=answers.patients)
    if calibration.trust is None:
        return found
    trust = calibration.trust
    return found | {
        "coverage": coverage(trust.sets.sets(p, names), answers, labels, promised=1 - trust.sets.choice.miss),
        "abstention": abstention(trust, sure, answers),
        "strange": {"alarms": trust.novelty.alarms,
                    **rate(trust.novelty.strange(energy(logits, exclusive=labels.one_of)), answers.patients)},
        "remarks": [*found["remarks"], *trust.remarks],
    }  # fmt: skip


def areas(answers: Answers, labels: Labels) -> dict[str, Any]:
    """{class or "all": {"auc", "low", "high"}} with the interval of DeLong, cases of one patient summed; None where undefined."""
    asked = {name: delong(q.score, q.truth, patients=answers.patients[q.rows])
             for name, q in zip(labels.names, questions(answers), strict=True) if q.both}  # fmt: skip
    made = {name: _area(float(found.area[0]), interval(found)) for name, found in asked.items()}
    over = macro_area(answers)
    return {**{name: made.get(name, _area(np.nan, (np.nan, np.nan))) for name in labels.names},
            "all": _area(float(over.area[0]), interval(over))}  # fmt: skip


def _area(value: float, ends: tuple[float, float]) -> dict[str, float | None]:
    words = ("auc", "low", "high")
    return {word: None if np.isnan(number) else number for word, number in zip(words, (value, *ends), strict=True)}


def bins(answers: Answers) -> dict[str, Any]:
    """The calibration error, and (probability, frequency, cases) of each bin of the reliability diagram; findings together."""
    asked = events(answers)
    found = reliability(np.concatenate([p for p, _ in asked]), np.concatenate([y for _, y in asked]))
    rows = np.stack([found.probability, found.frequency, found.count], 1).round(6).tolist()
    return {"ece": calibration_numbers(answers)["ece"], "bins": rows}


def curve(sure: Floats, right: Flags) -> list[list[float]]:
    """(share of the cases that are answered, share of wrong answers among them), the surest first, at most 100 points."""
    whole = risk_coverage(sure, right)
    kept = np.unique(np.linspace(0, len(sure) - 1, min(len(sure), POINTS)).round().astype(int)) if len(sure) else np.zeros(0, int)
    return [[float(whole.coverage[k]), float(whole.risk[k])] for k in kept]


def coverage(sets: Flags, answers: Answers, labels: Labels, *, promised: float) -> dict[str, Any]:
    """Patients whose truth is in their `sets` (N, K), or of findings (N, K, 2): over all, of each class, of each finding."""
    if answers.exclusive:
        inside = sets[np.arange(len(sets)), answers.truth]
        parts = {name: answers.truth == k for k, name in enumerate(labels.names)}
        by_class = {name: rate(inside[part], answers.patients[part], every=True) for name, part in parts.items()}
        sizes: NDArray[Any] = sets.sum(1)
        told = {"all": rate(inside, answers.patients, every=True)}
    else:
        known = answers.truth != IGNORE
        held = np.take_along_axis(sets, np.where(known, answers.truth, 0)[..., None], 2)[..., 0]
        by_class = {name: rate(held[known[:, k], k], answers.patients[known[:, k]], every=True) for k, name in enumerate(labels.names)}
        sizes, told = sets.sum(2), {}
    whole = {"size": float(sizes.mean()), "single": float((sizes == 1).mean()), "empty": float((sizes == 0).mean())}
    return {"promised": promised, **told, "by_class": by_class, **whole}


def abstention(trust: Trust, sure: Floats, answers: Answers) -> dict[str, Any]:
    """How many cases are answered, and how many of those answers are wrong, beside what was promised."""
    answered = trust.abstention.answers(sure)
    return {"risk": trust.abstention.risk, "doubt": trust.abstention.doubt, "cut": trust.abstention.cut,
            "answered": float(answered.mean()), "wrong": rate(~answers.right[answered], answers.patients[answered]),
            "wrong_of_all": float((~answers.right).mean())}  # fmt: skip


def rate(hits: Flags, patients: NDArray[np.str_], *, every: bool = False) -> dict[str, Any]:
    """{"part", "whole", "share", "low", "high"} of patients with any hit, or with `every` case hit."""
    owner = owners(patients, len(hits))
    people = int(owner.max(initial=-1)) + 1
    count = np.bincount(owner, hits, minlength=people)
    found = count == np.bincount(owner, minlength=people) if every else count > 0
    return Rate.of(int(found.sum()), people).to_json()
