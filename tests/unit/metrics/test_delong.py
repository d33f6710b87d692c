"""DeLong's variance against double loops over all pairs, the jackknife, the bootstrap, and coverage on simulated data."""

import numpy as np
import pytest
from scipy.special import ndtr

from vesalius.core.errors import DataError
from vesalius.metrics._answers import Answers
from vesalius.metrics._bootstrap import Patients, bootstrap, with_intervals
from vesalius.metrics._delong import Areas, area, delong, interval, macro_area
from vesalius.metrics.decisions import decisions
from vesalius.testing.check_class_metric import example


def scores(models=2, cases=40, seed=0, ties=True):
    random = np.random.default_rng(seed)
    truth = random.random(cases) < 0.4
    values = random.normal(size=(models, cases)) + random.normal(size=cases) + 1.2 * truth
    return (values.round(1) if ties else values), truth


def by_loops(values, truth):
    """DeLong et al. 1988, equations 3 to 6, written as they stand."""
    x, y = values[:, truth], values[:, ~truth]
    psi = (x[:, :, None] > y[:, None, :]) + 0.5 * (x[:, :, None] == y[:, None, :])
    v10, v01 = psi.mean(2), psi.mean(1)
    return psi.mean((1, 2)), np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]


@pytest.mark.parametrize("seed", range(4))
def test_areas_and_covariance_as_the_paper_writes_them(seed):
    values, truth = scores(3, seed=seed)
    found = delong(values, truth)
    expected, covariance = by_loops(values, truth)
    assert np.allclose(found.area, expected, atol=1e-12) and np.allclose(found.covariance, covariance, atol=1e-14)


def test_variance_agrees_with_jackknife_and_bootstrap():
    values, truth = scores(1, cases=400, ties=False)
    ours = delong(values, truth).covariance[0, 0]
    left = [area(np.delete(values[0], i), np.delete(truth, i)) for i in range(400)]
    assert (399 / 400) * np.sum((np.array(left) - np.mean(left)) ** 2) == pytest.approx(ours, rel=0.02)
    drawn = bootstrap(lambda rows: [area(values[0, rows], truth[rows])], np.arange(400), draws=1500).drawn
    assert drawn.var() == pytest.approx(ours, rel=0.15)


def test_intervals_cover_as_they_promise():
    """300 samples of two normal distributions whose area is known: 95 % are covered, give or take four standard deviations."""
    random = np.random.default_rng(0)
    truth, hits = np.arange(120) % 3 == 0, 0
    for _ in range(300):
        low, high = interval(delong(random.normal(size=120) + 1.5 * truth, truth))
        hits += low <= ndtr(1.5 / np.sqrt(2)) <= high
    assert abs(hits / 300 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 300)


def test_images_of_one_patient_are_not_taken_for_patients():
    """Every case three times: as cases of one patient the variance stays, as patients of their own it falls to a third."""
    values, truth = scores(2, cases=60)
    thrice, whose = np.tile(values, 3), np.tile(np.arange(60), 3)
    once = delong(values, truth)
    together = delong(thrice, np.tile(truth, 3), patients=whose)
    assert np.allclose(together.area, once.area) and np.allclose(together.covariance, once.covariance, rtol=1e-12)
    apart = delong(thrice, np.tile(truth, 3))
    assert np.allclose(apart.covariance * 3, once.covariance, rtol=0.05)


def test_clustered_variance_is_that_of_repeated_studies():
    """Patients with four images each and a shared effect, some of them with positive and negative images."""
    random, whose = np.random.default_rng(1), np.repeat(np.arange(50), 4)
    areas, told = [], []
    for _ in range(400):
        truth = random.random(200) < np.repeat(random.choice([0.0, 0.5, 1.0], 50), 4)
        score = random.normal(size=200) + np.repeat(random.normal(size=50) * 1.5, 4) + truth
        found = delong(score, truth, patients=whose)
        areas.append(found.area[0])
        told.append(found.covariance[0, 0])
    assert np.mean(told) == pytest.approx(np.var(areas), rel=0.2)


def test_perfect_and_absent_classes():
    truth = np.arange(20) < 8
    assert interval(delong(truth.astype(float), truth)) == (pytest.approx(0.025 ** (1 / 8)), 1.0)
    assert interval(delong(-truth.astype(float), truth)) == (0.0, pytest.approx(1 - 0.025 ** (1 / 8)))
    absent = delong(np.arange(5.0), np.zeros(5, bool))
    assert np.isnan(absent.area).all() and np.isnan(interval(absent)).all()
    one = delong(np.arange(5.0), np.arange(5) == 3)  # a variance needs two positives
    assert one.area[0] == 0.75 and np.isnan(interval(one)).all()


def test_equal_scores_have_an_area_of_one_half_and_no_doubt():
    assert interval(delong(np.ones(20), np.arange(20) < 8)) == (0.5, 0.5)


def test_the_interval_is_symmetric_on_the_logit_scale():
    low, high = interval(Areas(np.array([0.9]), np.array([[0.0009]]), 30))
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731
    assert (logit(low) + logit(high)) / 2 == pytest.approx(logit(0.9))
    assert (logit(high) - logit(low)) / 2 == pytest.approx(1.959964 * 0.03 / 0.09, rel=1e-6)


def test_the_mean_area_over_classes_has_the_variance_of_the_bootstrap():
    p, y = example(3, cases=240)
    answers = Answers.of(p, y)
    found = macro_area(answers)

    def mean(rows):
        return [np.mean([area(p[rows, k], y[rows] == k) for k in range(3)])]

    assert found.area[0] == pytest.approx(mean(np.arange(240))[0])
    assert bootstrap(mean, answers.patients, draws=1000).drawn.var() == pytest.approx(found.covariance[0, 0], rel=0.2)
    two = macro_area(answers, Answers.of(np.roll(p, 1, 1), y))
    assert two.covariance.shape == (2, 2) and two.covariance[0, 0] == pytest.approx(found.covariance[0, 0])


def test_two_classes_are_delong_s():
    p, y = example(2)
    assert np.allclose(macro_area(Answers.of(p, y)).covariance, delong(p[:, 1], y == 1).covariance)


def test_unlike_lengths_are_refused():
    with pytest.raises(DataError, match=r"got \(1, 5\) and \(4,\)"):
        delong(np.zeros(5), np.zeros(4, bool))


def test_patients_are_drawn_with_all_their_cases():
    groups = Patients.of(["b", "a", "b", "c"])
    assert groups.cases(np.array([1, 0, 1])).tolist() == [0, 2, 1, 0, 2]


def test_the_bootstrap_of_a_mean_covers_clusters():
    """20 patients with 5 cases each that are nearly equal: the interval of the mean must know that there are 20, not 100."""
    random, hits = np.random.default_rng(2), 0
    whose = np.repeat(np.arange(20), 5)
    for trial in range(120):
        values = np.repeat(random.normal(size=20), 5) + 0.1 * random.normal(size=100)
        found = bootstrap(lambda rows, values=values: [values[rows].mean()], whose, draws=150, seed=trial)
        hits += found.low[0] <= 0 <= found.high[0]
    assert 0.88 <= hits / 120 <= 0.995


def test_every_number_has_its_interval():
    p, y = example(2, cases=80)
    found = with_intervals(decisions, Answers.of(p, y, patients=np.arange(80) // 2), draws=300)
    assert found["accuracy"]["low"] < found["accuracy"]["value"] == decisions(Answers.of(p, y))["accuracy"] < found["accuracy"]["high"]
    absent = with_intervals(decisions, Answers.of(p, np.zeros(80, int)), draws=30)
    assert absent["sensitivity"] == {"value": None, "low": None, "high": None}


def test_the_bootstrap_is_a_function_of_its_seed():
    values = np.arange(10.0)
    one, same, other = (bootstrap(lambda rows: [values[rows].mean()], np.arange(10), draws=50, seed=s).drawn for s in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert np.isnan(bootstrap(lambda rows: [1.0], ["a", "a"]).low).all()
