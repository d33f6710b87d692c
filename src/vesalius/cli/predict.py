"""`vesalius predict`: answers for new scans."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.cli import _options as o
from vesalius.cli._console import Json, Settings, answer_json, table
from vesalius.core.errors import UsageError, VesaliusError


def predict(
    run: o.RunFolder,
    inputs: Annotated[Path | None, typer.Argument(metavar="[SCANS]", help="A scan, a DICOM folder or zip, or a folder of them.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the answers, one file per case.")] = Path("predictions"),
    image: Annotated[list[str] | None, typer.Option(metavar="CHANNEL=FILE", help="One case, channel by channel; repeat.")] = None,
    probabilities: Annotated[bool, typer.Option(help="Keep the probabilities too (.npy beside each answer).")] = False,
    mirror: Annotated[bool, typer.Option(help="Average over mirrored scans: slower, a little better.")] = False,
    num_parts: Annotated[int, typer.Option(help="Share the cases among this many processes, each with its own --part-id.")] = 1,
    part_id: Annotated[int, typer.Option(help="Which share this process takes, from 0.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Answer again what is answered already.")] = False,
    skip_bad: Annotated[bool, typer.Option(help="Pass over cases that cannot be read, and list them.")] = False,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Answer new scans; each answer lies on its scan's own grid.

    Answers that exist are left alone, so a killed job is simply started again.

    Example:
      vesalius predict run new_scans/ -o answers
    """
    from vesalius.cli._listener import Console
    from vesalius.engine.predict import Options
    from vesalius.engine.predict import predict as work

    named = _named(image or [])
    if (inputs is None) == (not named):
        raise UsageError("Name the scans: vesalius predict RUN SCANS, or --image CHANNEL=FILE for each channel of one case.")
    changes = [*(settings or []), *(["predict.mirror=true"] if mirror else [])]
    options = Options(probabilities=probabilities, settings=tuple(changes), overwrite=overwrite, skip_bad=skip_bad,
                      parts=num_parts, part=part_id)  # fmt: skip
    done = work(run, inputs or Path(), output, images=named, options=options, listener=Console())
    rows = [{"case": a.case, "file": a.path, "problem": a.problem or None, "volumes": a.volumes} for a in done]
    if json:
        answer_json({"cases": rows})
    else:
        table(("case", "file", "volumes"), [(a.case, str(a.path or a.problem), _sizes(a.volumes)) for a in done])
    if any(a.problem for a in done):
        raise VesaliusError(f"{sum(bool(a.problem) for a in done)} of {len(done)} cases could not be answered; they are listed above.")


def _named(pairs: list[str]) -> dict[str, Path]:
    named = {}
    for pair in pairs:
        channel, found, file = pair.partition("=")
        if not found:
            raise UsageError(f"Expected CHANNEL=FILE, for instance T1=scan.nii.gz; got {pair!r}.")
        named[channel] = Path(file)
    return named


def _sizes(volumes: dict[str, float] | None) -> str:
    return ", ".join(f"{name} {size:g}" for name, size in volumes.items()) if volumes else "there already"
