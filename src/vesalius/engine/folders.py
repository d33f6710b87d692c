"""Cases behind a path that is more than a file with a scan: folders of scans, series and sets of them, DICOM, tables, stacks of images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vesalius.core.errors import DataError, FormatError, UsageError, VesaliusError
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.layouts._stacks import stacks
from vesalius.data.layouts.class_table import listed
from vesalius.data.layouts.images import stacked
from vesalius.engine.dicoms import is_one, loose
from vesalius.engine.inputs import ENDINGS, stem
from vesalius.io import recognise


def behind(path: Path, channels: Sequence[str]) -> list[Case]:
    """As `inputs.cases_of` says, of a path that is there."""
    if stacked(path):
        return _of_dataset(Dataset.open(path, unlabelled=True), path, channels)
    if path.is_dir() and _is_dicom(path) and len(channels) == 1 and (single := loose(path, channels[0])):
        return single
    if path.is_dir() and not _is_series(path):
        return _folder(path, channels)
    if path.suffix.lower() in (".csv", ".tsv"):
        return _of_dataset(listed(path) or Dataset.open(path), path, channels)
    if stacks(path):
        return _of_dataset(Dataset.open(path), path, channels)
    if len(channels) > 1:
        raise UsageError(
            f"The model wants the channels {', '.join(channels)}. Name each: --image {channels[0]}=FILE --image {channels[1]}=FILE"
        )
    return [Case(stem(path), stem(path), {channels[0]: path})]


def _folder(path: Path, channels: Sequence[str]) -> list[Case]:
    numbered = _numbered(path, channels)
    if numbered:
        return numbered
    try:
        found = Dataset.open(path)
    except VesaliusError as problem:
        if len(channels) > 1:
            raise
        if plain := _plain(path, channels[0]):
            return plain
        raise DataError(f"{path} holds no image that vesalius can read ({', '.join(ENDINGS)}), and is no data set: {problem}") from None
    return _of_dataset(found, path, channels)


def _of_dataset(found: Dataset, path: Path, channels: Sequence[str]) -> list[Case]:
    """The cases of a data set whose channels are those wanted; a single one may be called otherwise."""
    missing = [name for name in channels if name not in found.channels]
    if missing and len(channels) == len(found.channels) == 1:
        return [replace(c, images={channels[0]: p}) for c in found.cases for p in c.images.values()]
    if len(missing) == len(channels):
        raise DataError(f"{path} has the channels {', '.join(found.channels)}; the model wants {', '.join(channels)}.")
    return list(found.cases)


def _numbered(path: Path, channels: Sequence[str]) -> list[Case]:
    """`<case>_0000.nii.gz` files, as nnU-Net names channels; nothing where any image is named otherwise or counts further
    (`frame_0000.png`, `frame_0001.png` ... for one channel are pictures in a row)."""
    cases: dict[str, dict[str, Path]] = {}
    for file in (f for f in sorted(path.iterdir()) if f.name.lower().endswith(ENDINGS)):
        name, _, number = stem(file).rpartition("_")
        if not (len(number) == 4 and number.isdigit() and name):
            return []
        if int(number) >= len(channels):
            if len(channels) == 1:
                return []
            raise DataError(f"{file} is channel {int(number)} of a case; the model knows 0 to {len(channels) - 1} ({', '.join(channels)}).")
        cases.setdefault(name, {})[channels[int(number)]] = file
    return [Case(name, name, images) for name, images in cases.items()]


def _plain(path: Path, channel: str) -> list[Case]:
    """Every readable file, and every folder that holds a series."""
    found = [p for p in sorted(path.iterdir()) if p.name.lower().endswith(ENDINGS) or (p.is_dir() and _is_series(p))]
    return [Case(stem(p), stem(p), {channel: p}) for p in found]


def _is_series(path: Path) -> bool:
    """Whether `path` is DICOM that is read as one thing."""
    return _is_dicom(path) and (path.is_file() or is_one(path))


def _is_dicom(path: Path) -> bool:
    try:
        return recognise(path) == "dicom"
    except FormatError:
        return False
