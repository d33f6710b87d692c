"""Cards are read without running the file; shelves are folders; wrong names are answered with right ones."""

import sys

import pytest

from vesalius.core import installed
from vesalius.core.card import Card, read_card
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.core.shelf import SHELVES, Shelf

ENTRY = '''"""A file that must not run."""
CARD = Card(entry="Thing", title="A thing", paper="Someone 2020", tasks=("segment",), facts={"parameters": 12})
raise SystemExit("it ran")
'''


def test_a_card_is_read_without_running_the_file(tmp_path):
    (tmp_path / "thing.py").write_text(ENTRY)
    card = read_card(tmp_path / "thing.py", "somewhere.thing")
    assert card == Card(entry="Thing", title="A thing", paper="Someone 2020", tasks=("segment",), facts={"parameters": 12},
                        name="thing", module="somewhere.thing")  # fmt: skip


def test_a_file_without_a_card_has_none(tmp_path):
    (tmp_path / "plain.py").write_text("x = 1\n")
    assert read_card(tmp_path / "plain.py", "plain") is None


@pytest.mark.parametrize("words", ["entry=NAME, title='x'", "entry='X', title='x', colour='red'", "entry='X'"])
def test_a_card_that_is_no_card_is_refused_with_its_file(tmp_path, words):
    (tmp_path / "bad.py").write_text(f"CARD = Card({words})\n")
    with pytest.raises(VesaliusError, match=r"bad\.py"):
        read_card(tmp_path / "bad.py", "bad")


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """Another package that adds an entry to the shelf of losses through an entry point."""
    (tmp_path / "stranger_loss.py").write_text(
        'from vesalius.core.card import Card\nCARD = Card(entry="loss", title="A stranger")\ndef loss(): return "hello"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stranger-1.0.dist-info").mkdir()
    (tmp_path / "stranger-1.0.dist-info" / "entry_points.txt").write_text("[vesalius.losses]\nstranger = stranger_loss\n")
    installed.folders.cache_clear()
    yield
    installed.folders.cache_clear()
    sys.modules.pop("stranger_loss", None)


@pytest.mark.usefixtures("stranger")
def test_another_package_adds_an_entry():
    shelf = Shelf("losses")
    assert "stranger_loss" in shelf and shelf.card("stranger_loss").title == "A stranger"
    assert "stranger_loss" not in sys.modules, "the card must be read without importing the entry"
    assert shelf["stranger_loss"]() == "hello"
    assert "stranger_loss" not in Shelf("nets")


def test_a_wrong_name_lists_the_near_ones():
    with pytest.raises(UsageError, match="Did you mean unet"):
        Shelf("nets").card("unett")


@pytest.mark.parametrize("place", SHELVES)
def test_every_card_names_something_that_is_there(place):
    shelf = Shelf(place)
    for name in shelf:
        card = shelf.card(name)
        assert card.title, f"{card.module}: the card has no title"
        assert shelf[name] is not None


@pytest.mark.parametrize("place", ["nets", "losses"])
def test_what_comes_from_the_literature_names_it(place):
    assert [card.module for card in Shelf(place).cards.values() if not card.paper] == []
