"""What can go wrong at the door: damaged and hostile files become FormatErrors that name the file and the remedy."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vesalius.core.errors import FormatError, VesaliusError
from vesalius.core.lacking import remedy
from vesalius.core.space import Array

DEFLATE_RATIO = 1032  # no deflate stream grows more than this (258 bytes from 2 bits), so that a bomb is known by its size
REMEDY = "The file may be damaged or cut short: copy it again from where it came."


@contextmanager
def guarded(path: Path, title: str) -> Iterator[None]:
    """Whatever fails inside while reading `path` as `title` is raised as one FormatError naming the file.

    Readers of foreign libraries fail in dozens of ways on damaged files; the first line of theirs is the cause told.
    """
    try:
        yield
    except FormatError as problem:
        if str(path) in str(problem):
            raise
        raise FormatError(f"{path}: {problem}") from problem
    except VesaliusError as problem:
        raise FormatError(f"{path}: {problem}") from problem
    except FileNotFoundError as problem:
        raise FormatError(f"{path}: {problem.filename or path} does not exist. Put it beside, or check the path.") from problem
    except PermissionError as problem:
        raise FormatError(f"{path}: you are not allowed to read it. Change its permissions.") from problem
    except ModuleNotFoundError as problem:
        raise FormatError(f"{path}: reading this needs the package {problem.name}. {remedy(problem.name)}") from problem
    except Exception as problem:
        cause = str(problem).strip().split("\n")[0] or type(problem).__name__
        raise FormatError(f"{path} cannot be read as {title}: {cause}. {REMEDY}") from problem


def unwarned(module: str) -> None:
    """From here on the warnings of `module` are not shown: its readers warn of what is judged here anyhow.

    A filter that stays, rather than one around each reading, because files are read in several threads at once.
    """
    warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")


def check_size(path: Path, needed: int, available: int) -> None:
    """Refuse before memory is asked for: `path` declares `needed` bytes of pixels and can hold at most `available`."""
    if needed > available:
        raise FormatError(f"{path} declares {needed:,} bytes of pixels but holds at most {max(available, 0):,}. {REMEDY}")


def read_exactly(path: Path, file: BinaryIO, count: int) -> Array:
    """The next `count` bytes of `file` as writable uint8; fewer is a FormatError naming `path`."""
    buffer = np.empty(count, np.uint8)
    view = buffer.data
    done = 0
    while done < count:
        got = file.readinto(view[done : done + (1 << 26)])  # type: ignore[attr-defined]
        if not got:
            raise FormatError(f"{path} ends after {done:,} of {count:,} bytes of pixels. {REMEDY}")
        done += got
    return buffer


def skip(path: Path, file: BinaryIO, count: int) -> None:
    """Read past `count` bytes."""
    while count > 0:
        got = len(file.read(min(count, 1 << 20)))
        if not got:
            raise FormatError(f"{path} ends before its pixels begin. {REMEDY}")
        count -= got
