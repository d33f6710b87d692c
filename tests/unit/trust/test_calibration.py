"""Calibration: a known temperature is recovered, gradients are those of torch, ECE falls, patients count once."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize

from tests.unit.trust.made import classes, findings
from vesalius.core.errors import DataError, UsageError
from vesalius.data.labels import IGNORE
from vesalius.metrics._answers import Answers
from vesalius.metrics.calibration import calibration
from vesalius.trust.calibration import Calibration, fit_calibration, logits_of, probabilities_of


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_recovered(temperature):
    logits, truth = classes(8000, temperature=temperature)
    assert fit_calibration(logits, truth).temperature[0] == pytest.approx(temperature, rel=0.06)
    logits, truth = findings(8000, temperature=temperature)
    assert fit_calibration(logits, truth).temperature[0] == pytest.approx(temperature, rel=0.06)


def test_the_temperature_is_the_minimum_that_torch_finds():
    logits, truth = classes(300, temperature=2.5)
    warm = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([warm], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        value = F.cross_entropy(torch.tensor(logits) / warm, torch.tensor(truth))
        value.backward()
        return value

    optimiser.step(closure)
    found = fit_calibration(logits, truth)
    assert found.temperature[0] == pytest.approx(warm.item(), rel=1e-4)
    assert found.after == pytest.approx(F.cross_entropy(torch.tensor(logits) / warm, torch.tensor(truth)).item())
    assert found.before == pytest.approx(F.cross_entropy(torch.tensor(logits), torch.tensor(truth)).item())


def test_the_error_of_overconfident_answers_falls_on_other_cases():
    logits, truth = classes(3000, temperature=3.0)
    found = fit_calibration(logits[:1500], truth[:1500])
    before, after = (calibration(Answers.of(p, truth[1500:])) for p in (probabilities_of(logits[1500:], exclusive=True),
                                                                        found.probabilities(logits[1500:])))  # fmt: skip
    assert before["ece"] > 0.15 and after["ece"] < 0.05 and after["log_loss"] < before["log_loss"]


def test_one_temperature_changes_no_decision():
    logits, truth = classes(200, temperature=3.0)
    assert np.array_equal(fit_calibration(logits, truth).probabilities(logits).argmax(1), logits.argmax(1))


def test_scale_and_shift_per_finding_are_recovered():
    logits, truth = findings(20_000, temperature=2.0, shift=0.7)
    found = fit_calibration(logits, truth, form="vector")
    assert found.temperature == pytest.approx((2, 2), rel=0.06) and found.shift == pytest.approx((0.7, 0.7), abs=0.06)
    assert fit_calibration(logits, truth, form="class").shift == ()


def test_vector_scaling_is_held_near_no_change_by_few_cases():
    """Five cases that are all right would drive a free scale to its end."""
    sure = np.eye(3)[[0, 1, 2, 0, 1]]
    found = fit_calibration(sure, [0, 1, 2, 0, 1], form="vector")
    assert all(0.2 < t < 1 for t in found.temperature) and found.remarks == []
    free = fit_calibration(sure, [0, 1, 2, 0, 1])
    assert free.temperature[0] == pytest.approx(0.05) and "5 validation patients cannot tell" in free.remarks[0]


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_fit_is_the_least_of_nats_and_one_case_of_no_change(exclusive):
    """Written out again: mean nats plus (scale - 1)^2 / 2 + shift^2 / 2, as much as one of the patients; any other minimiser."""
    logits, truth = (classes if exclusive else findings)(25, 2)

    def cost(x):
        z = logits * x[:2] + x[2:]
        p = probabilities_of(z, exclusive=exclusive)
        nats = -np.log(p[np.arange(25), truth]).mean() if exclusive else -np.log(np.where(truth == 1, p, 1 - p)).mean()
        return nats + ((x[:2] - 1) @ (x[:2] - 1) + x[2:] @ x[2:]) / 2 / 25

    found = fit_calibration(logits, truth, form="vector")
    expected = minimize(cost, [1, 1, 0, 0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12, "maxiter": 5000}).x
    assert [*(1 / np.array(found.temperature)), *found.shift] == pytest.approx(expected, abs=1e-4)


def test_each_patient_counts_once():
    logits, truth = classes(60)
    often = np.repeat(np.arange(60), np.where(np.arange(60) < 10, 9, 1))
    assert fit_calibration(logits[often], truth[often], patients=often).temperature == pytest.approx(
        fit_calibration(logits, truth).temperature, rel=1e-5)  # fmt: skip
    assert fit_calibration(logits[often], truth[often]).temperature != pytest.approx(fit_calibration(logits, truth).temperature, rel=1e-3)


def test_the_unknown_has_no_say():
    logits, truth = classes(80)
    hidden = np.where(np.arange(80) < 20, IGNORE, truth)
    assert fit_calibration(logits, hidden).temperature == fit_calibration(logits[20:], truth[20:]).temperature
    logits, truth = findings(80)
    truth[:20] = IGNORE
    assert fit_calibration(logits, truth).temperature == pytest.approx(fit_calibration(logits[20:], truth[20:]).temperature, rel=1e-6)


def test_it_survives_json():
    found = fit_calibration(*classes(50), form="vector")
    again = Calibration.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    with pytest.raises(UsageError, match="Calibration"):
        Calibration.from_json({**found.to_json(), "warmth": 2})


@pytest.mark.parametrize("exclusive", [True, False])
def test_logits_of_probabilities_give_them_back(exclusive):
    p = probabilities_of(classes(20)[0], exclusive=exclusive)
    assert np.allclose(probabilities_of(logits_of(p, exclusive=exclusive), exclusive=exclusive), p)
    assert np.isfinite(logits_of(np.array([[0.0, 1.0]]), exclusive=exclusive)).all()


def test_nonsense_is_refused():
    with pytest.raises(DataError, match="not finite"):
        fit_calibration([[np.nan, 1.0]], [0])
    with pytest.raises(DataError, match=r"got \(0, 2\)"):
        fit_calibration(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(DataError, match="known truth"):
        fit_calibration(np.zeros((3, 2)), np.full(3, IGNORE))
