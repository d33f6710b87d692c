"""`vesalius similar`: the training images that are most like one image, to a run."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.cli import _options as o
from vesalius.cli._console import Json
from vesalius.cli._screen import Progress, answer, answer_json, table
from vesalius.core.memory import lasting


def similar(
    run: o.RunFolder,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image, or a folder of images or data set whose first case is taken.")],
    data: Annotated[Path | None, typer.Option(metavar="DATA", help="Search these images, not those that were learned from.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many images to find.")] = 8,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="HTML", help="The page (RUN/similar/IMAGE.html).")] = None,
    json: Json = False,
) -> None:
    """Find the images that are most like one, by the features of a run that classifies or has learned from images alone.

    The first call describes every image that is searched and keeps that in the run folder. Images of the patient who is
    asked about do not count.

    Example:
      vesalius similar run xray.png -k 8
    """
    with lasting():
        from vesalius.audit.similar import FOLDER, searched
        from vesalius.audit.similar import similar as look
        from vesalius.engine.inputs import cases_of
        from vesalius.engine.run import Run
        from vesalius.report.similar import headline, write_similar

    opened = Run.open(run)
    with Progress("describing images") as progress:
        found = look(opened, image, data=data, k=k, tick=progress)
    asked = cases_of(image, tuple(opened.plan.preparation.channels))[0]
    cases = {case.name: case for case in searched(opened, data)[1]}
    page = write_similar(found, asked, cases, path=output or opened.path / FOLDER / f"{asked.name}.html")
    if json:
        answer_json({**found, "page": page})
        return
    table(("case", "shows", "patient", "distance"), [(row["case"], row["label"] or None, row["patient"], row["distance"])
                                                    for row in found["neighbours"]])  # fmt: skip
    for line in (headline(found), *found["remarks"], f"Page: {page}"):
        answer(line)
