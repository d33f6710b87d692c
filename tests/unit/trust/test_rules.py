"""All rules together: what each part was fitted on, what is said of new cases, and that the promises hold on them."""

import json
from dataclasses import fields

import numpy as np
import pytest
from scipy.stats import betabinom

from tests.unit.trust.made import classes, findings
from vesalius.audit.coverage import exact_bounds
from vesalius.core.errors import DataError
from vesalius.trust.conformal import ConformalChoice
from vesalius.trust.operating import fixed_sensitivity, youden
from vesalius.trust.rules import Trust, TrustChoice, confidence, fit_trust


def test_the_promises_hold_on_new_patients():
    logits, truth = classes(3000, 3, temperature=2.5)
    names = [f"case_{i}" for i in range(3000)]
    rule = fit_trust(logits[:1000], truth[:1000], names=names[:1000], choice=TrustChoice(risk=0.2))
    said = rule.judge(logits[1000:], names[1000:])
    assert rule.calibration.temperature[0] == pytest.approx(2.5, rel=0.2)
    inside = said.sets[np.arange(2000), truth[1000:]].mean()
    low, high = exact_bounds(500, 2000, miss=0.1, level=0.9999)
    assert low <= inside <= high
    wrong = (said.said != truth[1000:])[said.answered]
    assert wrong.mean() < 0.2 and 0.1 < said.answered.mean() < 1
    assert said.strange.mean() == pytest.approx(0.05, abs=0.04)
    assert rule.points == () and np.array_equal(said.said, logits[1000:].argmax(1)) and rule.remarks == []


def test_calibration_and_promises_have_no_patient_in_common():
    logits, truth = classes(200, 2)
    names, whose = np.arange(200), np.arange(200) // 4
    rule = fit_trust(logits, truth, names=names, patients=whose)
    assert rule.calibration.patients == 25 and rule.sets.patients == ((25,),) and rule.novelty.patients == 25
    found = [_changed(logits, truth, whose, patient).temperature[0] for patient in range(50)]
    assert np.sum(~np.isclose(found, rule.calibration.temperature[0], rtol=1e-9)) == 25


def _changed(logits, truth, whose, patient):
    """The calibration when the logits of one patient are changed."""
    changed = np.where((whose == patient)[:, None], 3 * logits[:, ::-1], logits)
    return fit_trust(changed, truth, names=np.arange(200), patients=whose).calibration


def test_two_classes_are_said_by_the_threshold():
    logits, truth = classes(600, 2, temperature=1.5)
    choice = TrustChoice(rule="sensitivity", least=0.9, calibrate=0.5)
    rule = fit_trust(logits, truth, names=range(600), choice=choice)
    assert rule.points[0].fitted.sensitivity.share >= 0.9
    p = rule.calibration.probabilities(logits)
    assert np.array_equal(rule.judge(logits, range(600)).said, p[:, 1] >= rule.points[0].threshold)
    assert rule.points[0].rule == fixed_sensitivity(p[:, 1], truth, least=0.9).rule
    assert fit_trust(logits, truth, names=range(600), choice=TrustChoice(rule="half")).points == (None,)


def test_all_patients_may_choose_the_threshold():
    logits, truth = classes(200, 2, temperature=1.5)
    ours, theirs = (fit_trust(logits, truth, names=range(200), choice=TrustChoice(chosen_on=who)) for who in ("all", "calibrating"))
    p = ours.calibration.probabilities(logits)
    assert ours.points[0] == youden(p[:, 1], truth) and ours.points[0].fitted.sensitivity.whole == (truth == 1).sum()
    assert theirs.points[0].fitted.sensitivity.whole + theirs.points[0].fitted.specificity.whole == 100
    assert (ours.calibration, ours.sets, ours.novelty) == (theirs.calibration, theirs.sets, theirs.novelty), "the rest is as before"


def test_findings_have_a_threshold_each():
    logits, truth = findings(400, 3, temperature=2.0)
    truth[:, 2] = 0
    rule = fit_trust(logits, truth, names=range(400), choice=TrustChoice(form="class"))
    assert rule.points[0] is not None and rule.points[2] is None
    said = rule.judge(logits, range(400))
    assert said.said.shape == (400, 3) and said.sets.shape == (400, 3, 2) and said.answered.shape == (400,)
    p = rule.calibration.probabilities(logits)
    assert np.array_equal(said.said[:, 2], p[:, 2] >= 0.5)
    assert confidence(np.array([[0.9, 0.2]]), np.array([[1, 1]]), exclusive=False).tolist() == [0.2]


def test_it_survives_json_and_says_the_same():
    logits, truth = classes(120, 3)
    rule = fit_trust(logits, truth, names=range(120))
    again = Trust.from_json(json.loads(json.dumps(rule.to_json(), allow_nan=False)))
    a, b = rule.judge(logits, range(120)), again.judge(logits, range(120))
    assert again == rule and all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


def test_promises_are_exact_also_where_calibration_has_many_numbers():
    """Ten numbers are fitted on 40 patients; the limits come from 40 others, so that coverage has its exact mean, 37 / 41."""
    inside = []
    for trial in range(100):
        logits, truth = classes(280, 5, temperature=3.0, seed=trial)
        names = [f"{trial}/{i}" for i in range(280)]  # fresh names are fresh random numbers
        rule = fit_trust(logits[:80], truth[:80], names=names[:80], choice=TrustChoice(form="vector", sets=ConformalChoice(method="aps")))
        inside.append(rule.judge(logits[80:], names[80:]).sets[np.arange(200), truth[80:]].mean())
    spread = betabinom(200, 37, 4).std() / 200
    assert np.mean(inside) == pytest.approx(37 / 41, abs=4 * spread / np.sqrt(100))


def test_the_unknown_and_columns_of_indices():
    logits, truth = classes(200, 3)
    hidden = np.where(np.arange(200) % 3 == 0, 255, truth)
    known, names = np.flatnonzero(hidden != 255), np.arange(200)
    assert fit_trust(logits, hidden, names=names) == fit_trust(logits[known], truth[known], names=known)
    assert fit_trust(logits, hidden[:, None], names=names) == fit_trust(logits, hidden, names=names)
    with pytest.raises(DataError, match=r"each of 200 cases; got \(3,\)"):
        fit_trust(logits, truth, names=["a", "b", "c"])
    with pytest.raises(DataError, match=r"below 3.*got \[7\]"):
        fit_trust(logits, np.full(200, 7), names=names)


def test_too_few_patients_are_told():
    logits, truth = classes(10, 2, seed=1)
    rule = fit_trust(logits, truth, names=range(10))
    assert len(rule.remarks) >= 3 and any("every set holds it" in told for told in rule.remarks)
    assert rule.judge(logits, range(10)).sets.all() and not rule.judge(logits, range(10)).answered.any()
    with pytest.raises(DataError, match="3 validation patients cannot be parted"):
        fit_trust(logits[:3], truth[:3], names=range(3))
