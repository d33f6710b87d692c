"""`vesalius transfer`: are weights learned without labels, or elsewhere, better than none on this data?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from vesalius.cli import _options as o
from vesalius.cli._console import Json, Settings
from vesalius.cli._screen import answer, answer_json, table
from vesalius.core.memory import lasting


def transfer(
    data: o.Data,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Everything lands there; an audit is continued.")],
    labels: Annotated[str, typer.Option(help="Numbers of labelled cases, those to validate on included.")] = "10,20,50,100",
    budget_per_run: Annotated[str, typer.Option(help="Time for learning in each run: 30s, 2m; 'none' for a number of steps.")] = "30s",
    budget_unlabelled: Annotated[str, typer.Option(help="Time for each learning without labels, or a number of steps, if another.")] = "",
    seeds: Annotated[int, typer.Option(help="How often everything is repeated, with other labels and other weights.")] = 3,
    methods: Annotated[str | None, typer.Option(help="Rivals that learn without labels: simclr,mae.")] = None,
    init: Annotated[list[str] | None, typer.Option(metavar="NAME=PATH", help="Further weights: run or .safetensors file; repeat.")] = None,
    settings: Settings = None,
    overwrite: Annotated[bool, typer.Option(help="Start again in a folder that holds an audit.")] = False,
    fix_split: Annotated[bool, typer.Option(help="Put copies that the given split tears apart on one side.")] = False,
    layout: o.Layout = None,
    image: o.Images = None,
    mask: o.Mask = None,
    patient: o.Patient = None,
    label: o.Label = None,
    json: Json = False,
) -> None:
    """Compare beginnings: from scratch, from given weights, and from learning without labels, at several numbers of labels.

    Every rival gets the same network, the same labelled patients, the same number of steps and the same seeds, and is
    tested on the same patients. An audit that was stopped or killed is continued by the same command; rivals, numbers of
    labels and seeds may be added.

    Example:
      vesalius transfer xrays.csv -o audit --labels 20,100 --budget-per-run 30s --methods scratch,simclr
      vesalius transfer xrays.csv -o audit --init general=resnet18.safetensors --set net.name=resnet
    """
    with lasting():
        from vesalius.audit.transfer import transfer as work
        from vesalius.audit.transfer_plan import USUAL, Asked
        from vesalius.cli._listener import Console
        from vesalius.report.transfer import write_transfer

    dataset = o.opened(data, layout=layout, image=image, mask=mask, patient=patient, label=label)
    chosen = methods.split(",") if methods else USUAL.get(dataset.grain, ())
    asked = Asked.checked({"labels": _numbers(labels), "seeds": seeds, "budget": None if budget_per_run == "none" else budget_per_run,
                           "unlabelled": budget_unlabelled, "methods": [word.strip() for word in chosen if word.strip()],
                           "inits": _named(init or []), "settings": settings or [], "fix_split": fix_split},
                          where="the options")  # fmt: skip
    found = work(dataset, output, asked=asked, listener=Console(), overwrite=overwrite)
    page = write_transfer(found, output / "transfer.html")
    if json:
        answer_json({**found, "page": page})
        return
    for number, row in found["tables"].get("fine_tuned", {}).items():
        table(("begins from", found["measure"], "95 %", "less scratch"), [_row(name, cell) for name, cell in row.items()],
              title=f"{number} labels, {found['test']['cases']} test cases")  # fmt: skip
        answer("")
    for line in (found["verdict"]["headline"], *found["verdict"]["sentences"], *found["remarks"], f"Report: {page}"):
        answer(line)


def _row(name: str, cell: dict[str, Any]) -> tuple[Any, ...]:
    from vesalius.audit.verdicts import signed

    ends = f"{cell['low']:.3f} to {cell['high']:.3f}" if cell["low"] is not None else None
    return name, cell["value"], ends, signed(cell["gap"]) if cell["gap"] else None


def _numbers(text: str) -> list[int]:
    """'10,20' as numbers."""
    from vesalius.core.errors import UsageError

    try:
        return [int(word) for word in text.split(",") if word.strip()]
    except ValueError:
        raise UsageError(f"Expected numbers of labels, for instance --labels 10,20,50; got {text!r}.") from None


def _named(words: list[str]) -> dict[str, str]:
    """NAME=PATH options as a mapping."""
    from vesalius.core.errors import UsageError

    pairs = [word.partition("=") for word in words]
    if wrong := [word for word, (name, _, path) in zip(words, pairs, strict=True) if not name or not path]:
        raise UsageError(f"Expected --init NAME=PATH, for instance general=resnet18.safetensors; got {wrong[0]!r}.")
    return {name: str(Path(path).resolve()) for name, _, path in pairs}
