"""Every network on the shelf passes the suite that ships with the package."""

import pytest

from vesalius.nets import NETS
from vesalius.testing import check_net as suite


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", [name for name in NETS if suite.suits(name)])
def test_net(name, check, tmp_path):
    check(NETS.card(name), tmp_path)
