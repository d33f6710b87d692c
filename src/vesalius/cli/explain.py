"""`vesalius explain`: where in an image the network of a run looked."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.cli import _options as o
from vesalius.cli._console import Json, answer, answer_json


def explain(
    run: o.RunFolder,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image, or a folder of images or data set whose first case is taken.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PNG", help="The picture: the image, and the heat over it.")],
    method: Annotated[str, typer.Option(help="A way of explaining (vesalius shelf explain); by default what suits the network.")] = "",
    target: Annotated[str, typer.Option("--class", metavar="NAME", help="The class that is asked about; by default what is said.")] = "",
    test: Annotated[bool, typer.Option(help="Say whether the heat changes when the weights are made random.")] = False,
    json: Json = False,
) -> None:
    """Show where in an image a network saw the class that it answers.

    Bright places spoke most for the class. A heat shows where, not why; --test says whether it depends on what was learned at all.

    Example:
      vesalius explain run xray.png -o looked.png --method grad_cam
    """
    from vesalius.engine.inputs import cases_of
    from vesalius.engine.run import Run
    from vesalius.report import asked

    opened = Run.open(run)
    case = cases_of(image, tuple(opened.plan.preparation.channels))[0]
    found = asked.explained(opened, case, output, method=method, target=target, test=test)
    if json:
        answer_json(found)
        return
    answer(f"{found['case']}: {found['class']} ({found['method']}), drawn in {found['picture']}")
    if found["sentence"]:
        answer(found["sentence"])
