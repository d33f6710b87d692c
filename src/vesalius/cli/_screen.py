"""What commands say: answers on stdout (text, tables, JSON), progress with time left on stderr. Stands on Python alone."""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

from vesalius.core.files import plain

BEGUN = time.monotonic()  # this file is loaded first: what is loaded after it takes the user's time too


def answer(text: str) -> None:
    """One line (or more) of the answer, on stdout."""
    sys.stdout.write(text + "\n")


def answer_json(value: Any) -> None:
    """The whole answer as JSON on stdout; numpy values and paths are made plain, NaN becomes null."""
    sys.stdout.write(json.dumps(plain(value), indent=1, ensure_ascii=False) + "\n")


def say(text: str) -> None:
    """What goes on, on stderr: never part of the answer."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> None:
    """An aligned table on stdout; columns whose cells are all numbers lie to the right, None is an en dash."""
    cells = [list(row) for row in rows]
    right = [all(isinstance(row[k], int | float | None) for row in cells) for k in range(len(columns))]
    text = [[cell(value) for value in row] for row in cells]
    width = [max(len(line[k]) for line in [list(columns), *text]) for k in range(len(columns))]

    def line(values: Sequence[str]) -> str:
        return "  ".join(v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, width, right, strict=True)).rstrip()

    answer("\n".join([*([title] if title else []), line(columns), line(["-" * w for w in width]), *map(line, text)]))


def cell(value: Any) -> str:
    """A value as it stands in a table: three decimals, an en dash for None."""
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """`seconds` as people say it: 8 s, 2 min 05 s, 1 h 03 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Progress of one piece of work on stderr, with the time that is left.

    `with Progress("reading") as progress: progress(3, 10, "case_04")`. On a terminal it is a bar; elsewhere (a log file)
    a line when the work begins and ends, and one every `every` seconds.
    """

    def __init__(self, what: str, *, every: float = 10.0) -> None:
        self.what, self.every = what, every
        self.start = self.told = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and find_spec("rich"):
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(self.what, total=None, note="")
        else:
            say(f"{self.what} ...")
        return self

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None:
        """`done` of `total` (any unit); `note` says what is in hand."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, note=note)
        elif time.monotonic() - self.told >= self.every:
            self.told = time.monotonic()
            say(f"{self.what}: {self._position(done, total)} {note}".rstrip())

    def _position(self, done: float, total: float | None) -> str:
        if not total or not done:
            return f"{done:g}"
        left = (self.told - self.start) * (total - done) / done
        return f"{done:g} of {total:g}, {duration(left)} left"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None:
            say(f"{self.what}: done in {duration(time.monotonic() - self.start)}")


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("elapsed,"), TimeRemainingColumn(),
               TextColumn("left {task.fields[note]}"))  # fmt: skip
    return Progress(*columns, console=Console(stderr=True))
