"""`vesalius explain`: where in an image the network of a run looked."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.cli import _options as o
from vesalius.cli._console import Json
from vesalius.cli._plain import by_channel
from vesalius.cli._screen import answer, answer_json
from vesalius.core.errors import UsageError, suggest
from vesalius.core.memory import lasting


def explain(
    run: o.RunFolder,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PNG", help="The picture: the image, and the heat over it.")],
    image: Annotated[Path | None, typer.Argument(metavar="[IMAGE]", help="An image, or a folder, table or data set of some.")] = None,
    case: Annotated[str, typer.Option(metavar="NAME", help="Which case of several; by default the first.")] = "",
    channel: Annotated[list[str] | None, typer.Option("--image", metavar="CHANNEL=FILE", help="One case, channel by channel.")] = None,
    method: Annotated[str, typer.Option(help="A way of explaining (vesalius shelf explain); by default what suits the network.")] = "",
    target: Annotated[str, typer.Option("--class", metavar="NAME", help="The class that is asked about; by default what is said.")] = "",
    test: Annotated[bool, typer.Option(help="Say whether the heat changes when the weights are made random.")] = False,
    json: Json = False,
) -> None:
    """Show where in an image a network saw the class that it answers.

    Bright places spoke most for the class. A heat shows where, not why; --test says whether it depends on what was learned at all.

    Example:
      vesalius explain run xray.png -o looked.png --method grad_cam
      vesalius explain run heads.csv -o looked.png --case p017
    """
    with lasting():
        from vesalius.engine.inputs import cases_of
        from vesalius.engine.run import Run
        from vesalius.report import asked

    opened, files = Run.open(run), by_channel(channel or [])
    if (image is None) == (not files):
        raise UsageError("Name what to explain: vesalius explain RUN IMAGE, or --image CHANNEL=FILE for each channel of one case.")
    cases = {one.name: one for one in cases_of(image or Path(), tuple(opened.plan.preparation.channels), files)}
    if case and case not in cases:
        raise UsageError(suggest(case, cases, "case"))
    found = asked.explained(opened, cases[case or next(iter(cases))], output, method=method, target=target, test=test)
    if json:
        answer_json(found)
        return
    answer(f"{found['case']}: {found['class']} ({found['method']}), drawn in {found['picture']}")
    if found["sentence"]:
        answer(found["sentence"])
