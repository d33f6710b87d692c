"""`vesalius predict`: answers for new scans."""

from pathlib import Path
from typing import Annotated, Any

from vesalius.cli._plain import by_channel, said
from vesalius.cli._screen import answer_json, table
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.core.memory import lasting

PLAIN = True


def predict(
    run: Annotated[Path, said(name="RUN", help="A run folder, made by vesalius train.")],
    inputs: Annotated[Path | None, said(name="SCANS", help="A scan, a DICOM folder or zip, or a folder of them.")] = None,
    output: Annotated[Path, said("--output", "-o", name="PATH", help="Folder for the answers, one file per case.")] = Path("predictions"),
    image: Annotated[list[str] | None, said("--image", name="CHANNEL=FILE", help="One case, channel by channel; repeat.")] = None,
    probabilities: Annotated[bool, said("--probabilities", help="Keep the probabilities too (.npy beside each answer).")] = False,
    apart: Annotated[bool, said("--apart", help="A mask of 0 and 1 for each label too, in a folder for each case.")] = False,
    mirror: Annotated[bool, said("--mirror", help="Average over mirrored scans: slower, a little better.")] = False,
    num_parts: Annotated[int, said("--num-parts", name="N", help="Share the cases among N processes, each with its --part-id.")] = 1,
    part_id: Annotated[int, said("--part-id", name="K", help="Which share this process takes, from 0.")] = 0,
    overwrite: Annotated[bool, said("--overwrite", help="Answer again what is answered already.")] = False,
    skip_bad: Annotated[bool, said("--skip-bad", help="Pass over cases that cannot be read, and list them.")] = False,
    settings: Annotated[list[str] | None, said("--set", name="NAME=VALUE", help="Change a planned value; may be repeated.")] = None,
    json: Annotated[bool, said("--json", help="Answer as JSON on stdout.")] = False,
) -> None:
    """Answer new scans: a mask on each scan's own grid, or what each case shows.

    Answers that exist are left alone, so a killed job is simply started again. A model of classes writes one
    table for all, predictions.csv: the case, what is said of it, and the probability of every class (after the
    temperature that validation chose). What is said follows the threshold that was chosen on validation cases,
    0.5 where there were too few, and the most probable of three and more classes. Where validation was large
    enough it also says which classes are possible, whether the model is sure enough to answer, and whether the
    case is strange to it.

    Example:
      vesalius predict run new_scans/ -o answers
    """
    with lasting():
        from vesalius.cli._listener import Console
        from vesalius.engine.answered import Options, row_of, sizes
        from vesalius.export.predicting import predict as work

    named = by_channel(image or [])
    if (inputs is None) == (not named):
        raise UsageError("Name the scans: vesalius predict RUN SCANS, or --image CHANNEL=FILE for each channel of one case.")
    changes = [*(settings or []), *(["predict.mirror=true"] if mirror else [])]
    options = Options(probabilities=probabilities, apart=apart, settings=tuple(changes), overwrite=overwrite, skip_bad=skip_bad,
                      parts=num_parts, part=part_id)  # fmt: skip
    done = work(run, inputs or Path(), output, images=named, options=options, listener=Console())
    rows = [{**row_of(a), "file": a.path, "problem": a.problem or None} for a in done]
    if json:
        answer_json({"cases": rows})
    else:
        shown = [_words(a.row) if a.row else _class(a.said, a.probabilities) if a.said is not None else sizes(a.volumes) for a in done]
        what = "said" if any(a.said is not None or a.row for a in done) else "volumes"
        table(("case", "file", what), [(a.case, str(a.path or a.problem), words) for a, words in zip(done, shown, strict=True)])
    if any(a.problem for a in done):
        raise VesaliusError(f"{sum(bool(a.problem) for a in done)} of {len(done)} cases could not be answered; they are listed above.")


def _class(said: str, probabilities: dict[str, float] | None) -> str:
    return f"{said} (" + ", ".join(f"{name} {p:.2f}" for name, p in (probabilities or {}).items()) + ")"


def _words(row: dict[str, Any]) -> str:
    """The first things that are said of an image."""
    first = [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in list(row.items())[:4]]
    return ", ".join(first) + (" ..." if len(row) > 4 else "")
