"""Strangeness: areas on made data against closed forms, covariance against scikit-learn, false alarms as promised."""

import json

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtr
from scipy.stats import betabinom, chi2, ncx2
from sklearn.covariance import LedoitWolf

from vesalius.core.errors import DataError
from vesalius.metrics._delong import area
from vesalius.trust.out_of_distribution import Mahalanobis, Novelty, doubt, energy, fit_mahalanobis, fit_novelty, shrunk_covariance


def auroc(known, strange):
    return area(np.concatenate([known, strange]), np.repeat([False, True], [len(known), len(strange)]))


def test_energy_and_doubt_have_the_area_of_the_closed_form():
    """Logits (x, -x): both scores fall with |x|. Known x ~ +-N(m, 1), strange x ~ N(0, 1), so the area is P(|x| > |y|), which
    is Phi(a)^2 + Phi(-a)^2 with a = m / sqrt 2, for x - y and x + y are independent."""
    random, m = np.random.default_rng(0), 1.5
    x = (random.normal(size=40_000) + m) * random.choice([-1, 1], 40_000)
    y = random.normal(size=40_000)
    a = m / np.sqrt(2)
    for score in (energy, doubt):
        found = auroc(score(np.stack([x, -x], 1)), score(np.stack([y, -y], 1)))
        assert found == pytest.approx(ndtr(a) ** 2 + ndtr(-a) ** 2, abs=0.008)


def test_energy_is_minus_the_log_of_the_partition_function():
    logits = np.array([[1.0, 2.0, -1.0]])
    assert energy(logits)[0] == pytest.approx(-np.log(np.exp(logits).sum()))
    assert energy(logits, temperature=2.0)[0] == pytest.approx(-2 * np.log(np.exp(logits / 2).sum()))
    assert energy(logits, exclusive=False)[0] == pytest.approx(-np.log1p(np.exp(logits)).sum())
    assert doubt(np.log([[0.7, 0.2, 0.1]]))[0] == pytest.approx(0.3)


def test_mahalanobis_has_the_area_of_two_chi_squares():
    """Known features N(0, C), strange N(d, C): the distances are chi-square and non-central chi-square with d' C^-1 d."""
    random, size = np.random.default_rng(0), 4
    root = random.normal(size=(size, size)) + 2 * np.eye(size)
    shift = root @ np.array([1.5, 0, 0, 0])
    learned, known, strange = (random.normal(size=(n, size)) @ root.T for n in (20_000, 20_000, 20_000))
    rule = fit_mahalanobis(learned)
    expected = quad(lambda x: chi2.cdf(x, size) * ncx2.pdf(x, size, 1.5**2), 0, 80)[0]
    assert auroc(rule.score(known), rule.score(strange + shift)) == pytest.approx(expected, abs=0.01)
    assert rule.score(known).mean() == pytest.approx(size, rel=0.03)


def test_the_nearest_class_counts():
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1, 255], [300, 300, 50])
    features = random.normal(size=(650, 3)) + 8.0 * truth[:, None] * (truth[:, None] < 2)
    rule = fit_mahalanobis(features, truth)
    assert len(rule.means) == 2 and rule.score([[0, 0, 0], [8, 8, 8]]).max() < 0.1 and rule.score([[4, 4, 4]])[0] > 20
    one = fit_mahalanobis(features[:600])
    assert one.score([[4, 4, 4]])[0] < 0.1  # without classes the middle is nobody's


@pytest.mark.parametrize(("cases", "size"), [(30, 5), (20, 60), (200, 10)])
def test_covariance_is_scikit_learn_s(cases, size):
    centred = np.random.default_rng(0).normal(size=(cases, size)) @ np.diag(np.linspace(1, 3, size))
    centred -= centred.mean(0)
    found, share = shrunk_covariance(centred)
    oracle = LedoitWolf(assume_centered=True).fit(centred)
    assert np.allclose(found, oracle.covariance_) and share == pytest.approx(oracle.shrinkage_)


def test_more_features_than_cases_still_have_distances():
    random = np.random.default_rng(0)
    rule = fit_mahalanobis(random.normal(size=(20, 60)))
    assert np.isfinite(rule.score(random.normal(size=(5, 60)))).all() and 0 < rule.shrinkage <= 1


def test_false_alarms_are_as_promised():
    random, said = np.random.default_rng(0), []
    for _ in range(200):
        rule = fit_novelty(random.normal(size=100), score="energy", alarms=0.1)
        said.append(rule.strange(random.normal(size=100)).mean())
    k = 91  # ceil(101 * .9)
    spread = betabinom(100, k, 101 - k).std() / 100
    assert np.mean(said) == pytest.approx(1 - k / 101, abs=4 * spread / np.sqrt(200))


def test_patients_count_by_their_strangest_case():
    rule = fit_novelty(np.arange(40.0), score="energy", alarms=0.1, patients=np.arange(40) // 2)
    assert rule.patients == 20 and rule.cut == 37.0  # the 19th of 1, 3, ... 39
    few = fit_novelty(np.arange(5.0), score="energy")
    assert few.cut is None and not few.strange([1e9]).any()


def test_it_survives_json():
    features = np.random.default_rng(0).normal(size=(30, 4))
    rule = fit_mahalanobis(features, np.arange(30) % 2)
    again = Mahalanobis.from_json(json.loads(json.dumps(rule.to_json(), allow_nan=False)))
    assert np.array_equal(again.score(features), rule.score(features))
    novelty = fit_novelty(rule.score(features), score="mahalanobis", alarms=0.1)
    assert Novelty.from_json(json.loads(json.dumps(novelty.to_json()))) == novelty


def test_nonsense_is_refused():
    with pytest.raises(DataError, match="Give more cases"):
        fit_mahalanobis(np.zeros((2, 3)), [0, 1])
    rule = fit_mahalanobis(np.random.default_rng(0).normal(size=(9, 3)))
    with pytest.raises(DataError, match=r"Expected features \(N, 3\)"):
        rule.score(np.zeros((2, 4)))
