"""Every layout on the shelf passes the suite that ships with the package."""

import pytest

from vesalius.data.layouts import LAYOUTS
from vesalius.testing import check_layout as suite


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", list(LAYOUTS))
def test_layout(name, check, tmp_path):
    check(name, tmp_path)


def test_scores_tell_the_examples_apart(tmp_path):
    """No example is claimed by another layout as surely as by its own."""
    for name in LAYOUTS:
        (tmp_path / name).mkdir()
        root = suite.example(name, tmp_path / name)
        scores = {other: float(LAYOUTS[other]().recognises(root)) for other in LAYOUTS}
        assert all(scores[name] > scores[other] for other in LAYOUTS if other != name), (name, scores)
