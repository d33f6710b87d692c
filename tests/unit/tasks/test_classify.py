"""Measures against scikit-learn and closed forms; what is fitted against the rules of the room of trust; losses by their formulas."""

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from vesalius.core.errors import DataError, UsageError, VesaliusError
from vesalius.data.labels import IGNORE
from vesalius.losses import LOSSES
from vesalius.losses._balance import effective_number_weights
from vesalius.metrics import METRICS
from vesalius.tasks import TASKS
from vesalius.tasks.classify.baseline import Baseline, features, regression
from vesalius.tasks.classify.decide import FEW, Calibration, calibrated, fit, judge
from vesalius.tasks.classify.scores import FAMILIES, answers_of, cuts, said
from vesalius.testing.check_case_task import labels_of

TASK = TASKS["classify"]()


def drawn(count=4, cases=300, *, seed=0, kind="classes"):
    """Probabilities with some skill, and truth."""
    draw = np.random.default_rng(seed)
    if kind != "findings":
        truth = draw.integers(0, count, (cases, 1)).astype(np.uint8)
        logits = draw.normal(0, 1, (cases, count)) + 1.2 * (truth == np.arange(count))
        p = np.exp(logits)
        return p / p.sum(1, keepdims=True), truth
    truth = draw.integers(0, 2, (cases, count)).astype(np.uint8)
    return 1 / (1 + np.exp(-draw.normal(0, 1, (cases, count)) - truth + 0.5)), truth


def test_measures_of_classes_are_those_of_scikit_learn():
    p, truth = drawn()
    labels = labels_of(4, "classes")
    found = TASK.measures(p, truth, labels, thresholds={})
    said, y = p.argmax(1), truth[:, 0]
    assert found["all"]["auc"] == pytest.approx(oracle.roc_auc_score(y, p, multi_class="ovr"))
    assert found["all"]["accuracy"] == pytest.approx(oracle.accuracy_score(y, said))
    assert found["all"]["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(y, said))
    assert found["all"]["f1"] == found["all"]["f1_macro"] == pytest.approx(oracle.f1_score(y, said, average="macro"))
    assert found["all"]["mcc"] == pytest.approx(oracle.matthews_corrcoef(y, said))
    assert found["all"]["average_precision"] == pytest.approx(np.mean([oracle.average_precision_score(y == k, p[:, k]) for k in range(4)]))
    assert found["all"]["brier"] == pytest.approx(((p - np.eye(4)[y]) ** 2).sum(1).mean())
    for k, name in enumerate(labels.names):
        assert found[name]["auc"] == pytest.approx(oracle.roc_auc_score(y == k, p[:, k]))
        assert found[name]["sensitivity"] == pytest.approx(oracle.recall_score(y == k, said == k))
        assert found[name]["specificity"] == pytest.approx(oracle.recall_score(y != k, said != k))
        assert found[name]["ppv"] == pytest.approx(oracle.precision_score(y == k, said == k))
        assert found[name]["f1"] == pytest.approx(oracle.f1_score(y == k, said == k))


def test_of_two_classes_the_last_one_leads():
    p, truth = drawn(2)
    found = TASK.measures(p, truth, labels_of(2, "classes"), thresholds={"class 1": 0.3})
    there, told = truth[:, 0], p[:, 1] >= 0.3
    assert found["all"]["auc"] == pytest.approx(oracle.roc_auc_score(there, p[:, 1]))
    assert found["class 1"]["sensitivity"] == found["all"]["sensitivity"] == pytest.approx(oracle.recall_score(there, told))
    assert found["class 0"]["sensitivity"] == found["class 1"]["specificity"] == pytest.approx(oracle.recall_score(there == 0, ~told))
    assert found["class 0"]["npv"] == found["class 1"]["ppv"] == pytest.approx(oracle.precision_score(there, told))
    assert found["all"]["brier"] == pytest.approx(oracle.brier_score_loss(there, p[:, 1]))


@pytest.mark.parametrize(("count", "kind"), [(2, "classes"), (4, "classes"), (3, "grades"), (3, "findings"), (1, "findings")])
def test_every_number_is_that_of_the_shelf(count, kind):
    p, truth = drawn(count, kind=kind)
    labels, limits = labels_of(count, kind), {"class 0": 0.4, "class 1": 0.6}
    found = TASK.measures(p, truth, labels, thresholds=limits)["all"]
    shelf = {name: v for family in FAMILIES for name, v in METRICS[family](answers_of(p, labels, thresholds=limits, truth=truth)).items()}
    assert found == pytest.approx({name: shelf[name] for name in found})
    assert set(shelf) - set(found) == (set() if kind == "grades" else {"kappa_linear", "kappa_quadratic"})
    assert set(found) <= set(TASK.definitions("px"))


def test_unknown_findings_count_for_nothing():
    p, truth = drawn(3, kind="findings")
    labels, veiled = labels_of(3, "findings"), truth.copy()
    veiled[:100, 1] = IGNORE
    found = TASK.measures(p, veiled, labels, thresholds={})
    assert found["class 1"]["auc"] == pytest.approx(oracle.roc_auc_score(truth[100:, 1], p[100:, 1]))
    assert found["all"]["accuracy"] == pytest.approx(((p > 0.5) == truth)[veiled != IGNORE].mean())
    assert found["all"]["brier"] == pytest.approx(np.mean([((p - truth) ** 2)[veiled[:, k] != IGNORE, k].mean() for k in range(3)]))


def test_kappa_of_grades_weighs_how_far_they_are_apart():
    p, truth = drawn(3)
    grades = TASK.measures(p, truth, labels_of(3, "grades"), thresholds={})["all"]
    assert grades["kappa_quadratic"] == pytest.approx(oracle.cohen_kappa_score(truth[:, 0], p.argmax(1), weights="quadratic"))
    assert grades["kappa"] == pytest.approx(oracle.cohen_kappa_score(truth[:, 0], p.argmax(1)))


def test_temperature_is_the_best_there_is_for_the_patients_that_calibrate():
    labels = labels_of(3, "classes")
    p, truth = drawn(3)
    found = fit(2.5 * np.log(p), truth, labels)
    used = [k for k in range(300) if _changes(found, 2.5 * np.log(p), truth, case=k)]
    assert len(used) == found.trust.calibration.patients == 150

    def nats(temperature):
        return oracle.log_loss(truth[used, 0], calibrated(2.5 * np.log(p), labels, Calibration(temperature=temperature))[used])

    costs = [nats(t) for t in found.temperature * np.linspace(0.8, 1.2, 41)]
    assert found.nats == pytest.approx((nats(1.0), min(costs)), abs=1e-6) and found.nats[1] < found.nats[0]


def _changes(found, logits, truth, *, case):
    """Whether another truth of one case changes the temperature."""
    other = truth.copy()
    other[case] = (truth[case] + 1) % 3
    return fit(logits, other, labels_of(3, "classes")).temperature != found.temperature


def test_of_few_patients_nothing_is_fitted():
    labels = labels_of(2, "classes")
    p, truth = drawn(2, cases=40)
    assert fit(np.log(p), truth, labels, patients=[f"p{k // 4}" for k in range(40)]) == Calibration(cases=40)
    enough = fit(np.log(p), truth, labels, patients=[f"p{k % FEW}" for k in range(40)])
    assert enough.trust is not None and enough.trust.novelty.patients == FEW // 2
    rows = TASK.rows(np.log(p), labels, Calibration().model_dump(), names=[str(k) for k in range(40)])
    assert all(set(row) == {"said", "probabilities", "thresholds"} and row["thresholds"] == {"class 1": 0.5} for row in rows)


@pytest.mark.parametrize(("count", "kind"), [(2, "classes"), (4, "classes"), (3, "findings")])
def test_cases_are_judged_by_the_rules_as_they_were_fitted(count, kind):
    p, truth = drawn(count, kind=kind)
    labels, names = labels_of(count, kind), [f"c{k}" for k in range(300)]
    logits = 1.7 * (np.log(p) if kind == "classes" else np.log(p / (1 - p)))
    how = Calibration.checked(TASK.calibrate(logits, truth, labels, names=names, patients=names))
    theirs = how.trust.judge(logits, names)
    answers = said(answers_of(calibrated(logits, labels, how), labels, thresholds=how.thresholds))
    assert np.array_equal(answers if kind == "findings" else answers[:, 0], theirs.said)
    mine = judge(logits, answers, labels, calibration=how, names=names)
    may = theirs.sets if kind == "classes" else theirs.sets[..., 1]
    assert [row.possible for row in mine] == [tuple(n for n, m in zip(labels.names, one, strict=True) if m) for one in may]
    assert [row.answered for row in mine] == theirs.answered.tolist() and [row.strange for row in mine] == theirs.strange.tolist()


def test_what_a_run_of_version_1_kept_is_still_used():
    kept = {"version": 1, "temperature": 2.0, "thresholds": {"class 1": 0.3}, "cases": 30, "nats": [0.6, 0.5]}
    labels, logits = labels_of(2, "classes"), np.array([[0.0, -1.2], [0.0, -2.0]])
    rows = TASK.rows(logits, labels, kept, names=["a", "b"])
    p = 1 / (1 + np.exp(np.array([1.2, 2.0]) / 2))
    assert [row["probabilities"]["class 1"] for row in rows] == pytest.approx(p, abs=1e-9)
    assert [row["said"] for row in rows] == ["class 1", "class 0"] and p[0] > 0.3 > p[1]
    assert "possible" not in rows[0] and rows[0]["thresholds"] == {"class 1": 0.3}


def test_decisions_follow_the_thresholds():
    labels = labels_of(2, "findings")
    limits = {"class 0": 0.8, "class 1": 0.2}
    assert cuts(labels, limits) == (0.8, 0.2) and cuts(labels_of(3, "classes"), limits) == (0.5,)
    assert said(answers_of(np.array([[0.7, 0.3], [0.9, 0.1]]), labels, thresholds=limits)).tolist() == [[0, 1], [1, 0]]
    logits = np.log(np.array([[0.7, 0.3]]) / np.array([[0.3, 0.7]]))
    rows = TASK.rows(logits, labels, {"thresholds": limits}, names=["a"], truth=np.array([[IGNORE, 1]], np.uint8))
    assert rows[0]["said"] == "class 1" and rows[0]["state"] == "right" and rows[0]["thresholds"] == limits


def test_the_loss_is_its_formula():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, 0.2]])
    target = torch.tensor([[0], [2]], dtype=torch.uint8)
    loss = TASK.loss(labels_of(3, "classes"))([logits], target)["cross_entropy"]
    assert float(loss) == pytest.approx(float(-logits.log_softmax(1)[[0, 1], [0, 2]].mean()))
    soft = float(TASK.loss(labels_of(3, "classes"), {"label_smoothing": 0.3})([logits], target)["cross_entropy"])
    even = float(-logits.log_softmax(1).mean())
    assert soft == pytest.approx(0.7 * float(loss) + 0.3 * even)
    terms = TASK.loss(labels_of(3, "classes"))([logits, logits, 3 * logits], target)
    assert float(terms["auxiliary"]) == pytest.approx(0.3 * (float(loss) + float(-(3 * logits).log_softmax(1)[[0, 1], [0, 2]].mean())) / 2)


def test_the_loss_of_findings_leaves_out_what_is_unknown():
    logits = torch.tensor([[1.0, -2.0]])
    loss = TASK.loss(labels_of(2, "findings"))
    assert float(loss([logits], torch.tensor([[1, 255]], dtype=torch.uint8))["cross_entropy"]) == pytest.approx(np.log1p(np.exp(-1)))
    with pytest.raises(VesaliusError, match="expects a target"):
        loss([logits], torch.zeros(1, 1, dtype=torch.uint8))
    with pytest.raises(UsageError, match="label_smothing"):
        TASK.loss(labels_of(2, "classes"), {"label_smothing": 0.1})


@pytest.mark.parametrize(("words", "name", "arguments"), [
    ({"name": "focal", "gamma": 1.5}, "focal", {"gamma": 1.5}),
    ({"name": "focal", "weights": "balanced"}, "focal", {"weights": effective_number_weights([70, 20, 10])}),
    ({"weights": [1, 2, 3]}, "cross_entropy", {"weights": [1, 2, 3]}),
    ({"name": "ldam", "widest": 1.0}, "ldam", {"widest": 1.0, "scale": 1.0, "counts": [70, 20, 10]}),
    ({"name": "ordinal"}, "ordinal", {}),
])  # fmt: skip
def test_the_plan_names_the_loss(words, name, arguments):
    draw = torch.Generator().manual_seed(0)
    logits, target = torch.randn(6, 3, generator=draw), torch.tensor([[0], [1], [2], [0], [1], [2]], dtype=torch.uint8)
    mine = TASK.loss(labels_of(3, "classes"), words, counts=[70, 20, 10])([logits], target)
    theirs = LOSSES[name](True, **arguments)(logits, target)
    assert {key: float(value) for key, value in mine.items()} == {key: float(value) for key, value in theirs.items()}


def test_grades_are_learned_in_their_order_and_ldam_weighs_late():
    logits, target = torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[2]], dtype=torch.uint8)
    assert set(TASK.loss(labels_of(3, "grades"))([logits], target)) == {"ordinal"}
    assert set(TASK.loss(labels_of(3, "grades"), {"name": "cross_entropy"})([logits], target)) == {"cross_entropy"}
    loss = TASK.loss(labels_of(3, "classes"), {"name": "ldam"}, counts=[70, 20, 10])
    before = float(loss([logits], target)["ldam"])
    loss.progress(0.5)
    assert float(loss([logits], target)["ldam"]) == before
    loss.progress(0.9)
    assert float(loss([logits], target)["ldam"]) == pytest.approx(before * effective_number_weights([70, 20, 10])[2])


@pytest.mark.parametrize(("words", "problem", "says"), [
    ({"name": "focall"}, UsageError, "focal"),
    ({"name": "dice"}, UsageError, "Unknown loss"),
    ({"name": "focal", "label_smoothing": 0.1}, UsageError, "word of the loss focal"),
    ({"weights": "even"}, UsageError, "balanced"),
    ({"weights": "balanced"}, DataError, "training cases"),
    ({"name": "ldam"}, DataError, "training cases"),
])  # fmt: skip
def test_a_loss_that_cannot_be_made_is_an_error(words, problem, says):
    with pytest.raises(problem, match=says):
        TASK.loss(labels_of(3, "classes"), words)


def test_the_regression_is_that_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(0)
    x = np.hstack([draw.normal(size=(200, 5)), np.ones((200, 1))]).astype(np.float32)
    y = (x[:, :3] + draw.normal(0, 1, (200, 3))).argmax(1).astype(np.uint8)
    found = regression(x, y[:, None], 0.1, classes=3)
    other = LogisticRegression(C=1 / (0.1 * 200), tol=1e-8, max_iter=1000).fit(x[:, :5], y)
    assert np.allclose(found[:5] - found[:5].mean(1, keepdims=True), other.coef_.T, atol=5e-3)


def test_the_baseline_describes_both_numbers_of_axes_and_refuses_nothing():
    assert features(np.zeros((1, 28, 28), np.float32)).shape == (256 + 16 + 128,)
    assert features(np.zeros((2, 8, 9, 3), np.float32)).shape == (2 * (6 * 6 * 3 + 16 + 24),)
    with pytest.raises(VesaliusError, match="no case to learn from"):
        Baseline(2, True).fit([])
    with pytest.raises(VesaliusError, match="learned nothing"):
        Baseline(2, True).predict(np.zeros((1, 8, 8), np.float32))
