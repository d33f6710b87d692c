"""Every task on the shelf passes the suite that ships with the package."""

import pytest

from vesalius.tasks import TASKS
from vesalius.testing import check_task as suite


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", list(TASKS))
def test_task(name, check, tmp_path):
    check(TASKS.card(name), tmp_path)
