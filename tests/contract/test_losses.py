"""Every loss on the shelf passes the suite that ships with the package."""

import pytest

from vesalius.core.errors import VesaliusError
from vesalius.losses import LOSSES
from vesalius.testing import check_loss as suite

CASES = [
    pytest.param(name, exclusive, shape, id=f"{name}-{'softmax' if exclusive else 'sigmoid'}-{'voxels' if shape else 'images'}")
    for name in LOSSES
    for exclusive in (True, False)
    for shape in suite.shapes_of(LOSSES.card(name))
    if suite.takes(LOSSES.card(name), exclusive)
]


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize(("name", "exclusive", "shape"), CASES)
def test_loss(name, exclusive, shape, check):
    check(suite.build(LOSSES.card(name), exclusive), exclusive, shape)


@pytest.mark.parametrize("name", [name for name in LOSSES if not suite.takes(LOSSES.card(name), False)])
def test_who_takes_exclusive_classes_alone_says_so(name):
    with pytest.raises(VesaliusError, match="exclude each other"):
        suite.build(LOSSES.card(name), False)


@pytest.mark.parametrize("name", list(LOSSES))
def test_card_names_its_source(name):
    card = LOSSES.card(name)
    assert card.paper and card.summary and suite.shapes_of(card)
