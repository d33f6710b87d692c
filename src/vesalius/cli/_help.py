"""The help page of a command: its docstring as it was written, so that examples can be copied."""

import inspect
from typing import Any

from typer.core import TyperCommand


class VerbatimCommand(TyperCommand):
    """A typer command whose docstring is shown line by line; typer would fold an example into one paragraph."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the docstring, indented by two spaces."""
        formatter.write("\n")
        for line in inspect.cleandoc(self.help or "").splitlines():
            formatter.write(f"  {line}".rstrip() + "\n")
