"""What classes a data set has: names gathered from words or numbers, named and put in order by the user where asked."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vesalius.core.errors import DataError, UsageError
from vesalius.data.case import Case
from vesalius.data.labels import Labels
from vesalius.data.layouts._files import natural, some

FEW = 100  # more classes than this are no classes
ABSENT = re.compile(r"(normals?|healthy|well|negative|benign|controls?|absent|none|no)($|[ _\-])", re.I)  # nothing is there


def of_words(words: Iterable[str], where: Path | str, *, kind: str = "classes") -> Labels:
    """Labels from the words that stand for classes, in natural order; of two the one that is looked for is last."""
    names = sorted(set(words), key=natural)
    if len(names) == 2 and kind == "classes" and ABSENT.match(names[1]) and not ABSENT.match(names[0]):
        names.reverse()
    return named(names, where, kind=kind)


def named(names: Sequence[str], where: Path | str, *, kind: str = "classes") -> Labels:
    """Labels of whole cases with `names` in this order; one class (two for one of several) is refused."""
    least = 1 if kind == "findings" else 2
    if not least <= len(names) <= FEW:
        held = f"1 class ({names[0]})" if len(names) == 1 else f"{len(names)} classes"
        raise DataError(f"{where} has {held}; {least} to {FEW} are expected. Is this the column or the folder that holds the class?")
    return Labels.checked({"names": names, "values": [[k] for k in range(len(names))], "kind": kind})


def declared(words: Mapping[str, Any] | Sequence[str], where: Path | str, *, kind: str = "classes") -> Labels:
    """Labels from {"0": "normal"}, {"normal": 0} or a list of names."""
    if not isinstance(words, Mapping):
        return named([str(word) for word in words], where, kind=kind)
    try:
        pairs = sorted((int(key), str(value)) if isinstance(value, str) else (int(value), str(key)) for key, value in words.items())
    except (TypeError, ValueError):
        raise DataError(f'{where}: labels {dict(words)} are not understood. Expected {{"0": "normal"}} or a list of names.') from None
    made = named([name for _, name in pairs], where, kind=kind)
    return replace(made, values=tuple((number,) for number, _ in pairs))


def one(name: str, labels: Labels, where: str) -> dict[str, int]:
    """The classes of a case that is `name`."""
    if name not in labels.names:
        raise DataError(f"{where}: the class {name!r} is none of {some(labels.names, 12)}. Mend the word, or add it to the labels.")
    return {name: 1}


def renamed(labels: Labels, cases: Sequence[Case], asked: Iterable[str] | Mapping[str, Any]) -> tuple[Labels, list[Case]]:
    """`labels` and `cases` as the user names them: 'pneumonia=1' calls class 1 (its number, or its name so far) pneumonia; what is
    named comes first, in this order, so that the last of two is what is looked for."""
    pairs = asked.items() if isinstance(asked, Mapping) else [tuple(text.rpartition("=")[::2]) for text in asked]
    old = {str(parts[0]): name for name, parts in zip(labels.names, labels.values, strict=True)} | {name: name for name in labels.names}
    new: dict[str, str] = {}
    for name, value in pairs:
        if not name or str(value) not in old:
            raise UsageError(f"Expected NAME=CLASS with a class of {some(labels.names, 12)}; got '{name}={value}'.")
        new[old[str(value)]] = str(name)
    order = [*new, *(name for name in labels.names if name not in new)]
    names = [new.get(name, name) for name in order]
    if len(set(names)) < len(names):
        raise UsageError(f"Two classes would have one name: {', '.join(names)}.")
    values = dict(zip(labels.names, labels.values, strict=True))
    made = replace(labels, names=tuple(names), values=tuple(values[name] for name in order))
    return made, [replace(case, classes={new.get(n, n): v for n, v in (case.classes or {}).items()}) for case in cases]


def told(labels: Labels, cases: Sequence[Case]) -> str:
    """The classes and how many cases are of each, in a sentence."""
    counts = [sum((case.classes or {}).get(name) == 1 for case in cases) for name in labels.names]
    what = {
        "classes": "Classes, one for each case",
        "grades": "Grades, one for each case, in order",
        "findings": "Findings, any number of them",
    }
    return f"{what[labels.kind]}: " + ", ".join(f"{name} ({count})" for name, count in zip(labels.names, counts, strict=True)) + "."
