"""The report of a run: one self-contained HTML file that says what was done, how well it works, and how far to trust it."""

from vesalius.report.html import write

__all__ = ["write"]
