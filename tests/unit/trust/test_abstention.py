"""Abstention: the bound is exact, the promise holds over many validation sets, patients count once."""

import json

import numpy as np
import pytest
from scipy.stats import binom

from vesalius.core.errors import DataError
from vesalius.trust.abstention import Abstention, _one_per_patient, fit_abstention, upper_bound


def test_the_bound_is_where_the_binomial_tail_is_the_doubt():
    for wrong, answered in ((0, 20), (3, 50), (19, 20)):
        bound = upper_bound(wrong, answered, 0.1)
        assert binom.cdf(wrong, answered, bound) == pytest.approx(0.1)
    assert upper_bound(0, 20, 0.1) == pytest.approx(1 - 0.1 ** (1 / 20)) and upper_bound(5, 5, 0.1) == 1 == upper_bound(0, 0, 0.1)


def test_the_promise_holds_over_validation_sets():
    """Answers are wrong with chance 1 - confidence; the true error from the cut on is above the risk in a tenth of sets at most."""
    random, broken = np.random.default_rng(0), 0
    for _ in range(300):
        sure = random.uniform(0.5, 1, 300)
        found = fit_abstention(sure, random.random(300) < sure, risk=0.15, doubt=0.1)
        broken += found.cut is not None and (1 - found.cut) / 2 > 0.15  # the mean of 1 - u over u from the cut to 1
    assert broken <= binom.ppf(0.999, 300, 0.1)


def test_with_many_cases_the_cut_is_where_the_error_is_the_risk():
    random = np.random.default_rng(0)
    sure = random.uniform(0.5, 1, 100_000)
    found = fit_abstention(sure, random.random(100_000) < sure, risk=0.15)
    assert found.cut == pytest.approx(0.7, abs=0.02) and found.coverage == pytest.approx(0.6, abs=0.04)
    assert found.wrong / found.answered < found.bound <= 0.15
    assert np.array_equal(found.answers(sure), sure >= found.cut) and found.answers(sure).sum() == found.answered


def test_what_cannot_be_promised_is_not():
    found = fit_abstention(np.linspace(0.5, 1, 10), np.ones(10, bool), risk=0.05)
    assert found.cut is None and found.coverage == 0 and not found.answers([0.5, 1.0]).any()
    assert fit_abstention(np.linspace(0.5, 1, 400), np.ones(400, bool), risk=0.05).coverage == 1


def test_a_patient_with_a_sure_error_is_an_error():
    sure = np.tile([0.9, 0.6], 200)
    right = np.tile([False, True], 200)
    whose = np.repeat(np.arange(200), 2)
    assert fit_abstention(sure, right, risk=0.3, patients=whose).cut is None
    found = fit_abstention(sure, ~right, risk=0.3, patients=whose)  # the sure image is right, the unsure one wrong
    assert found.cut is None and found.answered == 0
    alone = fit_abstention(sure, ~right, risk=0.3)
    assert alone.cut == 0.9 and alone.answered == 200


def test_the_case_of_a_patient_that_counts():
    sure, wrong = np.array([0.9, 0.6, 0.7, 0.8, 0.5]), np.array([True, True, False, False, False])
    found = _one_per_patient(sure, wrong, [0, 0, 0, 1, 1])
    assert found[0].tolist() == [0.9, 0.5] and found[1].tolist() == [True, False]
    found = _one_per_patient(sure[::-1], wrong[::-1], [1, 1, 0, 0, 0])
    assert found[0].tolist() == [0.9, 0.5]


def test_it_survives_json_and_refuses_nonsense():
    found = fit_abstention(np.linspace(0.5, 1, 50), np.ones(50, bool))
    assert Abstention.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    with pytest.raises(DataError, match="between 0 and 1"):
        fit_abstention([0.5], [True], risk=0)
