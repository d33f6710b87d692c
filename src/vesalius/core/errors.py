"""Errors that a user can act on: what was expected, what came, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class VesaliusError(Exception):
    """Something that the user can mend; its text names the file, the cause and the remedy."""


class UsageError(VesaliusError):
    """The words of a command or call are off (exit code 2)."""


class FormatError(VesaliusError):
    """A file cannot be read or written as the format that it claims to be."""


class GeometryError(VesaliusError):
    """Two things that must lie on one grid do not."""


class DataError(VesaliusError):
    """The data set cannot be trained or tested on as it is."""


def suggest(name: str, known: Iterable[str], what: str = "name") -> str:
    """One sentence for a wrong `name`: the nearest right ones, or all of them."""
    names = sorted(known)
    near = get_close_matches(name.lower(), [n.lower() for n in names], n=3, cutoff=0.5)
    close = sorted((n for n in names if n.lower() in near), key=lambda n: near.index(n.lower()))
    if close:
        return f"Unknown {what} {name!r}. Did you mean {' or '.join(close)}?"
    return f"Unknown {what} {name!r}. Known: {', '.join(names) or 'none'}."
