"""Typed, frozen settings: to and from JSON, changed by `--set a.b=c`."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from vesalius.core.errors import UsageError, suggest
from vesalius.core.values import Values, assigned, types_of

SURPLUS = ("extra_forbidden", "unexpected_keyword_argument")  # of a word that settings do not have, and values


class Settings(BaseModel):
    """Base of every group of settings: frozen, and a word that it does not know is an error. What answering goes by is Values."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def changed(self, assignments: list[str]) -> Self:
        """A copy with each `a.b=c` applied; `c` is JSON, or a bare word. Unknown names and wrong types are errors."""
        return self.checked(assigned(self.model_dump(mode="json"), assignments))

    @classmethod
    def checked(cls, tree: dict[str, Any], *, where: str = "settings") -> Self:
        """`tree` as settings, with every problem told by its dotted name."""
        try:
            return cls.model_validate(tree)
        except ValidationError as problem:
            lines = [_told(cls, e) for e in problem.errors()]
            raise UsageError(f"In {where}: " + "; ".join(lines)) from None


def _told(kind: Any, problem: Any) -> str:
    """One problem of a group in words; a name that it does not have is told the nearest ones."""
    place = [str(word) for word in problem["loc"]]
    if problem["type"] not in SURPLUS:
        return f"{'.'.join(place)}: {problem['msg']} (got {problem['input']!r})"
    for word in place[:-1]:
        kind = words_of(kind).get(word)
    return f"{'.'.join(place)}: " + (suggest(place[-1], words_of(kind), "setting") if words_of(kind) else "no such setting")


def words_of(kind: Any) -> dict[str, Any]:
    """The settings in a group with their types; none where `kind` is no group."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {word: field.annotation for word, field in kind.model_fields.items()}
    return types_of(kind) if isinstance(kind, type) and issubclass(kind, Values) else {}


def text_of(values: Values) -> str:
    """`values` as settings are by `model_dump_json`: what names in a cache are made of."""
    return TypeAdapter(type(values)).dump_json(values).decode()
