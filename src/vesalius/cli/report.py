"""`vesalius report`: write `report.html` of a run folder from whatever is there."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.cli._console import Json
from vesalius.cli._screen import answer, answer_json


def report(
    run: Annotated[Path, typer.Argument(help="The run folder: what `vesalius train -o` wrote.")],
    json: Json = False,
) -> None:
    """Write report.html: results, pictures, decisions and limits of a run in one file.

    Example:
      vesalius report run            prints run/report.html; open it in any browser
    """
    from vesalius.report import write

    path = write(run)
    if json:
        answer_json({"report": path, "bytes": path.stat().st_size})
        return
    answer(str(path))
