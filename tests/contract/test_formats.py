"""Every format on the shelf passes the suite that ships with the package."""

import pytest

from vesalius.io.formats import FORMATS
from vesalius.testing import check_format as suite


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", list(FORMATS))
def test_format(name, check, tmp_path):
    check(FORMATS.card(name), tmp_path)


def test_no_suffix_is_written_by_two_formats():
    tags = [tag for name in FORMATS for tag in FORMATS.card(name).tags if FORMATS[name].writable]
    assert len(tags) == len(set(tags))
