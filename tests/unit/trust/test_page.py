"""The example of docs/howto/trust.md runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta

from vesalius.metrics._answers import Answers
from vesalius.metrics.calibration import consistent_errors
from vesalius.trust.conformal import rank_of
from vesalius.trust.rules import Trust

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "trust.md"


def test_the_example_runs(capsys):
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(code[0], names)
    assert Trust.from_json(names["kept"]) == names["rules"] and names["said"].sets.shape == (5, 3)
    assert Answers.of(names["said"].probabilities, names["truth"][:5]).classes == 3
    assert capsys.readouterr().out


def test_the_figures_of_the_page_are_right():
    k = rank_of(100, 0.1)
    low, high = beta(k, 101 - k).interval(0.95)
    assert (round(low, 2), round(high, 2)) == (0.84, 0.95)
    errors = consistent_errors(np.random.default_rng(0).uniform(0.05, 0.95, 300))
    assert errors.mean() > 0.05
    assert 1 - 0.05**0.1 == pytest.approx(0.26, abs=0.01)
