"""Write docs/reference/: the commands from their help pages, the shelves from their cards, the settings of a plan from its
classes, and Python's public names from their docstrings. Run by `make docs`; the folder is not kept in the repository."""

import contextlib
import inspect
import io
import re
import sys
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any, get_args

import vesalius
from vesalius.cli.main import commands, main, overview
from vesalius.core.settings import words_of
from vesalius.core.shelf import SHELVES, Shelf
from vesalius.core.values import defaults

MEMBERS = (FunctionType, classmethod, property, cached_property)
NOTE = "<!-- Written by docs/generate.py: edit the source that it reads, not this page. -->\n"


def command_pages() -> str:
    """Every `--help`, as it is printed."""
    parts = ["# Commands", fenced(overview())]
    for name in commands():
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            main([name, "--help"])
        parts += [f"## {name}", fenced(shown.getvalue())]
    return "\n\n".join(parts)


def shelf_pages() -> str:
    """Every card, shelf by shelf."""
    parts = ["# What stands on the shelves", "`vesalius shelf` prints the same; `vesalius shelf nets/unet` one card in full."]
    for place in SHELVES:
        lines = ["| name | what | tasks | source |", "|---|---|---|---|"]
        for name, card in sorted(Shelf(place).cards.items()):
            what = f"**{card.title}**. {card.summary}".rstrip(" .") + "."
            lines.append("| " + " | ".join(cell(v) for v in (f"`{name}`", what, ", ".join(card.tasks) or "all", card.paper)) + " |")
        parts += [f"## {place}", "\n".join(lines)]
    return "\n\n".join(parts)


def settings_page() -> str:
    """The groups of plan.json with their fields and defaults."""
    from vesalius.plan.plan import Plan

    parts = ["# Settings of a plan", "Change one with `--set group.name=value`; see [how a plan is made](../explanation/plan.md)."]
    for name, group in words_of(Plan).items():
        leaves, usual = words_of(group), usual_of(group)
        if not leaves:
            continue
        lines = ["| setting | type | default |", "|---|---|---|"]
        for leaf, kind in leaves.items():
            default = f"`{usual[leaf]!r}`" if leaf in usual else "planned"
            lines.append(f"| `{name}.{leaf}` | {cell(type_words(kind))} | {cell(default)} |")
        parts += [f"## {name}", told(group), "\n".join(lines)]
    return "\n\n".join(parts)


def usual_of(group: Any) -> dict[str, Any]:
    """The defaults of a group of settings, or of values, by name; of a single value none."""
    if hasattr(group, "model_fields"):
        return {leaf: one.get_default(call_default_factory=True) for leaf, one in group.model_fields.items() if not one.is_required()}
    return defaults(group) if words_of(group) else {}


def type_words(annotation: Any) -> str:
    """A type as a reader writes it: `float | None`, `tuple[int, ...]`, `bf16 or fp32`."""
    if all(isinstance(a, str) for a in get_args(annotation)) and get_args(annotation):
        return " or ".join(get_args(annotation))
    return annotation.__name__ if inspect.isclass(annotation) and not get_args(annotation) else str(annotation).replace("vesalius.", "")


def python_page() -> str:
    """The public names of `import vesalius`."""
    parts = ["# Python", "Everything here is an attribute of `vesalius`, loaded when it is first used."]
    for name in vesalius.__all__:
        thing = getattr(vesalius, name)
        thing = getattr(thing, name) if inspect.ismodule(thing) else thing
        parts += [f"## {name}", fenced(signature(name, thing), "python"), told(thing)]
        for method, value in vars(thing).items() if inspect.isclass(thing) else ():
            if not method.startswith("_") and inspect.getdoc(value) and isinstance(value, MEMBERS):
                parts.append(f"- `{method}`: {' '.join((inspect.getdoc(value) or '').split())}")
    return "\n\n".join(parts)


def signature(name: str, thing: Any) -> str:
    """`name(arguments)`, one argument per line where they are many; a class does not say that it gives itself."""
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return name
    found = inspect.signature(thing)
    words = [without_homes(str(p)) for p in found.parameters.values()]
    starred = [p.kind is p.KEYWORD_ONLY for p in found.parameters.values()]
    if any(starred):
        words.insert(starred.index(True), "*")
    gives = "" if inspect.isclass(thing) else f" -> {without_homes(type_words(found.return_annotation))}"
    short = f"{name}({', '.join(words)}){gives}"
    return short if len(short) < 90 else f"{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){gives}"


def without_homes(text: str) -> str:
    """Types by their own names, `Path` for `pathlib.Path`, and unquoted; an empty text stays visible."""
    bare = text.replace("''", '""').replace("'", "")
    return re.sub(r"\b(vesalius(\.\w+)*|pathlib|typing|numpy|collections\.abc)\.(?=\w)", "", bare)


def told(thing: Any) -> str:
    """The docstring; as a block of code where its columns are aligned."""
    text = inspect.getdoc(thing) or ""
    return fenced(text) if "  " in text else text


def cell(text: str) -> str:
    """`text` inside a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def fenced(text: str, language: str = "text") -> str:
    """`text` as a block of code."""
    return f"```{language}\n{text.strip()}\n```"


def write(folder: Path) -> list[Path]:
    """Write every page into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"commands": command_pages, "shelves": shelf_pages, "settings": settings_page, "python": python_page}
    for name, page in pages.items():
        (folder / f"{name}.md").write_text(NOTE + page() + "\n", encoding="utf-8")
    return [folder / f"{name}.md" for name in pages]


if __name__ == "__main__":
    for path in write(Path(__file__).parent / "reference"):
        sys.stderr.write(f"{path}\n")
