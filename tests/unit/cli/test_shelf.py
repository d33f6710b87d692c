"""`vesalius shelf`: what stands where, from the cards."""

import json

import pytest

from vesalius.cli.main import main
from vesalius.core.shelf import SHELVES, Shelf


def test_every_shelf_with_every_entry(capsys):
    assert main(["shelf", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == list(SHELVES)
    assert [card["name"] for card in shown["nets"]] == list(Shelf("nets"))


@pytest.mark.parametrize("name", ["formats", "io.formats"])
def test_a_shelf_by_its_short_or_full_name(capsys, name):
    assert main(["shelf", name]) == 0
    assert capsys.readouterr().out.startswith(f"io.formats ({len(Shelf('io.formats').cards)})\n")


def test_a_card_in_full(capsys):
    assert main(["shelf", "nets/unet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(Shelf("nets").card("unet").to_json()))
    assert main(["shelf", "nets/unet"]) == 0
    assert "Ronneberger" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "says"), [("nest", "Did you mean nets"), ("nets/unett", "Did you mean unet")])
def test_wrong_names(capsys, name, says):
    assert main(["shelf", name]) == 2
    assert says in capsys.readouterr().err
