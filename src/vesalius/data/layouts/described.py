"""A folder that describes itself: a dataset.json with task, modality, labels, splits and grouping rule, and files beside it."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from vesalius.core.card import Card
from vesalius.core.errors import DataError
from vesalius.core.files import read_json, write_json
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.layouts import Layout
from vesalius.data.layouts._described import classified, parted
from vesalius.data.layouts._example import write_case
from vesalius.data.layouts._files import leaves, some
from vesalius.data.layouts._groups import by_rule
from vesalius.data.layouts._labels import declared
from vesalius.data.layouts._pairing import pair, with_masks
from vesalius.data.layouts._tables import joined

CARD = Card(entry="Described", title="dataset.json with splits", summary="A dataset.json with task, labels, group and splits")
TASKS = {"segment": "segment", "classif": "classify", "detect": "detect", "registr": "register", "reconstr": "reconstruct"}
WITH_CLASSES = ("classify",)  # tasks whose target is a class per case
WITH_MASKS = ("segment",)  # tasks whose target is a mask file; the others have layouts of their own


class Described(Layout):
    """A dataset.json says what the files are."""

    needs = 'a dataset.json with "task", "labels" and "splits" or "group", and image and mask files named alike beside it.'

    def recognises(self, root: Path) -> float:
        """1 where dataset.json has a task and splits or a group."""
        words = _words(root)
        return float("task" in words and ("splits" in words or "group" in words) and "training" not in words)

    def read(self, root: Path, *, take: str = "") -> Dataset:
        """`take` names a kind of mask that would be set aside ("scribble") to be the reference instead."""
        words = read_json(root / "dataset.json")
        task = task_of(str(words.get("task", "segmentation")))
        if task in WITH_CLASSES:
            return _of_classes(root, words)
        if task not in WITH_MASKS:
            raise DataError(f"{root}: the task {words['task']!r} is not one of segmentation or classification; this layout reads images "
                            "with masks, or with classes.")  # fmt: skip
        paired = with_masks(pair(leaves(root), mask_word=take))
        if not paired.cases:
            raise DataError(f"{root} holds no masks that are read as labels. {' '.join(paired.notes)} A kind that was left aside can "
                            "be taken as the mask: take='scribble'.")  # fmt: skip
        cases, notes = joined(paired.cases, root)
        cases = with_name_class(cases)
        cases, said = _split(cases, words.get("splits") or {}, None if take else root)
        grouped, how = by_rule(cases, str(words.get("group", "none")))
        notes = [*paired.notes, *notes, *said, *how]
        about = {key: words[key] for key in ("source", "licence", "note", "group") if key in words}
        labels = declared(words["labels"], root / "dataset.json") if "labels" in words else declared({})
        return Dataset(str(words.get("name", root.name)), root, task, tuple(grouped), paired.channels, labels,
                       modality=str(words.get("modality", "")), notes=tuple(notes), metadata=about)  # fmt: skip

    def example(self, folder: Path) -> None:
        """Three patients of two cases each; the rule of grouping is arithmetic."""
        for k in range(1, 7):
            write_case(folder / f"scan_{k:03}.png", folder / f"scan_{k:03}_mask.png", seed=k)
        write_json(folder / "dataset.json", {
            "name": "example", "task": "segmentation2d", "modality": "ultrasound", "labels": {"0": "background", "1": "lesion"},
            "group": "subject=(id+1)//2", "splits": {"train": ["scan_001", "scan_002"], "val": ["scan_003", "scan_004"],
                                                     "test": ["scan_005", "scan_006"]},
        })  # fmt: skip


def _of_classes(root: Path, words: dict[str, Any]) -> Dataset:
    """A data set for classification."""
    cases, labels = classified(root, words)
    cases = parted(cases, words.get("splits") or {}, root)
    grouped, how = by_rule(cases, str(words.get("group", "none")))
    about: dict[str, Any] = {key: words[key] for key in ("source", "licence", "note", "group") if key in words}
    return Dataset(str(words.get("name", root.name)), root, "classify", tuple(grouped), ("image",), labels,
                   modality=str(words.get("modality", "")), notes=tuple(how), metadata=about)  # fmt: skip


def _words(root: Path) -> dict[str, Any]:
    path = root / "dataset.json"
    words = read_json(path) if path.is_file() else {}
    return words if isinstance(words, dict) else {}


def task_of(text: str) -> str:
    """The task that is named first in a sentence."""
    places = {task: text.lower().find(stem) for stem, task in TASKS.items() if stem in text.lower()}
    return min(places, key=lambda task: places[task]) if places else text


def with_name_class(cases: list[Case]) -> list[Case]:
    """The word before the number (benign_001, normal_002) as metadata "class", where a few words name all cases."""
    matches = [re.match(r"([A-Za-z]+)[ _\-(]*\d", case.name) for case in cases]
    words = [match[1] for match in matches if match]
    few = 1 < len(set(words)) <= 10 and min(words.count(word) for word in set(words)) >= 0.05 * len(cases)
    if len(words) < len(cases) or not few:
        return cases
    return [replace(case, metadata={"class": word, **case.metadata}) for case, word in zip(cases, words, strict=True)]


def _split(cases: list[Case], splits: dict[str, list[str]], root: Path | None) -> tuple[list[Case], list[str]]:
    """Each case in the part that lists it, or lists its patient (p001 for p001_ED and p001_ES). A name without files is an
    error that names `root`, or is passed over where that is None."""
    parts = {str(entry): part for part, entries in splits.items() for entry in entries}
    names = {case.name for case in cases}
    wanted = {entry: [entry] if entry in names else [c.name for c in cases if _belongs(c.name, entry)] for entry in parts}
    absent = [entry for entry, found in wanted.items() if not found]
    if absent and root:
        raise DataError(f"{root / 'dataset.json'}: the splits name {len(absent)} cases whose files are not there: {some(absent)}. "
                        "Restore the files, or take the names out of the splits.")  # fmt: skip
    owner = {name: entry for entry, found in wanted.items() for name in found}
    if not parts:
        return cases, []
    placed = [_placed(case, owner.get(case.name), parts) for case in cases]
    loose = [case.name for case in placed if not case.split]
    return placed, [f"{len(loose)} cases are in no split: {some(loose)}."] if loose else []


def _belongs(name: str, patient: str) -> bool:
    """Whether a case's name is the patient's name and a visit or phase after it."""
    return name.startswith(patient) and not name[len(patient)].isalnum()


def _placed(case: Case, entry: str | None, parts: dict[str, str]) -> Case:
    if entry is None:
        return case
    patient = case.patient if entry == case.name or case.patient != case.name else entry
    return replace(case, split=parts[entry], patient=patient)
