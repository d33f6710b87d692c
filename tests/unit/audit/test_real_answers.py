"""PneumoniaMNIST: promises made on its validation part hold on that part, and are found broken on its test part.

The test part was drawn from other patients in another way than the validation part (Kermany et al. 2018 give it apart):
that is what a promise does not survive, and what the audit is for.
"""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tests.data import data_folder
from vesalius.audit.coverage import covered_patients, exact_bounds, resampled_coverage
from vesalius.metrics._answers import Answers
from vesalius.metrics._delong import delong
from vesalius.metrics.calibration import calibration, consistent_errors
from vesalius.trust.conformal import fit_conformal
from vesalius.trust.rules import fit_trust


@pytest.fixture(scope="module")
def answers():
    """(logits, truth) of the validation and the test part, from a logistic regression on 7 x 7 pixels."""
    with np.load(data_folder("cls_pneumoniamnist") / "pneumoniamnist.npz") as file:
        pixels = {p: file[f"{p}_images"].reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(-1, 49) / 255 for p in ("train", "val", "test")}
        truth = {p: file[f"{p}_labels"].ravel().astype(int) for p in pixels}
    model = LogisticRegression(C=10, max_iter=300).fit(pixels["train"], truth["train"])
    odds = {p: model.decision_function(pixels[p]) for p in ("val", "test")}
    return {p: (np.stack([np.zeros_like(z), z], 1), truth[p]) for p, z in odds.items()}


def test_promises_hold_within_one_part(answers):
    logits, truth = answers["val"]
    p = 1 / (1 + np.exp(-logits[:, 1]))
    found = resampled_coverage(np.stack([1 - p, p], 1), truth)
    assert found.covered.mean() == pytest.approx(found.expected, abs=0.01)
    low, high = found.bounds()
    assert ((found.covered >= low) & (found.covered <= high)).mean() > 0.88  # 95 % less four standard errors
    rules = fit_trust(logits, truth, names=range(len(truth)))
    after = calibration(Answers.of(rules.calibration.probabilities(logits), truth))["ece"]
    assert after < np.quantile(consistent_errors(p), 0.999)


def test_the_other_part_breaks_them_and_is_found(answers):
    (logits, truth), (other, actual) = answers["val"], answers["test"]
    rules = fit_trust(logits, truth, names=range(len(truth)))
    inside, _ = covered_patients(rules.sets, rules.calibration.probabilities(other), actual, names=range(1000, 1000 + len(actual)))
    low, _ = exact_bounds(rules.sets.patients[0][0], len(actual), miss=0.1, level=0.9999)
    assert inside.mean() < low and inside.mean() == pytest.approx(0.78, abs=0.02)  # as docs/howto/trust.md says
    assert rules.judge(other, range(1000, 1000 + len(actual))).strange.mean() < 0.1
    here, there = (delong(z[:, 1], y == 1).area[0] for z, y in ((logits, truth), (other, actual)))
    assert there < here - 0.04


def test_fitted_at_the_other_place_they_hold_there(answers):
    other, actual = answers["test"]
    p = 1 / (1 + np.exp(-other[:, 1]))
    half = np.random.default_rng(0).permutation(len(actual)) < len(actual) // 2
    p = np.stack([1 - p, p], 1)
    rule = fit_conformal(p[half], actual[half], names=np.flatnonzero(half))
    inside, _ = covered_patients(rule, p[~half], actual[~half], names=np.flatnonzero(~half))
    low, high = exact_bounds(int(half.sum()), int((~half).sum()), miss=0.1, level=0.9999)
    assert low <= inside.mean() <= high
