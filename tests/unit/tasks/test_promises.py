"""What became of promises, counted by hand, and areas with the interval of DeLong."""

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import confusion_matrix

from vesalius.metrics._answers import Answers
from vesalius.metrics._delong import delong, interval
from vesalius.tasks import TASKS
from vesalius.tasks._rules import Rules
from vesalius.tasks.classify.operate import chosen, measured, rates
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


def test_operating_points_are_chosen_on_validation_and_counted_on_test():
    draw, labels = np.random.default_rng(3), labels_of(2, "classes")

    def part(count):
        truth = draw.integers(0, 2, count)
        logits = draw.normal(size=count) + 1.5 * truth
        return np.stack([-logits, logits], 1), truth[:, None].astype(np.uint8), [f"p{draw.random()}" for _ in range(count)]

    logits, truth, names = part(200)
    task = TASKS["classify"]()
    how = task.calibrate(logits, truth, labels, names=names, patients=names, targets={"sensitivity": (0.9, 0.95), "specificity": (0.95,)})
    assert "operating" in how and task.calibrate(logits, truth, labels, names=names)["operating"] == []
    p = task.probabilities(logits, labels, how)[:, 1]
    for one in how["operating"]:
        said = p >= one["point"]["threshold"]
        reached = {"sensitivity": said[truth[:, 0] == 1].mean(), "specificity": 1 - said[truth[:, 0] == 0].mean()}[one["wish"]]
        assert one["label"] == "class 1" and one["least"] <= reached < one["least"] + 0.02, "no stricter than wished"
    test, there, others = part(150)
    found = task.examined(test, there, labels, rules=Rules.one(how, len(others)), names=others, patients=others)["operating"]
    q = task.probabilities(test, labels, how)[:, 1]
    for row, one in zip(found, how["operating"], strict=True):
        tn, fp, fn, tp = confusion_matrix(there[:, 0], q >= one["point"]["threshold"]).ravel()
        counted = {"sensitivity": (tp, tp + fn), "specificity": (tn, tn + fp), "ppv": (tp, tp + fp), "npv": (tn, tn + fn)}
        assert {name: (row[name]["part"], row[name]["whole"]) for name in counted} == counted
        low = beta.ppf(0.025, tp, fp + 1)
        assert row["ppv"]["low"] == pytest.approx(low) and row["thresholds"] == [one["point"]["threshold"]]
        assert row["on_validation"][0]["sensitivity"]["whole"] == truth.sum()


def test_each_of_several_classes_and_findings_has_its_point_and_unknown_ones_do_not_count():
    draw = np.random.default_rng(4)
    p, truth = draw.random((60, 3)), draw.integers(0, 2, (60, 3)).astype(np.uint8)
    truth[:20, 1], truth[:, 2] = 255, 0
    points = chosen(p, truth, labels_of(3, "findings"), targets={"sensitivity": (0.8,)})
    assert [one.label for one in points] == [labels_of(3, "findings").names[k] for k in (0, 1)], "nobody has the third"
    rows = measured([(points, np.arange(60))], p, truth, labels=labels_of(3, "findings"), patients=np.arange(60).astype(str))
    assert rows[1]["sensitivity"]["whole"] + rows[1]["specificity"]["whole"] == 40
    one_of = chosen(p, draw.integers(0, 3, (60, 1)), labels_of(3, "classes"), targets={"specificity": (0.8, 0.9)})
    assert [(one.label, one.least) for one in one_of] == [(f"class {k}", least) for k in range(3) for least in (0.8, 0.9)]


def test_cases_of_one_patient_widen_the_interval():
    draw = np.random.default_rng(5)
    whose = np.repeat(np.arange(40), 5)
    sick, seen = (draw.random(40) < 0.5)[whose], (draw.random(40) < 0.7)[whose]
    wide = rates(sick & seen, sick, whose.astype(str))["sensitivity"]
    narrow = rates(sick & seen, sick, np.arange(200).astype(str))["sensitivity"]
    assert wide["share"] == narrow["share"] and wide["high"] - wide["low"] > 1.5 * (narrow["high"] - narrow["low"])


def test_without_rules_there_are_no_promises():
    truth, kept = np.array([[0], [1], [0], [1]], np.uint8), {"version": 1, "temperature": 2.0}
    found = TASKS["classify"]().examined(np.zeros((4, 2)), truth, labels_of(2, "classes"), rules=Rules.one(kept, 4), names=list("abcd"),
                                         patients=list("abcd"))  # fmt: skip
    assert set(found) == {"areas", "reliability", "risk_coverage", "remarks"} and found["areas"]["all"]["auc"] == 0.5
