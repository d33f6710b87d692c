"""A folder for each class: root/CLASS/image, or root/train/CLASS/image with val and test beside it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vesalius.core.card import Card
from vesalius.core.errors import DataError
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.layouts import Layout
from vesalius.data.layouts._classes import of_words
from vesalius.data.layouts._example import write_case
from vesalius.data.layouts._files import holds_mark, is_series, natural, some, stem_of, suffix_of
from vesalius.data.layouts._pairing import IMAGE_FOLDER, MASK, MASK_FOLDER, SPLITS
from vesalius.data.layouts._tables import joined

CARD = Card(entry="ClassFolders", title="class folders", summary="A folder per class: CLASS/*.png, or train/CLASS/*.png and so on",
            tasks=("classify",))  # fmt: skip
ENOUGH = 2  # class folders


class ClassFolders(Layout):
    """The name of the folder is the class of every image in it; a folder inside it is a patient, or a DICOM series."""

    needs = "a folder per class with its images (normal/1.png, pneumonia/2.png), or train/, val/ and test/ with such folders."

    def recognises(self, root: Path) -> float:
        """0.4 where at least two folders hold images and none is named like images or masks."""
        found = classes(root)
        names = {name for _, name, _ in found}
        if len(names) < ENOUGH or any(IMAGE_FOLDER.match(name) or MASK_FOLDER.match(name) for name in names):
            return 0.0
        return 0.4 if all(next(images(folder), None) for _, _, folder in found) else 0.0

    def read(self, root: Path) -> Dataset:
        """Patients are the folders inside a class folder, or a column `patient` of a table beside them."""
        found = classes(root)
        if len({name for _, name, _ in found}) < ENOUGH:
            raise DataError(f"{root}: expected a folder per class, found {some(name for _, name, _ in found) or 'none'}.")
        labels = of_words((name for _, name, _ in found), root)
        cases = [_case(path, folder, name, split=split) for split, name, folder in found for path in images(folder)]
        cases, notes = joined(distinct(cases), root)
        return Dataset(root.name, root, "classify", tuple(cases), ("image",), labels, notes=tuple(notes))

    def example(self, folder: Path) -> None:
        """Two classes in train and test."""
        for k in range(8):
            write_case(folder / ("train" if k < 6 else "test") / ("normal", "tumour")[k % 2] / f"{k}.png", None, seed=k)


def classes(root: Path) -> list[tuple[str, str, Path]]:
    """(split, class, folder) of each class folder."""
    if not root.is_dir():
        return []
    inside = _folders(root)
    if inside and all(folder.name.lower() in SPLITS for folder in inside):
        return [(SPLITS[part.name.lower()], folder.name, folder) for part in inside for folder in _folders(part)]
    return [("", folder.name, folder) for folder in inside]


def _folders(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX"))), key=lambda p: natural(p.name))


def images(folder: Path, depth: int = 3) -> Iterator[Path]:
    """Every image in a class folder: files, and folders inside it that hold the slices of one series."""
    inside = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: natural(p.name))
    yield from (p for p in inside if p.is_file() and _is_image(p))
    for part in (p for p in inside if p.is_dir()):
        if is_series([p for p in sorted(part.iterdir()) if p.is_file()]):
            yield part
        elif depth:
            yield from images(part, depth - 1)


def _is_image(path: Path) -> bool:
    if suffix_of(path.name):
        return not MASK.search(stem_of(path.name))
    return not path.suffix and holds_mark(path)


def _case(path: Path, folder: Path, name: str, *, split: str) -> Case:
    """A case whose patient is the folder inside the class folder, if there is one."""
    parts = path.relative_to(folder).parts
    stem = "_".join((*parts[:-1], stem_of(parts[-1])))
    patient = parts[0] if len(parts) > 1 else ""
    return Case(stem, patient, {"image": path}, split=split, classes={name: 1})


def distinct(cases: list[Case]) -> list[Case]:
    """Names made distinct by the class, and the part, where they occur twice; a case without a patient is its own."""
    twice = {name for name, count in Counter(case.name for case in cases).items() if count > 1}
    made: list[Case] = []
    for case in cases:
        word = "_".join(w for w in (next(iter(case.classes or ())), case.name) if w) if case.name in twice else case.name
        made.append(Case(word, case.patient or word, case.images, {}, case.split, case.metadata, case.classes))
    again = {name for name, count in Counter(case.name for case in made).items() if count > 1}
    return [case if case.name not in again else Case(f"{case.split}_{case.name}", case.patient if case.patient != case.name
            else f"{case.split}_{case.name}", case.images, {}, case.split, case.metadata, case.classes) for case in made]  # fmt: skip
