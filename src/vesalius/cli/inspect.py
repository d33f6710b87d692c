"""`vesalius inspect`: what a data set is, how it was recognised, and what the doctor finds, before anything is learned."""

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vesalius.cli import _options as o
from vesalius.cli._console import Json
from vesalius.cli._screen import Progress, answer, answer_json, say, table

if TYPE_CHECKING:
    from vesalius.data.dataset import Dataset
    from vesalius.data.doctor import Finding

PAINT = {"error": "\033[31m", "warning": "\033[33m", "repaired": "\033[36m", "note": ""}


def inspect(
    data: o.Data,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Write doctor.json and pictures here.")] = None,
    layout: o.Layout = None,
    image: o.Images = None,
    mask: o.Mask = None,
    patient: o.Patient = None,
    label: o.Label = None,
    controls: o.Controls = True,
    json: Json = False,
) -> int:
    """Look at a data set: how it was recognised, what is wrong with it, and what to do.

    Ends with exit code 1 where something would stop a training.

    Example:
      vesalius inspect scans/ -o looked_at
      vesalius inspect scans/ --image '*_flair.nii.gz' --image '*_t1c.nii.gz' --mask '*_seg.nii.gz' --patient '^(p[0-9]+)'
    """
    from vesalius.data.doctor import draw, examine

    dataset = o.opened(data, layout=layout, image=image, mask=mask, patient=patient, label=label)
    with Progress("examining") as tick:
        findings = examine(dataset, progress=tick, controls=controls)
    pictures = []
    if output:
        pictures = draw(dataset, findings, output)
        write_findings(output / "doctor.json", findings)
    if json:
        about = {k: v for k, v in dataset.to_json().items() if k != "cases"}
        answer_json({**about, "parts": parts(dataset), "findings": [asdict(f) for f in findings], "pictures": pictures})
    else:
        show(dataset, findings)
        for path in pictures:
            say(f"Picture: {path}")
    return int(any(finding.severity == "error" for finding in findings))


def write_findings(path: Path, findings: Sequence["Finding"]) -> None:
    """The findings as JSON."""
    from vesalius.core.files import write_json

    write_json(path, [asdict(finding) for finding in findings])


def parts(dataset: "Dataset") -> dict[str, dict[str, int]]:
    """Cases and patients of each given part, and of all."""
    names = {case.split or "no part given": () for case in dataset.cases}
    found = {name: [case for case in dataset.cases if (case.split or "no part given") == name] for name in sorted(names)}
    found["all"] = list(dataset.cases)
    return {name: {"cases": len(cases), "patients": len({case.patient for case in cases})} for name, cases in found.items()}


def show(dataset: "Dataset", findings: Sequence["Finding"]) -> None:
    """The data set and the findings as text."""
    answer(" ".join(word for word in (f"{dataset.name}:", dataset.task, dataset.modality) if word))
    for note in dataset.notes:
        answer(textwrap.fill(note, 120, initial_indent="  - ", subsequent_indent="    "))
    table(("part", "cases", "patients"), [(name, count["cases"], count["patients"]) for name, count in parts(dataset).items()])
    answer("")
    for finding in findings:
        answer(told(finding, colour=sys.stdout.isatty()))
    shown = [row for finding in findings for row in finding.details.get("rows", ())]
    if shown:
        table(("a shallow look at", "tells", "area [95 %]", "shuffled labels [95 %]"), [control(row) for row in shown])
        answer("")
    counts = {word: sum(f.severity == word for f in findings) for word in PAINT}
    answer("Findings: " + (", ".join(f"{n} {word}" for word, n in counts.items() if n) or "none. The data set is fit to train on") + ".")


def control(row: dict[str, Any]) -> tuple[str, str, str, str]:
    """One line of the table of controls."""
    ends = [f"{row[value]:.3f} [{row[low]:.3f}, {row[high]:.3f}]"
            for value, low, high in (("auc", "low", "high"), ("shuffled", "shuffled_low", "shuffled_high"))]  # fmt: skip
    bound = f" (goes with the class: V {row['v']:.2f})" if "v" in row else ""
    return row["what"], row["tells"] + bound, *ends


def told(finding: "Finding", *, colour: bool) -> str:
    """One finding with its remedy, in lines of 120 letters."""
    paint, plain = (PAINT[finding.severity], "\033[0m") if colour and PAINT[finding.severity] else ("", "")
    lines = textwrap.wrap(f"{finding.check}: {finding.message}", 110)
    lines += textwrap.wrap(f"-> {finding.remedy}", 110, break_long_words=False, break_on_hyphens=False) if finding.remedy else []
    return f"{paint}{finding.severity:<9}{plain}" + "\n         ".join(lines)
