"""Load and save images: pixels in real units, (C, *S), with their place in RAS+ millimetres; the format is found by itself."""

from difflib import get_close_matches
from functools import cache
from pathlib import Path

from vesalius.core.card import Card
from vesalius.core.errors import FormatError, suggest
from vesalius.io.formats import FORMATS, Format, Header
from vesalius.io.guard import guarded
from vesalius.io.image import Image, Source

__all__ = ["Header", "Image", "Source", "header", "load", "recognise", "save"]


def load(path: Path | str) -> Image:
    """The image at `path`: a file, a DICOM folder or a zip of one. `path#name` chooses one of several images inside
    (a DICOM series by its UID, an array of an .npz by its key)."""
    name = recognise(path)
    with guarded(Path(path), FORMATS.card(name).title):
        return _format(name).read(Path(path))


def header(path: Path | str) -> Header:
    """Shape, geometry, channels and words of the image at `path`; pixels are left alone where the format allows."""
    name = recognise(path)
    with guarded(Path(path), FORMATS.card(name).title):
        return _format(name).header(Path(path))


def save(image: Image, path: Path | str) -> None:
    """Write `image` in the format that the suffix of `path` names; an existing file is replaced in one step."""
    path = Path(path)
    found = _by_suffix(path)
    if not found:
        raise FormatError(f"Cannot write {path}: {_unknown(path)}")
    writers = [card for card in found if _format(card.name).writable]
    if not writers:
        raise FormatError(f"{found[0].title} can be read, not written ({path}). Write .nii.gz instead.")
    _format(writers[0].name).write(image, path)


def recognise(path: Path | str) -> str:
    """The shelf name of the format that reads `path`; a wrong or missing file is a FormatError with the nearest right word."""
    path = Path(path)
    place = existing(path)
    likely = [card.name for card in _by_suffix(place)]
    for name in [*likely, *(name for name in FORMATS if name not in likely)]:
        if _format(name).claims(path):
            return name
    raise FormatError(f"{path}: {_unknown(place)}")


def existing(path: Path) -> Path:
    """The file or folder behind `path` or `path#name`."""
    if path.exists():
        return path
    place = Path(str(path).rpartition("#")[0])
    if "#" in path.name and place.exists():
        return place
    near = get_close_matches(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [], n=2)
    raise FormatError(f"{path} does not exist. " + (f"Did you mean {' or '.join(near)}?" if near else "Check the path."))


@cache
def _format(name: str) -> Format:
    kind: type[Format] = FORMATS[name]
    return kind()


def _by_suffix(path: Path) -> list[Card]:
    """Cards of formats whose suffix ends the name, the longest suffix first."""
    name = path.name.lower()
    cards = (FORMATS.card(entry) for entry in FORMATS)
    lengths = [(max((len(tag) for tag in card.tags if name.endswith(tag)), default=0), card) for card in cards]
    return [card for length, card in sorted(lengths, key=lambda pair: -pair[0]) if length]


def _unknown(path: Path) -> str:
    if path.is_dir():
        return "this folder holds no DICOM series. Give a file, a DICOM folder, or a zip of one."
    if path.is_file() and (named := _by_suffix(path)):
        wrong = "the content does not. The file is damaged or of another kind" if path.stat().st_size else "but the file is empty"
        return f"the name says {named[0].title}, {wrong}: restore it, or rename it."
    known = sorted({tag for entry in FORMATS for tag in FORMATS.card(entry).tags})
    return suggest("".join(path.suffixes[-2:]) or path.suffix, known, "kind of file")
