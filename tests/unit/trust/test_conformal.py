"""Prediction sets: scores by hand, limits by counting, and coverage within the exact beta-binomial law."""

import json
from math import comb

import numpy as np
import pytest
from scipy.stats import binom, kstest

from tests.unit.trust.made import classes, findings
from vesalius.audit.coverage import covered_patients, exact_bounds, resampled_coverage
from vesalius.core.errors import DataError
from vesalius.data.labels import IGNORE
from vesalius.trust._kept import uniform_of
from vesalius.trust.calibration import probabilities_of
from vesalius.trust.conformal import Conformal, ConformalChoice, fit_conformal, limit, one_per_patient, rank_of, scores

METHODS = ("lac", "aps", "raps")
P = np.array([[0.5, 0.1, 0.4]])


def answers(cases, seed=0, number=4):
    """Overconfident probabilities: the promise does not depend on them being right."""
    logits, truth = classes(cases, number, temperature=2.0, seed=seed)
    return probabilities_of(logits, exclusive=True), truth


def test_scores_by_hand():
    half = np.array([0.5])
    assert scores(P, ConformalChoice(method="lac"), half)[0] == pytest.approx([0.5, 0.9, 0.6])
    assert scores(P, ConformalChoice(method="aps"), half)[0] == pytest.approx([0.25, 0.95, 0.7])
    assert scores(P, ConformalChoice(method="aps", randomised=False), half)[0] == pytest.approx([0.5, 1.0, 0.9])
    raps = ConformalChoice(method="raps", penalty=0.2, free=1, randomised=False)
    assert scores(P, raps, half)[0] == pytest.approx([0.5, 1.0 + 0.4, 0.9 + 0.2])


def test_the_limit_is_the_right_one_of_the_sorted_scores():
    assert rank_of(19, 0.05) == 19 and rank_of(18, 0.05) == 19 and rank_of(99, 0.1) == 90
    strange = np.random.default_rng(0).permutation(99) / 100
    assert limit(strange, 0.1) == 0.89  # the 90th of 0, .01, ...
    assert limit(np.arange(18.0), 0.05) is None and limit(np.arange(19.0), 0.05) == 18


@pytest.mark.parametrize("method", METHODS)
def test_coverage_of_200_resamplings_has_the_exact_law(method):
    """Each share covered is a draw from the beta-binomial law; so their mean lies within four standard errors of its mean, and
    as many as it says lie within its bounds of 95 %."""
    p, truth = answers(300)
    found = resampled_coverage(p, truth, choice=ConformalChoice(method=method), times=200)
    n = m = 150
    k = rank_of(n, 0.1)
    spread = np.sqrt(k * (n + 1 - k) / (n + 1) ** 2 / (n + 2) * (n + 1 + m) / m)
    assert found.covered.mean() == pytest.approx(k / (n + 1), abs=4 * spread / np.sqrt(200)) and found.expected == k / (n + 1)
    low, high = found.bounds()
    outside = int(((found.covered < low) | (found.covered > high)).sum())
    assert outside <= binom.ppf(0.9999, 200, 0.05)
    assert found.covered.std() == pytest.approx(spread, rel=0.25)


def test_bounds_by_counting_all_orders():
    """With 4 calibration and 3 new patients each of the C(7, 3) ways of ranking them is as likely."""
    n, m, miss = 4, 3, 0.4
    k = rank_of(n, miss)
    chances = [comb(k - 1 + j, j) * comb(n - k + m - j, m - j) / comb(n + m, m) for j in range(m + 1)]
    assert sum(chances) == pytest.approx(1)
    total = np.cumsum(chances)
    for level in (0.5, 0.8, 0.95):
        low, high = (int(np.searchsorted(total, (1 + s * level) / 2 - 1e-12)) / m for s in (-1, 1))
        assert exact_bounds(n, m, miss=miss, level=level) == pytest.approx((low, high))
    assert exact_bounds(5, 10, miss=0.05) == (1.0, 1.0)


def test_chance_in_the_last_class_makes_smaller_sets_of_the_same_coverage():
    p, truth = answers(400)
    exact, large = (resampled_coverage(p, truth, choice=ConformalChoice(method="aps", randomised=r), times=40) for r in (True, False))
    assert large.size.mean() > exact.size.mean() + 0.05 and large.covered.mean() == pytest.approx(exact.covered.mean(), abs=0.02)


def test_lac_has_the_smallest_sets():
    logits, truth = classes(4000, 5)
    sizes = [resampled_coverage(probabilities_of(logits, exclusive=True), truth, choice=ConformalChoice(method=m), times=5).size.mean()
             for m in ("lac", "aps")]  # fmt: skip
    assert sizes[0] < sizes[1]


def test_random_numbers_belong_to_names():
    names = [f"case_{i}" for i in range(2000)]
    u, other = uniform_of(names, purpose="a", seed=3), uniform_of(names, purpose="b", seed=3)
    assert kstest(u, "uniform").pvalue > 1e-3 and abs(np.corrcoef(u, other)[0, 1]) < 4 / np.sqrt(2000)
    assert uniform_of(["case_7"], purpose="a", seed=3)[0] == u[7] and uniform_of(["case_7"], purpose="a", seed=4)[0] != u[7]
    p, truth = answers(200)
    names = np.arange(200)
    rule = fit_conformal(p, truth, names=names, choice=ConformalChoice(method="aps"))
    order = np.random.default_rng(0).permutation(200)
    assert np.array_equal(rule.sets(p[order], names[order]), rule.sets(p, names)[order])


@pytest.mark.parametrize("per_patient", ["every", "one"])
def test_images_of_one_patient_do_not_break_the_promise(per_patient):
    """Patients with one to six images that are alike, the strangest patients with the most: pooled images would miss the law."""
    random = np.random.default_rng(1)
    people = 240
    images = random.integers(1, 7, people)
    whose = np.repeat(np.arange(people), images)
    base, truth = classes(people, 3, temperature=2.0, seed=2)
    logits = base[whose] + random.normal(size=(len(whose), 3)) * 0.3
    p, truth = probabilities_of(logits, exclusive=True), truth[whose]
    choice = ConformalChoice(method="lac", per_patient=per_patient)
    found = resampled_coverage(p, truth, patients=whose, choice=choice, times=100)
    low, high = found.bounds()
    if per_patient == "every":  # all images of a patient together: exact
        assert ((found.covered < low) | (found.covered > high)).sum() <= binom.ppf(0.9999, 100, 0.05)
        assert found.covered.mean() == pytest.approx(found.expected, abs=0.015)
        pooled = resampled_pooled(p, truth, whose)
        assert pooled < found.expected - 0.02
    else:  # promises one image of each patient, so that all of them together are covered less often
        assert found.covered.mean() < found.expected


def resampled_pooled(p, truth, whose, times=60):
    """Share of patients covered altogether when every image is taken for a patient in the fit."""
    random, shares = np.random.default_rng(0), []
    for _ in range(times):
        chosen = np.isin(whose, random.permutation(whose.max() + 1)[: (whose.max() + 1) // 2])
        rule = fit_conformal(p[chosen], truth[chosen], names=np.flatnonzero(chosen))
        shares.append(covered_patients(rule, p[~chosen], truth[~chosen], names=np.flatnonzero(~chosen), patients=whose[~chosen])[0].mean())
    return np.mean(shares)


def test_one_score_per_patient():
    strange, owner = np.array([0.1, 0.9, 0.5, 0.2]), np.array([0, 0, 2, 2])
    assert one_per_patient(strange, owner, ConformalChoice()).tolist() == [0.9, 0.5]
    drawn = {tuple(one_per_patient(strange, owner, ConformalChoice(per_patient="one", seed=s))) for s in range(40)}
    assert drawn == {(a, b) for a in (0.1, 0.9) for b in (0.5, 0.2)}


def test_by_class_every_class_is_covered():
    """A rare class that the network seldom finds: pooled, it is covered far less than promised; by class it is not."""
    random = np.random.default_rng(0)
    truth = (random.random(3000) < 0.1).astype(int)
    p = 1 / (1 + np.exp(-(random.normal(size=3000) + 1.0 * truth - 2)))
    p, names = np.stack([1 - p, p], 1), np.arange(3000)
    half = names < 1500

    def share(choice):
        rule = fit_conformal(p[half], truth[half], names=names[half], choice=choice)
        rare = ~half & (truth == 1)
        return covered_patients(rule, p[rare], truth[rare], names=names[rare])[0].mean(), rule

    pooled, _ = share(ConformalChoice(method="lac"))
    alone, rule = share(ConformalChoice(method="lac", by_class=True))
    n = rule.patients[0][1]
    low, high = exact_bounds(n, int((~half & (truth == 1)).sum()), miss=0.1, level=0.9999)
    assert pooled < 0.8 and low <= alone <= high and n == (truth[half] == 1).sum()


def test_findings_are_each_covered():
    logits, truth = findings(1200)
    truth[::7, 0] = IGNORE
    p, names, half = probabilities_of(logits, exclusive=False), np.arange(1200), np.arange(1200) < 600
    rule = fit_conformal(p[half], truth[half], names=names[half])
    sets = rule.sets(p[~half], names[~half])
    assert sets.shape == (600, 2, 2)
    for k in range(2):
        known = truth[~half, k] != IGNORE
        inside = sets[known, k, truth[~half, k][known]].mean()
        low, high = exact_bounds(rule.patients[k][0], int(known.sum()), miss=0.1, level=0.9999)
        assert low <= inside <= high
    assert rule.patients[0][0] < 600 == rule.patients[1][0]


def test_too_few_patients_promise_nothing_and_say_so():
    p, truth = answers(8)
    rule = fit_conformal(p, truth, names=range(8), choice=ConformalChoice(miss=0.05))
    assert rule.quantiles == ((None,),) and rule.sets(p, range(8)).all()
    assert "8 patients, 19 at least" in rule.remarks[0]


def test_empty_sets_are_told():
    """Answers that are right in 98 of 100 with a promise of 90: the least sure ones get an empty set."""
    random = np.random.default_rng(0)
    p = random.uniform(0.96, 1, 500)
    truth = (random.random(500) > p).astype(int)
    p = np.stack([p, 1 - p], 1)
    rule = fit_conformal(p, truth, names=range(500))
    assert rule.empty == (~rule.sets(p, range(500)).any(1)).mean() > 0.05 and "are empty" in rule.remarks[0]
    assert fit_conformal(p, truth, names=range(500), choice=ConformalChoice(miss=0.01)).remarks == []


def test_it_survives_json():
    p, truth = answers(60)
    rule = fit_conformal(p, truth, names=range(60), choice=ConformalChoice(method="raps", by_class=True, miss=0.05))
    again = Conformal.from_json(json.loads(json.dumps(rule.to_json(), allow_nan=False)))
    assert again == rule and np.array_equal(again.sets(p, range(60)), rule.sets(p, range(60)))


def test_nonsense_is_refused():
    p, truth = answers(60)
    with pytest.raises(DataError, match="between 0 and 1"):
        fit_conformal(p, truth, names=range(60), choice=ConformalChoice(miss=0.0))
    rule = fit_conformal(p, truth, names=range(60), choice=ConformalChoice(by_class=True))
    with pytest.raises(DataError, match="of 4 classes"):
        rule.sets(p[:, :3], range(60))
    with pytest.raises(DataError, match="one patient for each"):
        fit_conformal(p, truth, names=range(60), patients=["a"])
    with pytest.raises(DataError, match="cannot be parted"):
        resampled_coverage(p[:1], truth[:1])
