"""How long work tells what it is doing: a listener that the command line draws and a script may ignore."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol


class Tick(Protocol):
    """Called while work goes on."""

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None: ...


class Listener:
    """Ignores everything; the command line's listener draws it. `stop()` is asked between steps; `started` is when the user began to wait
    (time.monotonic), where that was before the work."""

    started: float | None = None

    def stage(self, what: str) -> AbstractContextManager[Tick]:
        """A piece of work begins; the returned tick is called as it goes on."""
        return nullcontext(_ignore)

    def say(self, text: str) -> None:
        """Something that the user should know."""

    def row(self, row: dict[str, Any]) -> None:
        """A row of log.csv."""

    def stop(self) -> bool:
        """Whether the user wants the work to end now, and well."""
        return False


def _ignore(done: float, total: float | None = None, note: str = "") -> None:
    return None
