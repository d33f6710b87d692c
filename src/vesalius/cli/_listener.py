"""How the command line listens to long work: a progress bar per stage, notes on stderr, and Ctrl-C that ends well."""

import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

from vesalius.cli._screen import BEGUN, Progress, say
from vesalius.core.errors import VesaliusError
from vesalius.engine.progress import Listener, Tick

LIVE_SECONDS = 30.0
TOGETHER = 1.0  # seconds in which two signals are one: torchrun passes on what the terminal has sent already


class Console(Listener):
    """With a `run` folder its report is drawn again every half minute while it learns, so that a browser can follow.

    The first Ctrl-C asks the work to end at the next step and keep what it has; the second ends it at once."""

    def __init__(self, run: Path | None = None) -> None:
        self.asked, self.when = False, 0.0
        self.started = BEGUN
        self.run, self.drawn = run, time.monotonic()
        signal.signal(signal.SIGINT, self._interrupted)
        signal.signal(signal.SIGTERM, self._interrupted)

    def stage(self, what: str) -> AbstractContextManager[Tick]:
        return Progress(what)

    def say(self, text: str) -> None:
        say(text)

    def row(self, row: dict[str, Any]) -> None:
        if self.run and time.monotonic() - self.drawn > LIVE_SECONDS:
            from vesalius.report import write

            self.drawn = time.monotonic()
            try:
                write(self.run, live=True)
            except VesaliusError as problem:  # a full disk, perhaps: learning is worth more than its picture
                say(f"No more live report: {problem}")
                self.run = None

    def stop(self) -> bool:
        return self.asked

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self.when > TOGETHER:
            raise KeyboardInterrupt
        if self.asked:
            return
        self.asked, self.when = True, time.monotonic()
        say("Stopping well: the model so far is kept. Once more to stop at once.")
