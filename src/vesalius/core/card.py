"""What stands on a shelf: a card in each file says what the entry is, and is read from source text without importing it."""

import ast
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vesalius.core.errors import VesaliusError


@dataclass(frozen=True)
class Card:
    """The first thing in a shelf file, as literals: `CARD = Card(entry="UNet", title="U-Net", paper="...")`.

    `entry`       name of the class or function in the file that the shelf hands out
    `title`       what people call it;  `summary` one sentence
    `paper`       source: authors, year, where
    `tasks`       tasks that it serves ("segment", "classify" ...), empty for all
    `ndim`        numbers of spatial axes that it takes
    `facts`       published or measured figures that a test checks ({"parameters": 31031685} ...)
    `tags`        further words to search by (file suffixes for a format, kinds for a transform)
    """

    entry: str
    title: str
    summary: str = ""
    paper: str = ""
    tasks: tuple[str, ...] = ()
    ndim: tuple[int, ...] = (2, 3)
    facts: dict[str, Any] | None = None
    tags: tuple[str, ...] = ()
    name: str = ""
    module: str = ""

    def to_json(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def read_card(path: Path, module: str) -> Card | None:
    """The card in the source file at `path`, or None where it has none; nothing is executed."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for node in tree.body:
        is_card = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "CARD"
        if is_card and isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            try:
                words = {k.arg: ast.literal_eval(k.value) for k in node.value.keywords if k.arg}
                return Card(**{"name": path.stem, **words, "module": module})
            except (ValueError, TypeError) as problem:
                raise VesaliusError(f"{path}: the card must be Card(word=literal, ...): {problem}") from None
    return None
