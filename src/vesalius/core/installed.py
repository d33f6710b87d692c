"""What is installed, by the names of folders alone: importing importlib.metadata takes a tenth of the time of a first answer."""

import os
import re
import sys
from collections.abc import Iterator
from functools import cache

FOLDER = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-[^.]+)?\.(?:dist|egg)-info$")


@cache
def folders() -> dict[str, tuple[str, str]]:
    """{package: (version, its folder of metadata)}, of two of one name the one that is imported."""
    found: dict[str, tuple[str, str]] = {}
    for place in sys.path:
        try:
            names = sorted(os.listdir(place or "."))
        except OSError:  # a zip, or a folder that has gone
            continue
        for name in names:
            if told := FOLDER.fullmatch(name):
                found.setdefault(plain(told["name"]), (told["version"], os.path.join(place, name)))
    return found


def plain(name: str) -> str:
    """A package's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def version_of(package: str) -> str | None:
    """The version of an installed package, None where there is none."""
    found = folders().get(plain(package))
    return found[0] if found else None


def entries(group: str) -> Iterator[tuple[str, str]]:
    """(name, value) of every entry point of `group` that any package declares."""
    for _, folder in folders().values():
        try:
            with open(os.path.join(folder, "entry_points.txt"), encoding="utf-8") as file:
                text = file.read()
        except OSError:
            continue
        if f"[{group}]" in text:
            yield from _pairs(text, group)


def _pairs(text: str, group: str) -> Iterator[tuple[str, str]]:
    inside = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == f"[{group}]"
        elif inside and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield name.strip(), value.partition("[")[0].strip()
