"""Options that several commands share, and what they show in common."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vesalius.cli._screen import answer, table
from vesalius.core.errors import UsageError

if TYPE_CHECKING:
    from vesalius.data.dataset import Dataset

Data = Annotated[Path, typer.Argument(metavar="DATA", help="A folder of scans with masks, or of classes; a dataset.json, CSV or .npz.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, made by vesalius train.")]
Budget = Annotated[str, typer.Option(help="Time for everything: 20m, 1h30m, 90s; 'none' for a fixed number of steps.")]
Memory = Annotated[str | None, typer.Option(help="Memory that training may use: 8G, 512M.")]
Folds = Annotated[int | None, typer.Option(help="Cross-validation folds (1: one training and one validation part); planned if not given.")]
Members = Annotated[int, typer.Option(min=1, help="Networks that answer together, each learned from another seed; they share the time.")]
Layout = Annotated[str | None, typer.Option(help="Read DATA in this layout instead of the one recognised (vesalius shelf data.layouts).")]
Images = Annotated[list[str] | None, typer.Option("--image", metavar="GLOB", help="Files of one channel ('*_flair.nii.gz'); repeat.")]
Channels = Annotated[list[str] | None, typer.Option("--channel", metavar="NAME", help="Take these channels alone; repeat.")]
Mask = Annotated[list[str] | None, typer.Option("--mask", metavar="GLOB",
                                                help="Files of the masks; a second one is a second rater, LABEL=GLOB a label.")]
Patient = Annotated[str | None, typer.Option(metavar="REGEX", help="What in a case's name is the patient (first group).")]
Task = Annotated[str | None, typer.Option(help="Learn from images alone for this: anomaly, pretrain or generate (vesalius shelf tasks).")]
Method = Annotated[str | None, typer.Option(help="The way of learning (vesalius shelf methods).")]
Normal = Annotated[list[str] | None, typer.Option(metavar="CLASS", help="With --task anomaly: this class is normal; repeat.")]
Controls = Annotated[bool, typer.Option("--controls/--no-controls", help="Look whether margin, centre or site tell the classes.")]
Label = Annotated[list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="What a mask value means (tumour=2+3); repeat.")]


def opened(data: Path, *, layout: str | None, image: list[str] | None, mask: list[str] | None, patient: str | None,
           label: list[str] | None, channel: list[str] | None = None, unlabelled: bool = False) -> "Dataset":  # fmt: skip
    """The data set at `data`, with what the user said of it; `unlabelled`: images without any answer will do."""
    from vesalius.data.dataset import Dataset

    said = {"layout": layout, "image": image, "mask": mask, "patient": patient, "labels": label, "unlabelled": unlabelled}
    found = Dataset.open(data, **{name: value for name, value in said.items() if value})
    return found.with_channels(channel) if channel else found


def not_both(given: dict[str, bool]) -> None:
    """Options that undo each other are refused."""
    if all(given.values()):
        raise UsageError(f"{' and '.join(given)} undo each other: give one of them.")


def as_settings(init: Path | None, method: str | None) -> list[str]:
    """What --init and --method say, in the words of --set."""
    return [*([f"train.init={init.resolve()}"] if init else []), *([f"train.method={method}"] if method else [])]


def scores_table(metrics: dict[str, Any]) -> None:
    """The measures that lead, per part and label, with intervals, the baseline beside them."""
    from vesalius.report.glossary import measure
    from vesalius.report.tables import beside, called

    if metrics.get("leaky_split"):
        answer(f"LEAKY SPLIT, the scores are too good: {metrics['leaky_split']}")
    shown, rows = _defined(metrics), []
    for part, scores in metrics["parts"].items():
        baseline = scores.get("baseline") or {}
        people = {"model": scores.get("model") or {}, called(baseline): baseline, **beside(scores), **scores["raters"]}
        for who, found in people.items():
            tables = {who: found.get("summary") or {}} | _grouped(found, who)
            for name, table_of in tables.items():
                rows += [[part, name, label, *(interval(cells.get(word)) for word in shown)] for label, cells in table_of.items()]
    if rows:
        units = {"length": f" {metrics['unit']}"}
        table(("part", "who", "label", *(f"{measure(n).title} [95 %]{units.get(measure(n).size, '')}" for n in shown)), rows)
        answer("")


def _defined(metrics: dict[str, Any]) -> list[str]:
    """The measures that lead, without those that the model has of no part; where it has none of them, those that it has: a table of dashes
    says nothing."""
    named = metrics.get("leading") or ["dice", "hd95", "nsd"]
    summaries = [(scores.get("model") or {}).get("summary") or {} for scores in metrics["parts"].values()]
    there = dict.fromkeys(name for summary in summaries for cells in summary.values() for name in cells if name != "counts")
    return [name for name in named if name in there] or list(there) or list(named)


def _grouped(scores: dict[str, Any], who: str) -> dict[str, Any]:
    """{"model, sex F": its summary} for every group by which scores were summarised."""
    groups = scores.get("groups") or {}
    return {f"{who}, {key} {value}": found for key, values in groups.items() for value, found in values.items()}


def interval(cell: dict[str, Any] | None) -> str:
    """Mean and interval, as they stand in a table."""
    if cell is None or cell["mean"] is None:
        return "–"
    if cell["low"] is None:
        return f"{cell['mean']:.3f}"
    return f"{cell['mean']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"
