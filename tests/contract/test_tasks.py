"""Every task on the shelf passes the suite that ships with the package."""

import pytest

from vesalius.tasks import TASKS
from vesalius.testing import check_task as suite


@pytest.mark.parametrize(("name", "check"), [(n, c) for n in TASKS for c in suite.checks_of(n)], ids=lambda v: getattr(v, "__name__", v))
def test_task(name, check, tmp_path):
    check(TASKS.card(name), tmp_path)
