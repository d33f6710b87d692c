"""What became of promises, counted by hand, and areas with the interval of DeLong."""

import numpy as np
import pytest
from scipy.stats import beta

from vesalius.metrics._answers import Answers
from vesalius.metrics._delong import delong, interval
from vesalius.tasks import TASKS
from vesalius.tasks.classify.promises import areas, bins, coverage, curve, rate
from vesalius.testing.check_case_task import labels_of


def test_coverage_is_counted_by_patient():
    """Patient b has one case inside and one outside: not covered, but covered as one of class 0."""
    answers = Answers.of(np.full((4, 2), 0.5), np.array([0, 0, 1, 1]), patients=["a", "b", "b", "c"])
    sets = np.array([[True, False], [True, True], [True, False], [False, True]])
    found = coverage(sets, answers, labels_of(2, "classes"), promised=0.9)
    assert (found["all"]["part"], found["all"]["whole"]) == (2, 3)
    assert [(one["part"], one["whole"]) for one in found["by_class"].values()] == [(2, 2), (1, 2)]
    assert (found["size"], found["single"], found["empty"]) == (1.25, 0.75, 0.0)
    assert (found["all"]["low"], found["all"]["high"]) == pytest.approx((beta.ppf(0.025, 2, 2), beta.ppf(0.975, 3, 1)))


def test_unknown_findings_are_neither_covered_nor_missed():
    answers = Answers.of(np.full((3, 2), 0.5), np.array([[0, 1], [1, 255], [1, 0]]))
    sets = np.array([[[1, 0], [0, 1]], [[1, 0], [0, 0]], [[0, 1], [1, 1]]], bool)  # absent, present of each finding
    found = coverage(sets, answers, labels_of(2, "findings"), promised=0.9)
    assert "all" not in found and [(one["part"], one["whole"]) for one in found["by_class"].values()] == [(2, 3), (2, 2)]


def test_a_patient_is_strange_where_any_case_is():
    assert rate(np.array([True, False, False]), np.array(["a", "a", "b"]))["share"] == 0.5
    assert rate(np.array([True, False, False]), np.array(["a", "a", "b"]), every=True)["share"] == 0.0
    assert rate(np.zeros(0, bool), np.zeros(0, "U1"))["share"] is None


def test_areas_are_those_of_delong():
    draw = np.random.default_rng(0)
    truth, p = draw.integers(0, 2, 80), draw.random(80)
    found = areas(Answers.of(p, truth), labels_of(2, "classes"))
    low, high = interval(delong(p, truth == 1))
    assert (found["class 1"]["low"], found["class 1"]["high"]) == pytest.approx((low, high))
    assert found["all"] == pytest.approx(found["class 1"])
    assert found["class 0"]["auc"] == pytest.approx(found["class 1"]["auc"]), "the other class ranks the same cases from the other end"
    alone = areas(Answers.of(p, np.zeros(80, int)), labels_of(2, "classes"))
    assert alone["class 1"] == alone["all"] == {"auc": None, "low": None, "high": None}


def test_risk_falls_where_the_surest_are_right():
    sure, right = np.linspace(0, 1, 250), np.arange(250) >= 50
    points = curve(sure, right)
    assert len(points) == 100 and points[0] == [1 / 250, 0.0] and points[-1] == [1.0, 0.2]
    assert curve(np.zeros(0), np.zeros(0, bool)) == []


def test_bins_hold_every_case_and_the_error_is_theirs():
    draw = np.random.default_rng(0)
    truth, p = draw.integers(0, 2, (90, 3)), draw.random((90, 3))
    one = bins(Answers.of(p[:, 0], truth[:, 0]))
    stated, came, count = np.array(one["bins"]).T
    assert count.sum() == 90 and one["ece"] == pytest.approx((np.abs(stated - came) * count).sum() / 90, abs=1e-5)
    assert np.array(bins(Answers.of(p, truth))["bins"])[:, 2].sum() == 270


def test_without_rules_there_are_no_promises():
    truth, kept = np.array([[0], [1], [0], [1]], np.uint8), {"version": 1, "temperature": 2.0}
    found = TASKS["classify"]().examined(np.zeros((4, 2)), truth, labels_of(2, "classes"), calibration=kept, names=list("abcd"),
                                         patients=list("abcd"))  # fmt: skip
    assert set(found) == {"areas", "reliability", "risk_coverage", "remarks"} and found["areas"]["all"]["auc"] == 0.5
