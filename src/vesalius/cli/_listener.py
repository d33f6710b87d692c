"""How the command line listens to long work: a progress bar per stage, notes on stderr, and Ctrl-C that ends well."""

import signal
from contextlib import AbstractContextManager
from types import FrameType

from vesalius.cli._console import Progress, say
from vesalius.engine.progress import Listener, Tick


class Console(Listener):
    """The first Ctrl-C asks the work to end at the next step and keep what it has; the second ends it at once."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGINT, self._interrupted)
        signal.signal(signal.SIGTERM, self._interrupted)

    def stage(self, what: str) -> AbstractContextManager[Tick]:
        return Progress(what)

    def say(self, text: str) -> None:
        say(text)

    def stop(self) -> bool:
        return self.asked

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        say("Stopping well: the model so far is kept. Once more to stop at once.")
