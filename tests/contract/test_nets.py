"""Every network on the shelf passes the suite of its tasks that ships with the package."""

import pytest

from vesalius.nets import NETS
from vesalius.testing import check_net as suite

PAIRS = [(name, check) for name in NETS for check in suite.checks(name)]


@pytest.mark.parametrize(("name", "check"), PAIRS, ids=[f"{name}-{check.__name__}" for name, check in PAIRS])
def test_net(name, check, tmp_path):
    check(NETS.card(name), tmp_path)
