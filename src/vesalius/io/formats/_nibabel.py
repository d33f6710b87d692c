"""nibabel, with what it says of a header collected rather than written to the terminal."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class _Collector(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def listening() -> Iterator[list[str]]:
    """What nibabel logs inside, as sentences; its warnings are kept quiet."""
    said: list[str] = []
    log, collector = logging.getLogger("nibabel.global"), _Collector(said)
    handlers, propagate = log.handlers, log.propagate
    log.handlers, log.propagate = [collector], False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield said
    finally:
        log.handlers, log.propagate = handlers, propagate
