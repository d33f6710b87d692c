"""`vesalius phantom`: a synthetic cohort with exact truth, to try things on without any patient's data."""

from pathlib import Path
from typing import Annotated

import typer

from vesalius.cli._console import Json, Progress, answer, answer_json, table


def phantom(
    name: Annotated[str, typer.Argument(help="Which phantom; see vesalius shelf phantoms.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="A new folder, in the layout of nnU-Net.")],
    cases: Annotated[int, typer.Option(min=1, help="Scans; a few patients come twice.")] = 24,
    size: Annotated[int, typer.Option(min=16, max=512, help="Voxels from left to right; the other sides fit the head.")] = 56,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same cohort.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Scans made at a time; one per core by default.")] = None,
    json: Json = False,
) -> None:
    """Make a synthetic cohort of scans with exact truth, in patients, sites and a split.

    Example:
      vesalius phantom brain_tumour -o phantoms --cases 24 --size 56
    """
    from vesalius.phantoms import PHANTOMS
    from vesalius.phantoms._cohort import write_cohort

    drawn = PHANTOMS[name]()
    shape = shape_of(size, drawn.extent)
    with Progress("phantoms") as progress:
        write_cohort(drawn, output, cases=cases, shape=shape, seed=seed, workers=workers, progress=progress)
    tell(output, as_json=json)


def shape_of(size: int, extent: tuple[float, ...]) -> tuple[int, ...]:
    """Sides in voxels for a field of view of `extent` millimetres whose first side has `size`: even numbers, isotropic."""
    return size, *(2 * round(size * side / extent[0] / 2) for side in extent[1:])


def tell(folder: Path, *, as_json: bool) -> None:
    """What was made: cases and patients per part, and volumes."""
    from vesalius.core.files import read_json

    words, facts = read_json(folder / "dataset.json"), read_json(folder / "facts.json")
    parts = {part: {"cases": len(names), "patients": len({words["patients"][n] for n in names})} for part, names in words["splits"].items()}
    if as_json:
        volumes = {case: known["volumes_ml"] for case, known in facts.items()}
        answer_json({"folder": folder, "channels": list(words["channel_names"].values()), "labels": words["labels"], "parts": parts,
                     "volumes_ml": volumes})  # fmt: skip
        return
    table(("part", "cases", "patients"), [(part, n["cases"], n["patients"]) for part, n in parts.items()])
    answer(f"Cohort: {folder}")
