"""`vesalius phantom`: a synthetic cohort with exact truth, to try things on without any patient's data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vesalius.cli._console import Json
from vesalius.cli._screen import Progress, answer, answer_json, table

if TYPE_CHECKING:
    from vesalius.phantoms import Phantom


def phantom(
    name: Annotated[str, typer.Argument(help="Which phantom; see vesalius shelf phantoms.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="A new folder.")],
    cases: Annotated[int, typer.Option(min=1, help="Scans; a few patients come twice.")] = 24,
    size: Annotated[int | None, typer.Option(min=16, max=1024, help="Voxels along the first side; by default enough to see all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same cohort.")] = 0,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="An option of the phantom.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Scans made at a time; one per core by default.")] = None,
    json: Json = False,
) -> None:
    """Make a synthetic cohort of scans with exact truth, in patients, sites and a split.

    Example:
      vesalius phantom brain_tumour -o phantoms --cases 24 --size 56
      vesalius phantom chest_xray -o films --cases 200 --size 256 --set shortcut=0.8
    """
    from vesalius.phantoms._cohort import write_cohort

    drawn = built(name, assignments or [])
    shape = shape_of(size or drawn.shape[0], drawn.extent)
    with Progress("phantoms") as progress:
        write_cohort(drawn, output, cases=cases, shape=shape, seed=seed, workers=workers, progress=progress)
    tell(drawn, output, as_json=json)


def built(name: str, assignments: list[str]) -> "Phantom":
    """The phantom with its own options as `NAME=VALUE` texts give them."""
    import inspect

    from vesalius.core.errors import UsageError, suggest
    from vesalius.core.values import parse_value
    from vesalius.phantoms import PHANTOMS

    entry, options = PHANTOMS[name], {}
    for text in assignments:
        word, found, value = text.partition("=")
        known = [k for k in inspect.signature(entry).parameters if entry.__init__ is not object.__init__]
        if not found or word not in known:
            raise UsageError(suggest(word, known, f"option of the phantom {name!r}") if found else f"Expected NAME=VALUE; got {text!r}.")
        options[word] = parse_value(value)
    try:
        made: Phantom = entry(**options)
    except TypeError as problem:
        raise UsageError(f"{name} cannot be made with {', '.join(assignments)}: {problem}.") from None
    return made


def shape_of(size: int, extent: tuple[float, ...]) -> tuple[int, ...]:
    """Sides in voxels for a field of view of `extent` millimetres whose first side has `size`: even numbers, isotropic."""
    return size, *(2 * round(size * side / extent[0] / 2) for side in extent[1:])


def tell(drawn: "Phantom", folder: Path, *, as_json: bool) -> None:
    """What was made: cases and patients per part, and sizes of what is to be seen."""
    import csv

    from vesalius.core.files import read_json

    rows = list(csv.DictReader((folder / "cases.csv").read_text(encoding="utf-8").splitlines()))
    groups = {part: [row for row in rows if row["split"] == part] for part in ("train", "val", "test")}
    parts = {part: {"cases": len(some), "patients": len({row["patient"] for row in some})} for part, some in groups.items()}
    for part, some in groups.items():
        parts[part] |= {kind: sum(row["class"] == kind for row in some) for kind in drawn.classes}
    if as_json:
        sizes = "_".join(drawn.measure[:2])
        known = {case: facts[sizes] for case, facts in read_json(folder / "facts.json").items()}
        answer_json({"folder": folder, "channels": list(drawn.channels), "labels": {"background": 0, **drawn.labels},
                     "classes": list(drawn.classes), "parts": parts, sizes: known})  # fmt: skip
        return
    table(("part", "cases", "patients", *drawn.classes), [(part, *n.values()) for part, n in parts.items()])
    answer(f"Cohort: {folder}")
