"""The audit of coverage: its figures, and that it finds a promise that is broken."""

import numpy as np
import pytest

from tests.unit.trust.made import classes, findings
from vesalius.audit.coverage import covered_patients, resampled_coverage
from vesalius.core.errors import DataError
from vesalius.trust.calibration import probabilities_of
from vesalius.trust.conformal import fit_conformal


def test_the_figures_of_the_report():
    logits, truth = classes(200)
    p = probabilities_of(logits, exclusive=True)
    found = resampled_coverage(p, truth, times=20)
    told = found.to_json()
    assert (found.calibrated, found.tested, len(told["covered"])) == (100, 100, 20)
    assert told["mean"] == pytest.approx(np.mean(told["covered"])) and told["low"] < told["expected"] < told["high"]
    inside = np.mean([told["low"] <= c <= told["high"] for c in told["covered"]])
    assert told["inside"] == inside > 0.7 and 1 <= told["size"] <= 3
    again = resampled_coverage(p, truth, times=20)
    assert np.array_equal(again.covered, found.covered)


def test_another_scanner_breaks_the_promise_and_is_found():
    """Half of the answers are turned at the new site: coverage falls out of the bounds of the old one."""
    logits, truth = classes(1000)
    p = probabilities_of(logits, exclusive=True)
    rule = fit_conformal(p[:500], truth[:500], names=range(500))
    moved = np.where(np.arange(500)[:, None] % 2 == 0, p[500:, ::-1], p[500:])
    inside, _ = covered_patients(rule, moved, truth[500:], names=range(500, 1000))
    assert inside.mean() < 0.8


def test_a_patient_is_covered_with_all_images():
    logits, truth = classes(6)
    p = probabilities_of(logits, exclusive=True)
    rule = fit_conformal(p, truth, names=range(6))
    sets = rule.sets(p, range(6))
    assert sets.all()  # six patients are too few for 10 %
    small = rule.model_copy(update={"quantiles": ((0.5,),)})
    inside, _ = covered_patients(small, p, truth, names=range(6), patients=np.array([0, 0, 0, 1, 1, 1]))
    single = small.sets(p, range(6))[np.arange(6), truth]
    assert inside.tolist() == [single[:3].all(), single[3:].all()]


def test_findings_are_counted_one_at_a_time():
    logits, truth = findings(40)
    p = probabilities_of(logits, exclusive=False)
    rule = fit_conformal(p, truth, names=range(40))
    with pytest.raises(DataError, match="one finding at a time"):
        covered_patients(rule, p, truth, names=range(40))
