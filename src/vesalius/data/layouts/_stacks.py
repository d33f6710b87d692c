"""Stacks of pictures in one .npz as MedMNIST has them: train_images (N, rows, columns), train_labels (N, 1 or K), and so for val and test.

Yang et al. 2023, MedMNIST v2, Scientific Data 10:41.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vesalius.core.errors import DataError
from vesalius.data.case import Case
from vesalius.data.labels import Labels

PARTS = ("train", "val", "test")


def stacks(root: Path) -> list[Path]:
    """The .npz at `root`, or those in the folder, that hold stacks of images with labels."""
    files = [root] if root.is_file() and root.suffix == ".npz" else sorted(root.glob("*.npz")) if root.is_dir() else []
    return [path for path in files if zipfile.is_zipfile(path) and {"train_images", "train_labels"} <= _keys(path)]


def _keys(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as box:
        return {name.removesuffix(".npy") for name in box.namelist()}


def answers(path: Path) -> dict[str, NDArray[np.int64]]:
    """(N, K) whole numbers of each part that is there."""
    with np.load(path, allow_pickle=False) as box:
        found = {part: np.atleast_2d(box[f"{part}_labels"].T).T.astype(np.int64) for part in PARTS if f"{part}_labels" in box}
    sizes = {part: _length(path, f"{part}_images") for part in found}
    wrong = [part for part, labels in found.items() if len(labels) != sizes[part]]
    if wrong:
        raise DataError(f"{path}: {wrong[0]} has {sizes[wrong[0]]} images and {len(found[wrong[0]])} labels. Make the file again.")
    return found


def _length(path: Path, key: str) -> int:
    """How many images a stack holds, from its header."""
    with zipfile.ZipFile(path) as box:
        return _shape(box, key)[0]


def lengths(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every array in an .npz, from the headers."""
    with zipfile.ZipFile(path) as box:
        return {name.removesuffix(".npy"): _shape(box, name.removesuffix(".npy")) for name in box.namelist() if name.endswith(".npy")}


def _shape(box: zipfile.ZipFile, key: str) -> tuple[int, ...]:
    with box.open(key + ".npy") as stream:
        version = npy.read_magic(stream)
        shape = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)[0]
        return tuple(int(side) for side in shape)


def cases(path: Path, labels: Labels, found: dict[str, NDArray[np.int64]]) -> list[Case]:
    """A case for each image, which is read when it is asked for; each counts as a patient of its own."""
    names = {parts[0]: name for name, parts in zip(labels.names, labels.values, strict=True)}
    strange = {int(v) for rows in found.values() for v in np.unique(rows)} - set(names) if labels.one_of else set()
    if strange:
        raise DataError(f"{path}: the classes {sorted(strange)} have no name. Known: {labels.describe()}.")
    made = []
    for part, rows in found.items():
        digits = len(str(len(rows)))
        for k, row in enumerate(rows.tolist()):
            classes = {names[row[0]]: 1} if labels.one_of else dict(zip(labels.names, map(int, row), strict=True))
            name = f"{part}_{k:0{digits}}"
            made.append(Case(name, name, {"image": Path(f"{path}#{part}_images[{k}]")}, split=part, classes=classes))
    return made


def plain_names(found: dict[str, NDArray[np.int64]]) -> Sequence[str]:
    """Names for classes of which only numbers are known."""
    width = next(iter(found.values())).shape[1]
    if width > 1:
        return [f"finding {k}" for k in range(width)]
    return [f"class {k}" for k in range(int(max(rows.max() for rows in found.values())) + 1)]
