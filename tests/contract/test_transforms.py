"""Every transform on the shelf passes the suite that ships with the package."""

import pytest

from vesalius.augment import AUGMENT, Transform
from vesalius.testing import check_transform as suite


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", list(AUGMENT))
def test_transform(name, check, ndim):
    check(AUGMENT.card(name), ndim)


@pytest.mark.parametrize("name", list(AUGMENT))
def test_card(name):
    card = AUGMENT.card(name)
    assert card.summary and card.tags[0] in ("spatial", "intensity")
    assert issubclass(AUGMENT[name], Transform)


def test_each_transform_has_its_own_place_in_the_order():
    for tag in ("spatial", "intensity"):
        orders = [AUGMENT[name].order for name in AUGMENT if tag in AUGMENT.card(name).tags]
        assert len(orders) == len(set(orders))
