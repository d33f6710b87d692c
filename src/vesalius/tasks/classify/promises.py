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
from vesalius.tasks._rules import Rules
from vesalius.tasks.classify.decide import Calibration, calibrated
from vesalius.tasks.classify.operate import measured
from vesalius.tasks.classify.scores import answers_of, questions
from vesalius.trust._kept import owners
from vesalius.trust.abstention import Abstention
from vesalius.trust.operating import Rate
from vesalius.trust.out_of_distribution import energy
from vesalius.trust.rules import confidence

POINTS = 100  # of the curve of risk against coverage


FEWER = ("Without one of the folds too few patients are left to fit promises on, so that none could be tried here. Those of the run are "
         "fitted on all folds.")  # fmt: skip


def examined(logits: Array, truth: Array, labels: Labels, *, rules: Rules, names: Sequence[str],
             patients: Sequence[str]) -> dict[str, Any]:  # fmt: skip
    """{"areas", "reliability", "risk_coverage", "remarks"}, with operating points "operating", and with fitted rules {"coverage",
    "abstention", "strange"}, as plain JSON.

    Rates come with exact binomial intervals over patients: a patient is covered where all its cases are, strange where any is.
    """
    hows = [Calibration.checked(dict(one), where="calibration.json") for one in rules.each]
    values, called = np.asarray(logits, np.float64), np.asarray(names)
    p = rules.told(lambda k, rows: calibrated(values[rows], labels, hows[k]))
    answers = answers_of(p, labels, thresholds=rules.thresholds, truth=truth, patients=patients)
    before = answers_of(calibrated(values, labels, Calibration()), labels, thresholds={}, truth=truth, patients=patients)
    sure = confidence(p, answers.said, exclusive=labels.one_of)
    found: dict[str, Any] = {
        "areas": areas(answers, labels), "reliability": {"before": bins(before), "after": bins(answers)},
        "risk_coverage": curve(sure, answers.right), "remarks": answers.remarks(labels.names),
    }  # fmt: skip
    if any(how.operating for how in hows):
        parts = [(hows[k].operating, rows) for k, rows in rules.parts]
        found["operating"] = measured(parts, p, truth, labels=labels, patients=answers.patients)
    trusts = [how.trust for how in hows]
    kept = [trust for trust in trusts if trust is not None]
    if len(kept) < len(trusts):
        return found | {"remarks": [*found["remarks"], *([FEWER] if len(trusts) > 1 else [])]}
    odd = energy(values, exclusive=labels.one_of)
    answered = rules.told(lambda k, rows: kept[k].abstention.answers(sure[rows]))
    strange = rules.told(lambda k, rows: kept[k].novelty.strange(odd[rows]))
    sets = rules.told(lambda k, rows: kept[k].sets.sets(p[rows], called[rows].tolist()))
    return found | {
        "coverage": coverage(sets, answers, labels, promised=1 - kept[0].sets.choice.miss),
        "abstention": abstention([trust.abstention for trust in kept], answered, answers),
        "strange": {"alarms": kept[0].novelty.alarms, **rate(strange, answers.patients)},
        "remarks": list(dict.fromkeys([*found["remarks"], *(remark for trust in kept for remark in trust.remarks)])),
    }


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


def abstention(rules: Sequence[Abstention], answered: Flags, answers: Answers) -> dict[str, Any]:
    """How many cases are `answered` (N,), and how many of those answers are wrong, beside what was promised; "cuts" has one for each of
    the `rules`."""
    return {"risk": rules[0].risk, "doubt": rules[0].doubt, "cuts": [rule.cut for rule in rules],
            "answered": float(answered.mean()), "wrong": rate(~answers.right[answered], answers.patients[answered]),
            "wrong_of_all": float((~answers.right).mean())}  # fmt: skip


def rate(hits: Flags, patients: NDArray[np.str_], *, every: bool = False) -> dict[str, Any]:
    """{"part", "whole", "share", "low", "high"} of patients with any hit, or with `every` case hit."""
    owner = owners(patients, len(hits))
    people = int(owner.max(initial=-1)) + 1
    count = np.bincount(owner, hits, minlength=people)
    found = count == np.bincount(owner, minlength=people) if every else count > 0
    return Rate.of(int(found.sum()), people).to_json()
