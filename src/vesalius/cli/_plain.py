"""Reads the words of commands that have to run where nothing but numpy is installed, typer not: options are annotations here too.

A module that says `PLAIN = True` has its function read by `call`. Of an argument `Annotated[type, said("--flag", ..., help="...")]` the
type is one of str, int, float, Path, bool (a switch), each perhaps or None, or list[str] | None (repeated); without a flag its place tells
it.
"""

import argparse
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn, get_args, get_type_hints

from vesalius.core.errors import UsageError, suggest


@dataclass(frozen=True)
class Said:
    """How an argument is given: by its `flags`, or without any by its place, where it is shown as `name`; and its `help`."""

    flags: tuple[str, ...] = ()
    help: str = ""
    name: str = ""


def said(*flags: str, help: str, name: str = "") -> Said:
    """A `Said` of these flags."""
    return Said(flags, help, name)


class _Parser(argparse.ArgumentParser):
    """Complains as the other commands do."""

    def error(self, message: str) -> NoReturn:
        _, surplus, words = message.partition("unrecognized arguments: ")
        unknown = words.split()
        if surplus and unknown and unknown[0].startswith("-"):
            known = [flag for action in self._actions for flag in action.option_strings]
            raise UsageError(f"{suggest(unknown[0].partition('=')[0], [*known, '--debug'], 'option')} See {self.prog} --help.")
        raise UsageError(f"{message[0].upper()}{message[1:].rstrip('.')}. See {self.prog} --help.")


def parser_of(function: Callable[..., Any]) -> argparse.ArgumentParser:
    """What reads the words of the command `function`."""
    about = "\n".join(f"  {line}".rstrip() for line in inspect.cleandoc(function.__doc__ or "").splitlines())
    made = _Parser(prog=f"vesalius {function.__name__}", description=about, allow_abbrev=False,
                   formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, how = get_args(hints[name])[:2]
        needed = parameter.default is inspect.Parameter.empty
        made.add_argument(*(how.flags or (name,)), **_action(kind, how, needed=needed, name=name, default=parameter.default))
    return made


def _action(kind: Any, how: Said, *, needed: bool, name: str, default: Any) -> dict[str, Any]:
    """The words for argparse."""
    kinds = [one for one in get_args(kind) if one is not NoneType] or [kind]
    words: dict[str, Any] = {"help": how.help.replace("%", "%%")}
    if not needed:
        words["default"] = default
    if how.flags:
        words["dest"] = name
    if kind is bool:
        return words | {"action": "store_true"}
    words["metavar"] = how.name or name.upper()
    if kinds[0] == list[str]:
        return words | {"action": "append"}
    words["type"] = kinds[0]
    if not how.flags:
        return words if needed else words | {"nargs": "?"}
    return words | {"required": needed}


def call(function: Callable[..., Any], words: list[str]) -> int:
    """Read `words`, call the command and give its exit code."""
    try:
        given = parser_of(function).parse_intermixed_args(words)  # places before, between and behind options
    except SystemExit as end:  # after --help
        return int(end.code or 0)
    except (argparse.ArgumentError, ValueError) as problem:
        raise UsageError(f"{problem}. See vesalius {function.__name__} --help.") from None
    code = function(**vars(given))
    return code if isinstance(code, int) else 0


def by_channel(pairs: list[str]) -> dict[str, Path]:
    """The files of one case that CHANNEL=FILE texts name."""
    named: dict[str, Path] = {}
    for pair in pairs:
        channel, found, file = pair.partition("=")
        if not found:
            raise UsageError(f"Expected CHANNEL=FILE, for instance T1=scan.nii.gz; got {pair!r}.")
        if channel in named:
            raise UsageError(f"The channel {channel} is named twice: {named[channel]} and {file}. Name it once.")
        named[channel] = Path(file)
    return named
