"""What a person sees while the engine works: stages with the time left, and Ctrl-C that ends well."""

import signal
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any, Self

from vesalius.cli._console import Progress, say
from vesalius.engine.progress import Listener, Tick


class ConsoleListener(Listener):
    """Progress on stderr. Used as `with ConsoleListener() as listener: train(..., listener=listener)`.

    Inside the block the first Ctrl-C asks the work to end well (`stop()` is True from then on) and the second stops at once.
    """

    def __init__(self) -> None:
        self._stop = False
        self._before: Any = None

    def stage(self, what: str) -> AbstractContextManager[Tick]:
        """A progress bar (a line now and then where there is no terminal)."""
        return Progress(what)

    def say(self, text: str) -> None:
        """A line on stderr."""
        say(text)

    def row(self, row: dict[str, Any]) -> None:
        """Rows are in log.csv; the stage shows the loss."""

    def stop(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._stop

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._interrupted)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True
        say("Ending well: the model so far is kept and tested. Ctrl-C again stops at once.")
