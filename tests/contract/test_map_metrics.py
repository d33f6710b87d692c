"""Every metric of localised anomalies on the shelf passes the suite that ships with the package."""

import pytest

from vesalius.metrics import METRICS
from vesalius.testing import check_map_metric as suite

NAMES = [name for name in METRICS if suite.serves_maps(METRICS.card(name))]


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_metric(name, check):
    check(METRICS[name], METRICS.card(name).facts)


def test_no_two_entries_give_a_number_of_one_name():
    names = [metric for name in NAMES for metric in METRICS.card(name).facts]
    assert len(names) == len(set(names)) and len(names) >= 4
