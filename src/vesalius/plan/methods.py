"""A method that learns from images alone, built from words that lie in a plan: its name, the shape of an image, arguments as JSON."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from vesalius.core.errors import UsageError, suggest
from vesalius.core.shelf import Shelf

METHODS = Shelf("methods")  # asked by name: what stands there lies later in the house
EVERY = ("shape", "learning_rate", "weight_decay", "seed")  # arguments that each of them has


def takes(name: str) -> dict[str, Any]:
    """Arguments of the method `name` beyond those that each has, with their defaults (inspect.Parameter.empty: none)."""
    return {word: p.default for word, p in inspect.signature(METHODS[name]).parameters.items() if word not in EVERY}


def rates(name: str) -> tuple[float, float]:
    """Learning rate and weight decay at which the method was published or checked."""
    found = inspect.signature(METHODS[name]).parameters
    return float(found["learning_rate"].default), float(found["weight_decay"].default)


def built(name: str, shape: Sequence[int], arguments: Mapping[str, Any], **more: Any) -> Any:
    """The method `name` for images of `shape` (C, *S); groups of settings among the arguments are made of their JSON. `more` are
    learning_rate, weight_decay and seed."""
    known, kinds = takes(name), get_type_hints(METHODS[name].__init__)
    made = {}
    for word, value in arguments.items():
        if word not in known:
            raise UsageError(suggest(word, known, f"argument of the method {name}"))
        try:
            made[word] = TypeAdapter(kinds[word]).validate_python(value)
        except ValidationError as problem:
            lines = [f"{'.'.join(map(str, (word, *e['loc'])))}: {e['msg']} (got {e['input']!r})" for e in problem.errors()]
            raise UsageError(f"In train.arguments of the method {name}: " + "; ".join(lines)) from None
    return METHODS[name](tuple(shape), **made, **more)
