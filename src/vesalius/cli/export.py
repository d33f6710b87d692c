"""`vesalius export`: a model that answers without torch."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.cli import _options as o
from vesalius.cli._console import Json
from vesalius.cli._screen import answer, answer_json
from vesalius.core.memory import lasting


def export(
    run: o.RunFolder,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the model.")] = Path("model"),
    overwrite: Annotated[bool, typer.Option(help="Replace a model that is there.")] = False,
    json: Json = False,
) -> None:
    """Write a model that answers scans where there is no torch: a folder to copy.

    Where scans are to be answered, the plain installation does (pip install vesalius, about 85 MB): numpy and kernels in C take the place
    of torch. The model is compared with the run on the spot, and what was found is said and kept. Models that answer voxel by
    voxel can be exported, all folds and seeds together.

    Example:
      vesalius export run -o model
      vesalius answer model new_scans/ -o answers
    """
    with lasting():
        from vesalius.cli._listener import Console
        from vesalius.export.exporting import export as work

    made = work(run, output, overwrite=overwrite, listener=Console())
    if json:
        answer_json({"model": output, "networks": len(made.networks), "compared": made.compared})
        return
    answer(f"{output}: {len(made.networks)} network{'s' if len(made.networks) > 1 else ''}, labels {made.labels.describe()}")
    for number in ("fp32", "bf16"):
        if (off := made.compared.get(f"{number}_difference")) is not None:
            same = made.compared[f"{number}_same_labels"]
            answer(f"In {number} logits are within {off:.1e} of the run's largest; {same:.4%} of voxels have the same label (noise).")
    answer(f"Answer scans: vesalius answer {output} SCANS -o answers")
