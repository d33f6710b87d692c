"""Every phantom on the shelf passes the suite that ships with the package."""

import pytest

from vesalius.phantoms import PHANTOMS, Phantom
from vesalius.testing import check_phantom as suite


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", list(PHANTOMS))
def test_phantom(name, check):
    check(name)


@pytest.mark.parametrize("name", list(PHANTOMS))
def test_card(name):
    assert PHANTOMS.card(name).summary and PHANTOMS.card(name).paper
    assert issubclass(PHANTOMS[name], Phantom)
