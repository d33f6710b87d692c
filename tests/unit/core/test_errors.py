"""Errors that a user can act on, and the record beside every result."""

import json

import pytest

from vesalius.core.errors import DataError, FormatError, GeometryError, UsageError, VesaliusError, suggest
from vesalius.core.record import digest, machine, record


@pytest.mark.parametrize("kind", [UsageError, FormatError, GeometryError, DataError])
def test_one_family(kind):
    assert issubclass(kind, VesaliusError)


def test_near_names_are_suggested():
    assert suggest("trian", ["train", "plan"], "command") == "Unknown command 'trian'. Did you mean train?"


def test_case_does_not_matter_and_the_nearest_comes_first():
    assert "Did you mean UNet or ResNet?" in suggest("unet", ["ResNet", "UNet"])


def test_without_a_near_name_all_are_listed():
    assert suggest("zebra", ["train", "plan"]) == "Unknown name 'zebra'. Known: plan, train."
    assert suggest("zebra", []) == "Unknown name 'zebra'. Known: none."


def test_the_record_is_json_and_says_what_ran():
    made = json.loads(json.dumps(record(["vesalius", "train"], seed=3)))
    assert made["command"] == ["vesalius", "train"] and made["seed"] == 3
    assert made["versions"]["numpy"] and made["versions"]["vesalius"]
    assert made["date"].endswith("+00:00")


def test_the_machine_is_told_without_names():
    import getpass
    import socket

    told = json.dumps(machine())
    assert machine()["cores"] >= 1 and machine()["memory_bytes"] > 0
    for name in (socket.gethostname(), getpass.getuser()):
        assert len(name) < 5 or name not in told


def test_the_digest_knows_where_a_part_ends():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab", b"c") == digest(b"ab", "c")
    assert len(digest("x")) == 16
