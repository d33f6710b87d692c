"""`vesalius shelf`: what stands on each shelf, read from the cards without importing an entry."""

from typing import Annotated

import typer

from vesalius.cli._console import Json
from vesalius.cli._screen import answer, answer_json, table
from vesalius.core.card import Card
from vesalius.core.errors import UsageError, suggest
from vesalius.core.shelf import SHELVES, Shelf


def shelf(
    name: Annotated[str, typer.Argument(help="A shelf (nets) or an entry of it (nets/unet); all shelves where left out.")] = "",
    json: Json = False,
) -> None:
    """Show what stands on each shelf: nets, losses, formats and the rest, with their papers.

    Example:
      vesalius shelf                 every shelf
      vesalius shelf nets            one shelf, with papers and tasks
      vesalius shelf nets/unet       one card in full
    """
    place, _, entry = name.partition("/")
    if entry:
        show_card(Shelf(full_name(place)).card(entry), as_json=json)
        return
    places = [full_name(place)] if place else list(SHELVES)
    cards = {p: list(Shelf(p).cards.values()) for p in places}
    if json:
        answer_json({p: [card.to_json() for card in found] for p, found in cards.items()})
        return
    for p, found in cards.items():
        show_shelf(p, found, papers=bool(place))


def full_name(place: str) -> str:
    """`formats` and `io.formats` both name the shelf io.formats."""
    short = {p.rsplit(".", 1)[-1]: p for p in SHELVES} | {p: p for p in SHELVES}
    if place not in short:
        raise UsageError(suggest(place, short, "shelf"))
    return short[place]


def show_shelf(place: str, cards: list[Card], *, papers: bool) -> None:
    """One shelf as a table, with papers and tasks where one shelf was asked for."""
    columns = ("name", "title", "tasks", "ndim", "paper") if papers else ("name", "title")
    rows = [(c.name, c.title, ", ".join(c.tasks) or "all", "/".join(map(str, c.ndim)), c.paper) for c in cards]
    table(columns, [row[: len(columns)] for row in rows], title=f"{place} ({len(cards)})")
    answer("")


def show_card(card: Card, *, as_json: bool) -> None:
    """One card, word by word."""
    if as_json:
        answer_json(card.to_json())
        return
    for word, value in card.to_json().items():
        if value:
            answer(f"{word:<8} {', '.join(map(str, value)) if isinstance(value, tuple | list) else value}")
