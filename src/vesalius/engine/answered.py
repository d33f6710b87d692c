"""Answers to scans: how they are asked for, shared among processes, named, measured and listed, whatever computes them (without torch)."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import DataError, UsageError, VesaliusError
from vesalius.core.record import record
from vesalius.core.space import Array
from vesalius.data.case import Case
from vesalius.data.labels import Labels
from vesalius.engine.inputs import stem
from vesalius.io import save
from vesalius.io.image import Image

SUFFIX = {"png": ".png", "jpeg": ".png", "tiff": ".png", "nrrd": ".nrrd", "metaimage": ".mha", "npz": ".npz"}


@dataclass(frozen=True)
class Options:
    """How to predict. `part` of `parts`: this process's share of the cases (the same for every process that asks). `apart`: a mask for
    each label too, in a folder for each case."""

    probabilities: bool = False
    apart: bool = False
    settings: tuple[str, ...] = ()
    overwrite: bool = False
    skip_bad: bool = False
    parts: int = 1
    part: int = 0


@dataclass(frozen=True)
class Answered:
    """A case, the file of its answer, and what went wrong if anything did; `volumes` per label in mL (mm2 or px2 in 2D), or what
    is `said` of the case as a whole, the `probabilities` of each class, and what the rules from validation add (`trust`: thresholds,
    possible classes, answered or not, strange or not). Where images alone were learned from, `row` is what the task says of it."""

    case: str
    path: Path | None
    problem: str = ""
    volumes: dict[str, float] | None = None
    said: str | None = None
    probabilities: dict[str, float] | None = None
    trust: dict[str, Any] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)


def run_at(path: Path | str) -> Path:
    """The folder of a run; an error where there is none."""
    folder = Path(path)
    if not (folder / "plan.json").is_file():
        not_exported(folder)
        raise VesaliusError(f"{folder} is not a run: it has no plan.json. Make one with: vesalius train DATA -o {folder}")
    return folder


def not_exported(folder: Path) -> None:
    """An error where `folder`, which is no run, is a model that one was exported to."""
    if (folder / "model.json").is_file():
        raise VesaliusError(f"{folder} is an exported model, which answers scans: vesalius answer {folder} SCANS. For anything else name "
                            "the run that it was made of.")  # fmt: skip


def name_of(options: Options) -> str:
    """The name of the list of answers; each process that shares the work writes its own."""
    return f"predictions-{options.part}" if options.parts > 1 else "predictions"


def share(cases: Sequence[Case], options: Options) -> list[Case]:
    """The cases of part `part` of `parts`, in their order: processes that see the same cases agree without talking, and no part has
    more than one case above another. They are dealt out in an order drawn from their names, so that large scans, which often follow
    each other, do not meet in one part."""
    if options.parts < 1:
        raise UsageError(f"Expected at least 1 part; got {options.parts}.")
    if not 0 <= options.part < options.parts:
        raise UsageError(f"Expected a part id from 0 to {options.parts - 1}; got {options.part}.")
    drawn = sorted((zlib.crc32(case.name.encode()), case.name) for case in cases)
    mine = {name for _, name in drawn[options.part :: options.parts]}
    return [case for case in cases if case.name in mine]


def no_clash(cases: Sequence[Case], folder: Path) -> None:
    """Refuse two cases of one name, of which one answer would be lost, and answers in the place of the scans."""
    twice = [name for name, number in Counter(case.name for case in cases).items() if number > 1]
    if twice:
        raise DataError(f"{len(twice)} names stand for several scans each, for instance {twice[0]}. Rename one, or predict them apart.")
    for case in cases:
        for path in case.images.values():
            if stem(path) == case.name and path.resolve().parent == folder.resolve():
                raise UsageError(f"The answer to {case.name} would take the place of the scan {path}. Choose another folder with --output.")


def existing(folder: Path, case: Case) -> Path | None:
    """The answer to `case` that is in `folder` already, in whatever form."""
    found = (p for p in folder.glob(f"{_escaped(case.name)}.*") if stem(p) == case.name)
    return next((p for p in found if not p.name.endswith((".npy", ".json"))), None)


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def prediction_path(folder: Path, image: Image, case: Case) -> Path:
    """Where the answer to `case` goes: the form the scan came in (NIfTI for DICOM, PNG for photographs)."""
    suffix = SUFFIX.get(image.source.format, ".nii.gz")
    if image.space.ndim == 3 and suffix == ".png":
        suffix = ".nii.gz"
    return folder / f"{case.name}{suffix}"


def write_apart(said: Array, image: Image, labels: Labels, *, beside: Path) -> None:
    """A mask of 0 and 1 for each label, named by it, in a folder with the name of the case."""
    folder = beside.parent / stem(beside)
    suffix = beside.name.removeprefix(folder.name)
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(labels.names):
        save(image.with_array(labels.mask(said, number)[None].astype(np.uint8)), folder / f"{name.replace('/', '_')}{suffix}")


def volumes(said: Array, image: Image, labels: Labels) -> dict[str, float]:
    """Size per label: mL in 3D, mm2 (or px2) in 2D."""
    one = image.space.voxel_volume / (1000 if image.space.ndim == 3 else 1)
    return {name: round(number * one, 4) for name, number in zip(labels.names, labels.counts(said), strict=True)}


def sizes(volumes: dict[str, float] | None) -> str:
    """Volumes in a line."""
    return ", ".join(f"{name} {size:g}" for name, size in volumes.items()) if volumes else "there already"


def row_of(a: Answered) -> dict[str, Any]:
    """An answer as JSON: its volumes, or what was said of the case."""
    known = {"case": a.case, "file": a.path.name if a.path else None, "problem": a.problem}
    if a.row:
        return {**known, **a.row}
    return {**known, "volumes": a.volumes} if a.said is None else {**known, "said": a.said, "probabilities": a.probabilities, **a.trust}


def report(model: Path, labels: Labels, done: Sequence[Answered]) -> dict[str, Any]:
    """What predict writes beside its answers."""
    return {"model": str(model), "labels": labels.describe(), "cases": [row_of(a) for a in done], "record": record()}
