"""nibabel's judgement of a header, collected rather than written to the terminal. No global state: files are read in threads."""

import logging
from typing import Any


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def checked(header: Any) -> list[str]:
    """Mend `header` as nibabel does on loading and give its remarks as sentences; what cannot be mended is raised."""
    log, collector = logging.Logger("vesalius.io.nibabel"), _Collector()
    log.addHandler(collector)
    header.check_fix(logger=log)
    return collector.said
