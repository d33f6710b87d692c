"""Every explanation on the shelf passes the suite that ships with the package."""

import pytest

from vesalius.explain import EXPLAIN, Explanation
from vesalius.testing import check_explain as suite


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", list(EXPLAIN))
def test_explanation(name, check):
    check(name)


@pytest.mark.parametrize("name", list(EXPLAIN))
def test_card_names_its_source(name):
    card = EXPLAIN.card(name)
    assert card.paper and card.summary and card.tasks and issubclass(EXPLAIN[name], Explanation)
