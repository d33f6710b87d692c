"""Typed, frozen values by the standard library alone: to and from JSON, changed by `a.b=c`, every wrong word told by its dotted name.

What answers scans goes by these and needs no pydantic. Within settings (core/settings.py) pydantic reads them as it reads the rest.
"""

import json
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, NoReturn, Self, get_args, get_origin

from vesalius.core.errors import UsageError, suggest


class Wrong(ValueError):
    """Values that are not what they should be: the way to each, and what is the matter with it."""

    def __init__(self, *problems: tuple[tuple[str, ...], str]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{'.'.join(place)}: {text}" if place else text for place, text in problems))


@dataclass(frozen=True, kw_only=True)
class Values:
    """Base of groups of values, which are frozen dataclasses made by keywords, as this one. What is given becomes what the types say (lists
    tuples, whole numbers float) or is Wrong. The types are those of JSON: str, int, float, bool, Literal, tuple, dict, `X | None`, a group
    and Any."""

    __pydantic_config__ = {"extra": "forbid", "ser_json_inf_nan": "constants"}  # as core/settings.py has it

    def __post_init__(self) -> None:
        kinds = types_of(type(self))
        for word, value in zip(kinds, _each((word, kind, getattr(self, word)) for word, kind in kinds.items()), strict=True):
            object.__setattr__(self, word, value)
        self.check()

    def check(self) -> None:
        """Raise a ValueError where values do not suit each other, or are beyond their limits."""

    @classmethod
    def checked(cls, tree: dict[str, Any], *, where: str = "settings") -> Self:
        """`tree` as these values, with every problem told by its dotted name."""
        try:
            return cls(**_words(cls, tree))
        except ValueError as problem:
            raise UsageError(f"In {where}: {problem}") from None

    def changed(self, assignments: list[str]) -> Self:
        """A copy with each `a.b=c` applied. Unknown names and wrong types are errors."""
        return self.checked(assigned(self.dumped(), assignments))

    def dumped(self, *, short: bool = False) -> dict[str, Any]:
        """As plain JSON; `short`: without what is as it would be by itself."""
        usual = defaults(type(self)) if short else {}
        words = {word: getattr(self, word) for word in types_of(type(self))}
        return {word: _plain(value, short=short) for word, value in words.items() if word not in usual or value != usual[word]}


def types_of(kind: type[Values]) -> dict[str, Any]:
    """The type of each value by its name."""
    return {field.name: field.type for field in fields(kind)}


def defaults(kind: type[Values]) -> dict[str, Any]:
    """What each value is where nothing is said, by name; without those that have to be said."""
    found = {field.name: field.default_factory() if field.default_factory is not MISSING else field.default for field in fields(kind)}
    return {word: value for word, value in found.items() if value is not MISSING}


def made(kind: Any, value: Any) -> Any:
    """`value` as the type `kind` has it, or Wrong."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or (origin is UnionType and value is None):
        return value
    if origin is UnionType:
        return made(inner[0], value)
    if origin is Literal:
        return value if value in inner and type(value) in map(type, inner) else _refuse(" or ".join(map(repr, inner)), value)
    if origin is tuple:
        return _tuple(inner, value)
    if origin is dict:
        return _dict(inner, value)
    if issubclass(kind, Values):
        return value if isinstance(value, kind) else _group(kind, value)
    return _single(kind, value)


def _refuse(expected: str, value: Any) -> NoReturn:
    raise Wrong(((), f"expected {expected} (got {value!r})"))


def _single(kind: type, value: Any) -> Any:
    """Numbers of another library, too; a number that is whole is an int whatever its type, but neither True nor a text is a number."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if kind is int:
        whole = number and (isinstance(value, Integral) or float(value).is_integer())
        return int(value) if whole else _refuse("a whole number", value)
    if kind is float:
        try:
            return float(value) if number else _refuse("a number", value)
        except OverflowError:
            return _refuse("a number of 64 bits", value)
    return value if isinstance(value, kind) else _refuse({str: "a text", bool: "true or false"}[kind], value)


def _group(kind: type[Values], value: Any) -> Values:
    try:
        return kind(**_words(kind, value))
    except Wrong:
        raise
    except ValueError as problem:  # of `check`
        raise Wrong(((), str(problem))) from None


def _words(kind: type[Values], value: Any) -> dict[str, Any]:
    """`value`, which says what has to be said, and nothing else."""
    if not isinstance(value, dict):
        _refuse(f"{kind.__name__} by words: {', '.join(types_of(kind))}", value)
    known, usual = types_of(kind), defaults(kind)
    missing = [((word,), "is missing") for word in known if word not in value and word not in usual]
    unknown = [((str(word),), suggest(str(word), known, "setting")) for word in value if word not in known]
    if missing or unknown:
        raise Wrong(*missing, *unknown)
    return dict(value)


def _tuple(inner: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        _refuse("a list", value)
    kinds = inner[:1] * len(value) if inner[1:] == (...,) else inner
    if len(kinds) != len(value):
        _refuse(f"{len(kinds)} values", value)
    return tuple(_each((str(k), kind, one) for k, (kind, one) in enumerate(zip(kinds, value, strict=True))))


def _dict(inner: tuple[Any, ...], value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        _refuse("values by their names", value)
    keys = _each((str(key), inner[0], _key(inner[0], key)) for key in value)
    return dict(zip(keys, _each((str(key), inner[1], one) for key, one in value.items()), strict=True))


def _key(kind: Any, key: Any) -> Any:
    """A number that JSON has made a text is a number again."""
    try:
        return int(key) if kind is int and isinstance(key, str) else key
    except ValueError:
        return key


def _each(given: Iterable[tuple[str, Any, Any]]) -> list[Any]:
    """Every value as its type has it, of triples of name, type and value; what is wrong is told of all of them."""
    found, problems = [], []
    for word, kind, value in given:
        try:
            found.append(made(kind, value))
        except Wrong as problem:
            problems += [((word, *place), text) for place, text in problem.problems]
    if problems:
        raise Wrong(*problems)
    return found


def _plain(value: Any, *, short: bool) -> Any:
    if isinstance(value, Values):
        return value.dumped(short=short)
    if isinstance(value, list | tuple):
        return [_plain(one, short=short) for one in value]
    return {str(key): _plain(one, short=short) for key, one in value.items()} if isinstance(value, dict) else value


def parse_value(text: str) -> Any:
    """JSON where it parses, a plain word otherwise."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def assigned(tree: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """`tree` with each `a.b=c` put where it belongs; `c` is JSON, or a bare word. Unknown names are errors."""
    for text in assignments:
        path, found, value = text.partition("=")
        if not found:
            raise UsageError(f"Expected NAME=VALUE, for instance train.learning_rate=0.001; got {text!r}.")
        _assign(tree, path.strip(), parse_value(value.strip()))
    return tree


def _assign(tree: dict[str, Any], path: str, value: Any) -> None:
    *groups, leaf = path.split(".")
    for depth, group in enumerate(groups):
        if not isinstance(tree.get(group), dict):
            raise UsageError(suggest(".".join(groups[: depth + 1]), tree, "setting"))
        tree = tree[group]
    if leaf not in tree:
        raise UsageError(suggest(leaf, tree, f"setting in {'.'.join(groups) or 'the plan'}"))
    tree[leaf] = value
