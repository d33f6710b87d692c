"""A shelf: a flat folder with one entry per file. The folder is the list; other packages add entries by entry points."""

from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from vesalius.core.card import Card, read_card
from vesalius.core.errors import UsageError, suggest
from vesalius.core.installed import entries

SHELVES = (
    "io.formats", "data.layouts", "phantoms", "augment", "nets", "losses", "metrics", "tasks", "methods", "explain",
)  # fmt: skip


class Shelf:
    """The entries of `vesalius.<place>`: names and cards without importing them, objects when asked for.

    Another package adds an entry through the entry-point group `vesalius.<place>` naming a module with a card.
    """

    def __init__(self, place: str) -> None:
        self.place = place

    @cached_property
    def cards(self) -> dict[str, Card]:
        """Name and card of every entry: files, folders that were files once, and those of other packages."""
        folder = Path(__file__).parents[1].joinpath(*self.place.split("."))
        found = [read_card(path, f"vesalius.{self.place}.{path.stem}") for path in sorted(folder.glob("[!_]*.py"))]
        found += [
            read_card(path / "__init__.py", f"vesalius.{self.place}.{path.name}")
            for path in sorted(folder.iterdir())
            if (path / "__init__.py").is_file()
        ]
        found += [self._foreign(module) for _, module in entries(f"vesalius.{self.place}")]
        named = [card if card.name != "__init__" else _named(card) for card in found if card]
        return {card.name: card for card in named}

    @staticmethod
    def _foreign(module: str) -> Card | None:
        from importlib.util import find_spec

        spec = find_spec(module)
        return read_card(Path(spec.origin), module) if spec and spec.origin else None

    def __iter__(self) -> Iterator[str]:
        return iter(self.cards)

    def __contains__(self, name: object) -> bool:
        return name in self.cards

    def card(self, name: str) -> Card:
        if name not in self.cards:
            raise UsageError(suggest(name, self.cards, f"entry of the shelf '{self.place}'"))
        return self.cards[name]

    def __getitem__(self, name: str) -> Any:
        card = self.card(name)
        return getattr(import_module(card.module), card.entry)


def _named(card: Card) -> Card:
    """An entry that outgrew one file takes the name of its folder."""
    return Card(**{**card.to_json(), "name": card.module.rsplit(".", 1)[-1]})
