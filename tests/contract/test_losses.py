"""Every loss on the shelf passes the suite that ships with the package."""

import pytest

from vesalius.losses import LOSSES
from vesalius.testing import check_loss as suite


@pytest.mark.parametrize("exclusive", [True, False], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", list(LOSSES))
def test_loss(name, check, exclusive):
    check(suite.build(LOSSES.card(name), exclusive), exclusive)


@pytest.mark.parametrize("name", list(LOSSES))
def test_card_names_its_source(name):
    card = LOSSES.card(name)
    assert card.paper and card.summary and card.tasks
