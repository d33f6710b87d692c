"""Metrics of classification against scikit-learn, closed forms, all pairs and exact enumeration."""

import warnings
from dataclasses import replace
from itertools import permutations
from math import log, nan

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binom
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from vesalius.core.errors import DataError
from vesalius.data.labels import IGNORE
from vesalius.metrics import METRICS
from vesalius.metrics._answers import Answers, macro
from vesalius.metrics._curves import Curve
from vesalius.metrics._delong import area
from vesalius.metrics.abstention import risk_coverage
from vesalius.metrics.agreement import correlation, kappa
from vesalius.metrics.calibration import consistent_errors, reliability
from vesalius.metrics.net_benefit import decision_curve
from vesalius.testing.check_class_metric import example


def every(answers):
    return {name: value for entry in METRICS if "classify" in METRICS.card(entry).tasks for name, value in METRICS[entry](answers).items()}


def rounded(classes, seed=0):
    """Like `example`, with two decimals, so that scores tie."""
    p, y = example(classes, cases=90, seed=seed)
    if classes > 2:
        return p, y
    p = p.round(1)
    return p, y


@pytest.mark.parametrize("seed", range(3))
def test_two_classes_as_scikit_learn(seed):
    p, y = rounded(2, seed)
    found, said = every(Answers.of(p, y)), (p[:, 1] >= 0.5).astype(int)
    assert len(np.unique(p[:, 1])) < 12
    expected = {
        "auc": oracle.roc_auc_score(y, p[:, 1]), "average_precision": oracle.average_precision_score(y, p[:, 1]),
        "accuracy": oracle.accuracy_score(y, said), "balanced_accuracy": oracle.balanced_accuracy_score(y, said),
        "sensitivity": oracle.recall_score(y, said), "specificity": oracle.recall_score(y, said, pos_label=0),
        "ppv": oracle.precision_score(y, said), "npv": oracle.precision_score(y, said, pos_label=0),
        "f1": oracle.f1_score(y, said), "f1_macro": oracle.f1_score(y, said, average="macro"),
        "kappa": oracle.cohen_kappa_score(y, said), "mcc": oracle.matthews_corrcoef(y, said),
        "brier": oracle.brier_score_loss(y, p[:, 1]),
        "log_loss": oracle.log_loss(y, p[:, 1].clip(1e-15, 1)),
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("classes", [3, 5])
def test_several_classes_as_scikit_learn(classes):
    p, y = rounded(classes)
    found, said, one = every(Answers.of(p, y)), p.argmax(1), np.eye(classes)[y]
    expected = {
        "auc": oracle.roc_auc_score(y, p, multi_class="ovr", average="macro"),
        "average_precision": oracle.average_precision_score(one, p, average="macro"),
        "accuracy": oracle.accuracy_score(y, said), "balanced_accuracy": oracle.balanced_accuracy_score(y, said),
        "sensitivity": oracle.recall_score(y, said, average="macro"), "ppv": oracle.precision_score(y, said, average="macro"),
        "f1": oracle.f1_score(y, said, average="macro"), "f1_macro": oracle.f1_score(y, said, average="macro"),
        "kappa": oracle.cohen_kappa_score(y, said), "kappa_linear": oracle.cohen_kappa_score(y, said, weights="linear"),
        "kappa_quadratic": oracle.cohen_kappa_score(y, said, weights="quadratic"), "mcc": oracle.matthews_corrcoef(y, said),
        "brier": ((p - one) ** 2).sum(1).mean(), "log_loss": oracle.log_loss(y, p),
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_a_class_that_is_only_said_counts_as_in_scikit_learn():
    p, y = example(4)
    y = np.where(y == 3, 0, y)
    found, said = every(Answers.of(p, y)), p.argmax(1)
    assert 3 in said and found["f1_macro"] == pytest.approx(oracle.f1_score(y, said, average="macro"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns that a class is said and never true
        assert found["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(y, said))
    assert found["kappa"] == pytest.approx(oracle.cohen_kappa_score(y, said))
    assert found["mcc"] == pytest.approx(oracle.matthews_corrcoef(y, said))


def test_findings_are_means_over_what_is_known():
    p, y = example(3, exclusive=False)
    y[::5, 1] = IGNORE
    found = every(Answers.of(p, y))
    known = [(p[y[:, k] != IGNORE, k], y[y[:, k] != IGNORE, k]) for k in range(3)]
    assert found["auc"] == pytest.approx(np.mean([oracle.roc_auc_score(t, s) for s, t in known]))
    assert found["kappa"] == pytest.approx(np.mean([oracle.cohen_kappa_score(t, s >= 0.5) for s, t in known]))
    right = sum(((s >= 0.5) == t).sum() for s, t in known)
    assert found["accuracy"] == pytest.approx(right / sum(len(t) for _, t in known))


@pytest.mark.parametrize("seed", range(5))
def test_area_is_the_share_of_all_pairs(seed):
    p, y = rounded(2, seed)
    positive, negative = p[y == 1, 1], p[y == 0, 1]
    wins = (positive[:, None] > negative).sum() + 0.5 * (positive[:, None] == negative).sum()
    assert area(p[:, 1], y == 1) == pytest.approx(wins / len(positive) / len(negative), abs=1e-12)


def test_area_of_two_normal_distributions():
    """Scores N(0, 1) and N(d, 1): the area is Phi(d / sqrt 2)."""
    random = np.random.default_rng(0)
    truth = np.arange(40_000) % 2 == 1
    score = random.normal(size=len(truth)) + 1.2 * truth
    assert area(score, truth) == pytest.approx(ndtr(1.2 / np.sqrt(2)), abs=0.01)


def test_roc_and_precision_recall_curves_as_scikit_learn():
    p, y = rounded(2)
    curve = Curve.of(p[:, 1], y == 1)
    false, true, threshold = oracle.roc_curve(y, p[:, 1], drop_intermediate=False)
    assert np.allclose(curve.sensitivity, true) and np.allclose(1 - curve.specificity, false)
    assert np.array_equal(curve.threshold, threshold)
    precision, recall, cuts = oracle.precision_recall_curve(y, p[:, 1])
    assert np.allclose(curve.precision[:0:-1], precision[:-1]) and np.allclose(curve.sensitivity[:0:-1], recall[:-1])
    assert np.array_equal(curve.threshold[:0:-1], cuts)


def test_thresholds_decide_two_classes_and_findings():
    p, y = example(2)
    found = Answers.of(p, y, thresholds=0.8).said
    assert np.array_equal(found, p[:, 1] >= 0.8)
    p, y = example(3, exclusive=False)
    assert np.array_equal(Answers.of(p, y, thresholds=(0.1, 0.5, 0.9)).said, p >= [0.1, 0.5, 0.9])


def test_each_case_may_have_a_threshold_of_its_own():
    p, y = example(3, exclusive=False)
    cuts = tuple(np.random.default_rng(k).random(len(p)) for k in range(3))
    answers = replace(Answers.of(p, y), thresholds=cuts)
    assert np.array_equal(answers.said, p >= np.stack(cuts, 1))
    rows = np.arange(len(p))[::-2]
    assert np.array_equal(answers.take(rows).said, (p >= np.stack(cuts, 1))[rows])
    price = [c / (1 - c) for c in cuts]
    by_hand = np.mean([((p[:, k] >= cuts[k]) * np.where(y[:, k] == 1, 1, -price[k]))[y[:, k] != 255].mean() for k in range(3)])
    assert METRICS["net_benefit"](answers)["net_benefit"] == pytest.approx(by_hand)
    same = replace(answers, thresholds=tuple(np.full(len(p), c) for c in (0.1, 0.5, 0.9)))
    assert every(same) == pytest.approx(every(Answers.of(p, y, thresholds=(0.1, 0.5, 0.9))), nan_ok=True)


def test_a_column_of_indices_is_exclusive_and_a_column_of_both_is_a_finding():
    p, y = example(3)
    assert every(Answers.of(p, y[:, None])) == every(Answers.of(p, y))
    p, y = example(1, exclusive=False)
    assert not Answers.of(p, y).exclusive and Answers.of(p[:, 0], y).exclusive


def test_kappa_by_hand():
    """60 of 100 agree, chance agrees on .5 * .6 + .5 * .4 = .5; Matthews' coefficient of two classes is phi."""
    table = np.array([[35, 15], [25, 25]])
    assert kappa(table) == pytest.approx((0.6 - 0.5) / 0.5)
    assert correlation(table) == pytest.approx((35 * 25 - 15 * 25) / np.sqrt(50 * 50 * 60 * 40))


def test_quadratic_kappa_of_equal_margins_is_the_correlation():
    """Fleiss & Cohen 1973: with equal means and variances quadratic kappa is Pearson's correlation of the ranks."""
    table = np.array([[10, 4, 1], [4, 9, 3], [1, 3, 8]])
    pairs = np.array([(i, j) for i in range(3) for j in range(3) for _ in range(table[i, j])])
    assert kappa(table, 2) == pytest.approx(np.corrcoef(pairs.T)[0, 1])


def test_calibration_error_by_hand():
    """Four cases of probability .9 of which three are positive, four of .2 of which one is."""
    probability = np.repeat([0.9, 0.2], 4)
    truth = np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
    for equal_mass in (False, True):
        bins = reliability(probability, truth, equal_mass=equal_mass)
        assert bins.error == pytest.approx((0.15 * 4 + 0.05 * 4) / 8)
        assert bins.count.tolist() == [4, 4] and bins.frequency.tolist() == [0.25, 0.75]


def test_bins_are_closed_below_and_two_classes_are_of_yes():
    assert reliability(np.array([0.0, 0.49, 0.5, 1.0]), np.zeros(4, bool), bins=2).count.tolist() == [2, 2]
    p, y = example(2)
    assert METRICS["calibration"](Answers.of(p, y))["ece"] == reliability(p[:, 1], y == 1).error


def test_reliability_bins_as_scikit_learn():
    random = np.random.default_rng(0)
    probability = random.random(500)
    truth = random.random(500) < probability**2
    for strategy, equal_mass in (("uniform", False), ("quantile", True)):
        frequency, mean = calibration_curve(truth, probability, n_bins=10, strategy=strategy)
        bins = reliability(probability, truth, bins=10, equal_mass=equal_mass)
        assert np.allclose(bins.frequency, frequency) and np.allclose(bins.probability, mean)


def test_calibration_error_of_calibrated_draws_goes_to_zero():
    """It falls as 1 / sqrt N, and a probability that is .2 too high is found to be so."""
    random = np.random.default_rng(0)
    errors = []
    for cases in (300, 30_000):
        probability = random.random(cases)
        errors.append(reliability(probability, random.random(cases) < probability).error)
    assert errors[1] < errors[0] / 5 and errors[1] < 0.012
    high = random.random(30_000) * 0.8
    assert reliability(high + 0.2, random.random(30_000) < high).error == pytest.approx(0.2, abs=0.01)


def test_calibrated_answers_are_within_what_chance_makes():
    """The error of calibrated draws is above the 95th percentile of consistent errors in one of twenty sets; a wrong one is."""
    random, above = np.random.default_rng(0), 0
    for trial in range(150):
        p = random.beta(2, 2, 120)
        limit = np.quantile(consistent_errors(p, draws=100, seed=trial), 0.95)
        above += reliability(p, random.random(120) < p).error > limit
    assert above <= binom.ppf(0.9999, 150, 0.07)  # 100 draws find the percentile to within 2 %
    assert reliability(p, random.random(120) < p**3).error > np.quantile(consistent_errors(p), 0.95)


def test_images_of_one_patient_make_more_chance():
    p = np.random.default_rng(0).beta(2, 2, 200)
    alone = consistent_errors(np.tile(p, 4)).mean()
    together = consistent_errors(np.tile(p, 4), patients=np.tile(np.arange(200), 4)).mean()
    assert together == pytest.approx(consistent_errors(p).mean(), rel=0.05) and alone < 0.7 * together


def test_calibration_of_three_classes_is_of_what_was_said():
    p, y = example(3, cases=300)
    said, sure = p.argmax(1), p.max(1)
    edges = np.clip((sure * 15).astype(int), 0, 14)
    expected = sum(abs(sure[edges == b].sum() - (said == y)[edges == b].sum()) for b in range(15)) / 300
    assert METRICS["calibration"](Answers.of(p, y))["ece"] == pytest.approx(expected)


def test_net_benefit_by_hand():
    """t = .25: a false positive costs a third of a true one."""
    score, truth = np.array([0.9, 0.3, 0.25, 0.1]), np.array([True, False, True, False])
    curve = decision_curve(score, truth, [0.25, 0.5, 0.95])
    assert curve.model == pytest.approx([(2 - 1 / 3) / 4, 1 / 4, 0])
    assert curve.everybody == pytest.approx([(2 - 2 / 3) / 4, 0, (2 - 2 * 19) / 4])


def test_net_benefit_of_a_calibrated_model_is_never_below_both_rules():
    """With N -> infinity and p the true probability no rule is better than acting where p >= t."""
    random = np.random.default_rng(0)
    p = random.beta(1, 3, 50_000)
    curve = decision_curve(p, random.random(50_000) < p, np.linspace(0.02, 0.8, 30))
    assert (curve.model >= np.maximum(curve.everybody, 0) - 0.004).all()


def test_fixed_sensitivity_by_enumeration():
    p, y = rounded(2, 3)
    found = METRICS["operating_points"](Answers.of(p, y))
    score = p[:, 1]
    cuts = [np.inf, *score]
    points = [(float((score[y == 1] >= c).mean()), float((score[y == 0] < c).mean())) for c in cuts]
    for level in (0.9, 0.95):
        word = f"{100 * level:.0f}"
        assert found[f"specificity_at_{word}_sensitivity"] == pytest.approx(max(b for a, b in points if a >= level))
        assert found[f"sensitivity_at_{word}_specificity"] == pytest.approx(max(a for a, b in points if b >= level))


def test_nineteen_of_twenty_is_95_percent():
    score = np.append(np.linspace(1, 2, 19), 0.0)
    p = np.append(score, np.full(20, 0.5)) / 2
    found = METRICS["operating_points"](Answers.of(p, np.repeat([1, 0], 20)))
    assert found["specificity_at_95_sensitivity"] == 1.0


def test_area_under_risk_and_coverage_is_the_mean_over_orders_of_ties():
    confidence, right = np.array([0.9, 0.7, 0.7, 0.7, 0.5]), np.array([1, 1, 0, 0, 1])
    areas = []
    for middle in permutations([1, 0, 0]):
        wrong = 1 - np.array([1, *middle, 1])
        areas.append(np.mean(np.cumsum(wrong) / np.arange(1, 6)))
    assert risk_coverage(confidence, right.astype(bool)).area == pytest.approx(np.mean(areas))


def test_excess_area_is_zero_for_the_best_order():
    """The least area with the error rate r tends to r + (1 - r) ln(1 - r)."""
    right = np.arange(20_000) >= 4000
    p = np.where(right, 0.9, 0.6)
    found = METRICS["abstention"](Answers.of(np.stack([1 - p, p], 1), right.astype(int)))
    assert found["aurc"] == pytest.approx(0.2 + 0.8 * log(0.8), abs=1e-3)
    # Within the wrong ones ties change nothing.
    assert found["excess_aurc"] == pytest.approx(0, abs=1e-9)


def test_remarks_name_what_is_missing():
    answers = Answers.of(np.full((4, 3), 1 / 3), np.array([0, 0, 1, 1]))
    told = answers.remarks(["normal", "benign", "malignant"])
    assert len(told) == 1 and told[0].startswith("malignant: no case among 4")
    assert Answers.of(np.full(3, 0.2), np.ones(3, int)).remarks(["no", "yes"])[0].startswith("yes: no case without it among 3")


def test_macro_skips_the_undefined():
    assert macro([nan, 0.5, 1.0]) == 0.75 and np.isnan(macro([nan]))
    p, y = example(3)
    two = y < 2
    found = METRICS["discrimination"](Answers.of(p[two], y[two]))["auc"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [oracle.roc_auc_score(y[two] == k, p[two, k]) for k in (0, 1)]
    assert found == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(("p", "y", "words"), [
    (np.full((4, 3), 1 / 3), np.zeros((4, 2), int), "got"),
    (np.full((4, 3), 2.0), np.zeros(4, int), "softmax or sigmoid"),
    (np.full((4, 3), np.nan), np.zeros(4, int), "not finite"),
    (np.full((4, 3), 0.5), np.zeros(4, int), "sum to 1"),
    (np.full((4, 2), 0.5), np.array([0, 1, 2, 0]), r"0\.\.1"),
    (np.full((4, 2), 0.5), np.array([0, 1, 0.5, 0]), "whole numbers"),
])  # fmt: skip
def test_nonsense_is_refused(p, y, words):
    with pytest.raises(DataError, match=words):
        Answers.of(p, y)


def test_a_patient_is_needed_for_each_case():
    with pytest.raises(DataError, match="one patient for each of 3"):
        Answers.of(np.full(3, 0.5), np.zeros(3, int), patients=["a", "b"])
