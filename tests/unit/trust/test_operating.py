"""Thresholds against enumeration of all of them, scipy's exact intervals, and what they do on other cases."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from vesalius.core.errors import DataError
from vesalius.metrics._answers import Answers
from vesalius.metrics.decisions import decisions
from vesalius.trust.operating import OperatingPoint, Rate, fixed_sensitivity, fixed_specificity, least_cost, youden


def cases(number=60, seed=0):
    random = np.random.default_rng(seed)
    truth = (np.arange(number) % 3 == 0).astype(int)
    return (random.normal(size=number) + truth).round(1), truth


def every_point(score, truth):
    """(sensitivity, specificity) of every cut."""
    return [(np.mean(score[truth == 1] >= cut), np.mean(score[truth == 0] < cut)) for cut in [*np.unique(score), np.inf]]


@pytest.mark.parametrize("seed", range(5))
def test_rules_are_the_best_of_all_thresholds(seed):
    score, truth = cases(seed=seed)
    points = every_point(score, truth)
    share = truth.mean()

    def reached(point):
        return point.fitted.sensitivity.share, point.fitted.specificity.share

    assert sum(reached(youden(score, truth))) == pytest.approx(max(a + b for a, b in points))
    a, b = reached(fixed_sensitivity(score, truth, least=0.9))
    assert a >= 0.9 and b == pytest.approx(max(y for x, y in points if x >= 0.9))
    a, b = reached(fixed_specificity(score, truth, least=0.9))
    assert b >= 0.9 and a == pytest.approx(max(x for x, y in points if y >= 0.9))
    for prevalence in (None, 0.05):
        p = share if prevalence is None else prevalence
        cost = [p * 10 * (1 - x) + (1 - p) * (1 - y) for x, y in points]
        a, b = reached(least_cost(score, truth, missed=10, prevalence=prevalence))
        assert p * 10 * (1 - a) + (1 - p) * (1 - b) == pytest.approx(min(cost))


def test_the_cost_of_calibrated_answers_is_least_at_its_closed_form():
    """Of calibrated probabilities the least cost is at alarm / (alarm + missed)."""
    random = np.random.default_rng(0)
    p = random.random(60_000)
    found = least_cost(p, random.random(60_000) < p, missed=4, alarm=1)
    assert found.threshold == pytest.approx(0.2, abs=0.03)


def test_a_threshold_lies_between_cases():
    found = youden([0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1])
    assert found.threshold == pytest.approx(0.4)
    assert fixed_specificity([0.1, 0.9, 0.6], [1, 0, 0], least=1.0).says([0.9, 0.95]).tolist() == [False, True]


def test_applied_elsewhere_it_is_a_threshold_of_the_answers():
    score, truth = cases()
    p = 1 / (1 + np.exp(-score))
    point = fixed_sensitivity(p[:30], truth[:30], least=0.8)
    measured = point.measure(p[30:], truth[30:])
    found = decisions(Answers.of(p[30:], truth[30:], thresholds=point.threshold))
    assert (measured.sensitivity.share, measured.specificity.share) == pytest.approx((found["sensitivity"], found["specificity"]))


@pytest.mark.parametrize(("part", "whole"), [(0, 8), (3, 8), (8, 8), (97, 120)])
def test_intervals_are_scipy_s(part, whole):
    expected = binomtest(part, whole).proportion_ci(method="exact")
    found = Rate.of(part, whole)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert Rate.of(0, 0).share is None


def test_it_survives_json_and_leaves_the_unknown_out():
    score, truth = cases()
    found = youden(score, truth)
    assert OperatingPoint.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert youden(np.append(score, 50.0), np.append(truth, 255)) == found


def test_nonsense_is_refused():
    with pytest.raises(DataError, match="no positive one among 3"):
        youden([0.1, 0.2, 0.3], [0, 0, 0])
    with pytest.raises(DataError, match="no negative one"):
        youden([0.1, 0.2, 0.3], [1, 1, 1])
    with pytest.raises(DataError, match="costs above 0"):
        least_cost([0.1, 0.2], [0, 1], missed=0)
    with pytest.raises(DataError, match=r"got \(3,\) and \(2,\)"):
        youden([0.1, 0.2, 0.3], [0, 1])
