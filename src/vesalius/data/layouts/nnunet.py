"""nnU-Net's raw format, versions 1 and 2: imagesTr/case_0000.nii.gz (one file per channel), labelsTr/case.nii.gz, dataset.json.

Isensee et al. 2021, nnU-Net; regions and the ignore label as in version 2.
"""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from vesalius.core.card import Card
from vesalius.core.errors import DataError
from vesalius.core.files import read_json, write_json
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.layouts import Layout
from vesalius.data.layouts._example import write_case
from vesalius.data.layouts._files import natural, some, stem_of, suffix_of
from vesalius.data.layouts._labels import UNDECLARED, declared
from vesalius.data.layouts._pairing import make_case

CARD = Card(entry="NNUNet", title="nnU-Net raw", summary="imagesTr/case_0000.nii.gz and labelsTr/case.nii.gz with a dataset.json",
            paper="Isensee et al. 2021, Nature Methods 18:203")  # fmt: skip
SPLITS = "splits_final.json"
CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


class NNUNet(Layout):
    """One file per channel, numbered _0000, _0001 ..."""

    needs = "imagesTr with case_0000.nii.gz (one file per channel), labelsTr with case.nii.gz, and best a dataset.json."

    def recognises(self, root: Path) -> float:
        """1 with channel_names in dataset.json, less where only the folders and the _0000 names say so."""
        if not (root / "imagesTr").is_dir() or not (root / "labelsTr").is_dir():
            return 0.0
        if "channel_names" in _words(root):
            return 1.0
        names = [path.name for path in (root / "imagesTr").iterdir()]
        return 0.9 if any(stem_of(name).endswith("_0000") for name in names) else 0.0

    def read(self, root: Path) -> Dataset:
        """imagesTs are test cases where labelsTs holds their masks; otherwise they are left out. Folds of a splits_final.json are kept."""
        words = _words(root)
        channels = channel_names(words)
        train = _cases(root, "Tr", channels)
        test = _cases(root, "Ts", channels)
        notes = [f"{len(test)} test images have no masks (labelsTs) and were left out."] if test and not any(c.masks for c in test) else []
        bare = [case.name for case in train if not case.masks]
        if bare:
            raise DataError(f"{root / 'labelsTr'} lacks the masks of {len(bare)} cases: {some(bare)}. Add them, or take out their images.")
        labels = declared(words["labels"], root / "dataset.json") if "labels" in words else UNDECLARED
        order = words.get("regions_class_order")
        notes += [f"regions_class_order {order} is not needed: each region is learned for itself."] if order else []
        cases = (*train, *(case for case in test if case.masks))
        there = {channel for case in cases for channel in case.images}
        used = (*(c for c in channels.values() if c in there), *sorted(there - set(channels.values())))
        cases, said = _told(cases, words)
        notes += said
        about: dict[str, Any] = {k: words[k] for k in ("reference", "licence", "description") if k in words}
        if folds := _folds(root, cases):
            about["folds"], (cases, said) = folds[0], _first_fold(cases, *folds)
            notes += said
        return Dataset(str(words.get("name", root.name)), root, "segment", cases, used, labels, modality=" + ".join(used),
                       notes=tuple(notes), metadata=about)  # fmt: skip

    def example(self, folder: Path) -> None:
        """Three training cases and one test case of two channels."""
        for k, part in enumerate(("Tr", "Tr", "Tr", "Ts")):
            for channel in range(2):
                write_case(folder / f"images{part}" / f"a_{k:03}_{channel:04}.nii.gz", None, seed=k + channel)
            write_case(None, folder / f"labels{part}" / f"a_{k:03}.nii.gz", seed=k)
        write_json(folder / "dataset.json", {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "part": 1},
                                             "numTraining": 3, "file_ending": ".nii.gz"})  # fmt: skip


def _told(cases: tuple[Case, ...], words: dict[str, Any]) -> tuple[tuple[Case, ...], list[str]]:
    """`cases` with what dataset.json may say beyond nnU-Net: "splits" {part: cases}, "patients" {case: patient} and
    "metadata" {case: {word: value}}."""
    part = {name: part for part, names in (words.get("splits") or {}).items() for name in names if part in ("train", "val", "test")}
    patient, more = words.get("patients") or {}, words.get("metadata") or {}
    told = tuple(
        replace(case, split=part.get(case.name, case.split), patient=str(patient.get(case.name, case.patient)),
                metadata={**case.metadata, **more.get(case.name, {})})
        for case in cases
    )  # fmt: skip
    notes = [f"Splits as dataset.json gives them, for {sum(c.name in part for c in cases)} cases."] if part else []
    notes += [f"{len({c.patient for c in told})} patients in {len(told)} cases, as dataset.json says."] if patient else []
    return told, notes


def _folds(root: Path, cases: tuple[Case, ...]) -> tuple[list[dict[str, list[str]]], Path] | None:
    """The folds of nnU-Net's splits_final.json, which lies beside dataset.json or in nnUNet_preprocessed, and the file."""
    places = (root / SPLITS, root.parent.parent / "nnUNet_preprocessed" / root.name / SPLITS)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return None
    words = read_json(file)
    if not isinstance(words, list) or not words or not all(isinstance(fold, dict) and {"train", "val"} <= set(fold) for fold in words):
        raise DataError(f'{file} is not understood: expected a list of folds, [{{"train": [cases], "val": [cases]}}, ...].')
    folds = [{part: [str(name) for name in fold[part]] for part in ("train", "val")} for fold in words]
    lost = sorted({name for fold in folds for names in fold.values() for name in names} - {case.name for case in cases})
    if lost:
        raise DataError(f"{file} names {len(lost)} cases that are not there: {some(lost)}. Restore them, or move the file away.")
    return folds, file


def _first_fold(cases: tuple[Case, ...], folds: list[dict[str, list[str]]], file: Path) -> tuple[tuple[Case, ...], list[str]]:
    """`cases` on the sides of the first fold, where nothing else places them."""
    side = {name: part for part, names in folds[0].items() for name in names}
    told = tuple(replace(case, split=case.split or side.get(case.name, "")) for case in cases)
    return told, [f"Validation as the first of {len(folds)} folds in {file}; all of them with --folds {len(folds)}."]


def _words(root: Path) -> dict[str, Any]:
    path = root / "dataset.json"
    words = read_json(path) if path.is_file() else {}
    return words if isinstance(words, dict) else {}


def channel_names(words: dict[str, Any]) -> dict[int, str]:
    """Channel number -> name, from channel_names (version 2) or modality (version 1); two of one name are numbered."""
    table = words.get("channel_names") or words.get("modality") or {}
    names = {int(k): str(v) for k, v in table.items()}
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    return {k: f"{name} {k}" if name in twice else name for k, name in sorted(names.items())}


def _cases(root: Path, part: str, channels: dict[int, str]) -> list[Case]:
    folder, labels = root / f"images{part}", root / f"labels{part}"
    images: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = CHANNEL.match(stem_of(path.name))
        if match and suffix_of(path.name) and not path.name.startswith("."):
            number = int(match["channel"])
            images[match["case"]][channels.get(number, f"channel {number}" if number else "image")] = path
    masks = {stem_of(path.name): path for path in labels.iterdir() if suffix_of(path.name)} if labels.is_dir() else {}
    split = "test" if part == "Ts" else ""
    names = sorted(images, key=natural)
    return [make_case(name, images[name], {"reference": masks[name]} if name in masks else {}, split=split) for name in names]
