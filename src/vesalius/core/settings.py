"""Typed, frozen settings: to and from JSON, changed by `--set a.b=c`."""

import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from vesalius.core.errors import UsageError, suggest


class Settings(BaseModel):
    """Base of every group of settings: frozen, and a word that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def changed(self, assignments: list[str]) -> Self:
        """A copy with each `a.b=c` applied; `c` is JSON, or a bare word. Unknown names and wrong types are errors."""
        tree = self.model_dump(mode="json")
        for text in assignments:
            path, found, value = text.partition("=")
            if not found:
                raise UsageError(f"Expected NAME=VALUE, for instance train.learning_rate=0.001; got {text!r}.")
            _assign(tree, path.strip(), parse_value(value.strip()))
        return self.checked(tree)

    @classmethod
    def checked(cls, tree: dict[str, Any], *, where: str = "settings") -> Self:
        """`tree` as settings, with every problem told by its dotted name."""
        try:
            return cls.model_validate(tree)
        except ValidationError as problem:
            lines = [_told(cls, e) for e in problem.errors()]
            raise UsageError(f"In {where}: " + "; ".join(lines)) from None


def _told(kind: type[BaseModel], problem: Any) -> str:
    """One problem of a model in words; a name that it does not have is told the nearest ones."""
    place = [str(word) for word in problem["loc"]]
    if problem["type"] != "extra_forbidden":
        return f"{'.'.join(place)}: {problem['msg']} (got {problem['input']!r})"
    for word in place[:-1]:
        found = kind.model_fields[word].annotation if word in kind.model_fields else None
        if not (isinstance(found, type) and issubclass(found, BaseModel)):
            return f"{'.'.join(place)}: no such setting"
        kind = found
    return f"{'.'.join(place)}: {suggest(place[-1], kind.model_fields, 'setting')}"


def parse_value(text: str) -> Any:
    """JSON where it parses, a plain word otherwise."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _assign(tree: dict[str, Any], path: str, value: Any) -> None:
    *groups, leaf = path.split(".")
    for depth, group in enumerate(groups):
        if not isinstance(tree.get(group), dict):
            raise UsageError(suggest(".".join(groups[: depth + 1]), tree, "setting"))
        tree = tree[group]
    if leaf not in tree:
        raise UsageError(suggest(leaf, tree, f"setting in {'.'.join(groups) or 'the plan'}"))
    tree[leaf] = value
