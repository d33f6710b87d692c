"""Every method on the shelf passes the suite that ships with the package."""

import pytest

from vesalius.methods import METHODS
from vesalius.testing import check_method as suite


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", list(METHODS))
def test_method(name, check, tmp_path):
    check(METHODS.card(name), tmp_path)
