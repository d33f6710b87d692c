"""Files that hold one image each, found under a folder; a folder of DICOM slices counts as one."""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vesalius.core.errors import DataError

SUFFIXES = (
    ".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy", ".npz", ".dcm",
)  # fmt: skip
DEEPEST = 6  # folders below the root that are looked into


@dataclass(frozen=True)
class Leaf:
    """One image: its `path`, the `folders` between the root and it, and its `stem` (the name without the suffix)."""

    path: Path
    folders: tuple[str, ...]
    stem: str

    @property
    def key(self) -> str:
        return "/".join((*self.folders, self.stem))


def suffix_of(name: str) -> str:
    """The image suffix of a file name ('.nii.gz'), or '' where it is none that we know."""
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")


def stem_of(name: str) -> str:
    """A file name without its image suffix."""
    suffix = suffix_of(name)
    return name[: -len(suffix)] if suffix else name


def leaves(root: Path) -> list[Leaf]:
    """Every image under `root`, in natural order; hidden files are passed over."""
    found = [Leaf(path, path.relative_to(root).parts[:-1], stem_of(path.name)) for path in _walk(root, DEEPEST)]
    return sorted(found, key=lambda leaf: natural(leaf.key))


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    inside = [path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "__MACOSX"))]
    files = [path for path in inside if path.is_file()]
    if is_series(files):
        yield folder
        return
    yield from (path for path in files if suffix_of(path.name))
    for path in inside:
        if path.is_dir() and depth:
            yield from _walk(path, depth - 1)


def is_series(files: list[Path]) -> bool:
    """Whether `files` are the slices of a DICOM folder: `.dcm`, or no suffix and the DICOM mark at byte 128."""
    if not files:
        return False
    plain = [path for path in files if path.suffix.lower() == ".dcm" or not path.suffix or path.suffix[1:].isdigit()]
    return len(plain) * 2 > len(files) and len(plain) > 1 and holds_mark(plain[0])


def holds_mark(path: Path) -> bool:
    """Whether the file has the mark of DICOM at byte 128."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which 'case10' comes after 'case9'."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text) if part)


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV (comma, semicolon or tab) as dictionaries, words stripped; column names as written."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path} cannot be read as a table: {problem}. Save it as CSV in UTF-8.") from None
    first = text.partition("\n")[0]
    mark = max(",;\t", key=first.count)
    rows = csv.DictReader(text.splitlines(), delimiter=mark)
    return [{(k or "").strip(): (v or "").strip() for k, v in row.items() if isinstance(v, str | None)} for row in rows]


def number_or_word(text: str) -> float | int | str:
    """A cell of a table: a number where it is one."""
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() and "." not in text else value


def some(names: Iterable[str], most: int = 5) -> str:
    """'a, b, c and 4 more'."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(map(str, listed[:most])) + more


def cell_path(folder: Path, text: str) -> Path:
    """A path written in a table, relative to the table's folder unless absolute."""
    return folder / text
