"""`vesalius answer`: answers for new scans by an exported model, without torch."""

from pathlib import Path
from typing import Annotated

from vesalius.cli._plain import by_channel, said
from vesalius.cli._screen import answer_json, table
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.core.memory import lasting

PLAIN = True


def answer(
    model: Annotated[Path, said(name="MODEL", help="A folder that vesalius export has written.")],
    inputs: Annotated[Path | None, said(name="SCANS", help="A scan, a DICOM folder or zip, or a folder of them.")] = None,
    output: Annotated[Path, said("--output", "-o", name="PATH", help="Folder for the answers, one file per case.")] = Path("answers"),
    image: Annotated[list[str] | None, said("--image", name="CHANNEL=FILE", help="One case, channel by channel; repeat.")] = None,
    probabilities: Annotated[bool, said("--probabilities", help="Keep the probabilities too (.npy beside each answer).")] = False,
    apart: Annotated[bool, said("--apart", help="A mask of 0 and 1 for each label too, in a folder for each case.")] = False,
    mirror: Annotated[bool, said("--mirror", help="Average over mirrored scans: slower, a little better.")] = False,
    num_parts: Annotated[int, said("--num-parts", name="N", help="Share the cases among N processes, each with its --part-id.")] = 1,
    part_id: Annotated[int, said("--part-id", name="K", help="Which share this process takes, from 0.")] = 0,
    overwrite: Annotated[bool, said("--overwrite", help="Answer again what is answered already.")] = False,
    skip_bad: Annotated[bool, said("--skip-bad", help="Pass over cases that cannot be read, and list them.")] = False,
    json: Annotated[bool, said("--json", help="Answer as JSON on stdout.")] = False,
) -> None:
    """Answer new scans by an exported model: a mask on each scan's own grid. Needs no torch.

    As vesalius predict does with a run: answers that exist are left alone, so a killed job is simply started again,
    and the volume of every label is said and kept in predictions.json. Numpy and kernels in C do the work.

    Example:
      vesalius answer model new_scans/ -o answers
    """
    with lasting():
        from vesalius.cli._listener import Console
        from vesalius.engine.answered import Options, row_of, sizes
        from vesalius.export.answering import answer as work

    named = by_channel(image or [])
    if (inputs is None) == (not named):
        raise UsageError("Name the scans: vesalius answer MODEL SCANS, or --image CHANNEL=FILE for each channel of one case.")
    options = Options(probabilities=probabilities, apart=apart, overwrite=overwrite, skip_bad=skip_bad, parts=num_parts, part=part_id)
    done = work(model, inputs or Path(), output, images=named, options=options, mirror=mirror, listener=Console())
    if json:
        answer_json({"cases": [{**row_of(one), "file": one.path, "problem": one.problem or None} for one in done]})
    else:
        table(("case", "file", "volumes"), [(one.case, str(one.path or one.problem), sizes(one.volumes)) for one in done])
    if any(one.problem for one in done):
        raise VesaliusError(f"{sum(bool(one.problem) for one in done)} of {len(done)} cases could not be answered; they are listed above.")
