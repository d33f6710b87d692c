"""Measures against scikit-learn and closed forms; thresholds by enumeration; temperature and loss by their formulas."""

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.data.labels import IGNORE
from vesalius.tasks import TASKS
from vesalius.tasks.classify.baseline import Baseline, features, regression
from vesalius.tasks.classify.decide import Calibration, calibrated, decided, fit, nats, threshold
from vesalius.tasks.classify.scores import auc, calibration_error, weighted_kappa
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
    found = TASK.measures(p, truth, labels, calibration={})
    said, y = p.argmax(1), truth[:, 0]
    assert found["all"]["auc"] == pytest.approx(oracle.roc_auc_score(y, p, multi_class="ovr"))
    assert found["all"]["accuracy"] == pytest.approx(oracle.accuracy_score(y, said))
    assert found["all"]["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(y, said))
    assert found["all"]["f1"] == pytest.approx(oracle.f1_score(y, said, average="macro"))
    assert found["all"]["brier"] == pytest.approx(((p - np.eye(4)[y]) ** 2).sum(1).mean())
    for k, name in enumerate(labels.names):
        assert found[name]["auc"] == pytest.approx(oracle.roc_auc_score(y == k, p[:, k]))
        assert found[name]["sensitivity"] == pytest.approx(oracle.recall_score(y == k, said == k))
        assert found[name]["specificity"] == pytest.approx(oracle.recall_score(y != k, said != k))
        assert found[name]["ppv"] == pytest.approx(oracle.precision_score(y == k, said == k))
        assert found[name]["f1"] == pytest.approx(oracle.f1_score(y == k, said == k))


def test_of_two_classes_the_last_one_leads():
    p, truth = drawn(2)
    found = TASK.measures(p, truth, labels_of(2, "classes"), calibration={"thresholds": {"class 1": 0.3}})
    assert found["all"]["auc"] == pytest.approx(oracle.roc_auc_score(truth[:, 0], p[:, 1]))
    assert found["class 1"]["sensitivity"] == pytest.approx(oracle.recall_score(truth[:, 0], p[:, 1] > 0.3))


def test_unknown_findings_count_for_nothing():
    p, truth = drawn(3, kind="findings")
    labels, veiled = labels_of(3, "findings"), truth.copy()
    veiled[:100, 1] = IGNORE
    found = TASK.measures(p, veiled, labels, calibration={})
    assert found["class 1"]["auc"] == pytest.approx(oracle.roc_auc_score(truth[100:, 1], p[100:, 1]))
    assert found["all"]["accuracy"] == pytest.approx(((p > 0.5) == truth)[veiled != IGNORE].mean())
    assert found["all"]["brier"] == pytest.approx(((p - truth) ** 2)[veiled != IGNORE].mean())


def test_the_area_counts_pairs_and_ties_half():
    p, there = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, True, False, True])
    assert auc(p, there, there) == (2 + 1.5) / 4  # .9 beats both, .4 beats .1 and ties .4
    assert np.isnan(auc(p, np.ones(4, bool), there)) and np.isnan(auc(p, np.zeros(4, bool), there))


def test_kappa_is_that_of_scikit_learn():
    draw = np.random.default_rng(0)
    truth, said = draw.integers(0, 5, 200), draw.integers(0, 5, 200)
    assert weighted_kappa(truth, said, 5) == pytest.approx(oracle.cohen_kappa_score(truth, said, weights="quadratic"))
    grades = TASK.measures(*drawn(3), labels_of(3, "grades"), calibration={})
    assert "kappa" in grades["all"] and "kappa" not in TASK.measures(*drawn(3), labels_of(3, "classes"), calibration={})["all"]


def test_calibration_error_of_two_bins():
    stated, right = np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, False, True, True])
    assert calibration_error(stated, right) == pytest.approx((2 * 0.45 + 2 * 0.45) / 4)


def test_the_threshold_is_the_best_of_all_there_are():
    draw = np.random.default_rng(1)
    for _ in range(20):
        p, there = draw.random(40).round(1), draw.integers(0, 2, 40)
        found = threshold(p, there)

        def score(cut, p=p, there=there):
            return oracle.balanced_accuracy_score(there, p > cut)

        assert score(found) == pytest.approx(max(score(cut) for cut in np.arange(-0.05, 1.1, 0.1)))
    assert threshold(np.array([0.2, 0.9]), np.array([1, 1])) == 0.5 and threshold(np.array([0.3, 0.3]), np.array([0, 1])) == 0.5
    assert threshold(np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 0, 1, 1])) == pytest.approx(0.4), "in the middle of the gap"


def test_temperature_is_the_best_there_is():
    labels = labels_of(3, "classes")
    p, truth = drawn(3)
    logits = 2.5 * np.log(p)
    found = fit(logits, truth, labels)
    costs = {t: nats(logits / t, truth, labels) for t in found.temperature * np.linspace(0.8, 1.2, 41)}
    assert found.nats[1] == pytest.approx(min(costs.values()), abs=1e-6) and found.nats[1] < found.nats[0]
    assert nats(logits, truth, labels) == pytest.approx(oracle.log_loss(truth[:, 0], calibrated(logits, labels, Calibration())))
    assert fit(logits[:5], truth[:5], labels) == Calibration(cases=5), "too few to fit anything"


def test_decisions_follow_the_thresholds():
    labels = labels_of(2, "findings")
    how = Calibration(thresholds={"class 0": 0.8, "class 1": 0.2})
    assert decided(np.array([[0.7, 0.3], [0.9, 0.1]]), labels, how).tolist() == [[0, 1], [1, 0]]
    rows = TASK.rows(np.array([[0.7, 0.3]]), labels, how.model_dump(), truth=np.array([[IGNORE, 1]], np.uint8))
    assert rows[0]["said"] == "class 1" and rows[0]["state"] == "right"


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
    with pytest.raises(UsageError, match="no settings"):
        TASKS["segment"]().loss(labels_of(2, "findings"), {"x": 1})


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
