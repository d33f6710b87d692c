"""Where DICOM objects lie: one file, a folder with whatever tree below, or a zip. A zip is read in memory, never unpacked."""

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vesalius.core.errors import FormatError

SUFFIXES = (".dcm", ".dicom", ".ima", ".dcm30")
_PROBE = 40  # files looked at before a folder or zip is said to hold no DICOM
_RATIO, _LARGE = 250, 1 << 28  # a member that shrinks more than this and is larger than this is taken for a bomb


@dataclass(frozen=True)
class Part:
    """One file: its `name` below the folder or zip, how to open it, its size in bytes, and its first 132 bytes."""

    name: str
    open: Callable[[], BinaryIO]
    size: int
    start: Callable[[], bytes]


def split(path: Path) -> tuple[Path, str]:
    """(place, uid) of `place#uid`; uid is empty where nothing is chosen."""
    if path.exists() or "#" not in str(path):
        return path, ""
    place, _, uid = str(path).rpartition("#")
    return Path(place), uid


def claims(path: Path) -> bool:
    """Whether a DICOM object lies at `path`."""
    place, _ = split(path)
    if place.is_dir():
        return any(_is_dicom(part) for part in _first(_walk(place)))
    if place.is_file() and zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as box:
            return any(_is_dicom(part) for part in _first(_members(place, box)))
    return place.is_file() and (place.name.lower().endswith(SUFFIXES) or _is_dicom(_file(place, place.name)))


def parts(place: Path) -> list[Part]:
    """Every file that may be DICOM, by name; a single file is taken at its word."""
    if place.is_dir():
        found = [part for part in _walk(place) if _is_dicom(part)]
    elif zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as box:
            found = [part for part in _members(place, box) if _is_dicom(part)]
    else:
        return [_file(place, place.name)]
    if not found:
        raise FormatError(f"{place} holds no DICOM files. Give the folder in which they lie.")
    return found


def _first(found: Iterator[Part]) -> Iterator[Part]:
    for count, part in enumerate(found):
        if count >= _PROBE:
            return
        yield part


def _file(path: Path, name: str) -> Part:
    def start() -> bytes:
        with open(path, "rb") as file:
            return file.read(132)

    return Part(name, lambda: open(path, "rb"), path.stat().st_size, start)


def _wanted(name: str) -> bool:
    """Hidden files, and the index that a DICOMDIR is, are passed over in folders and zips."""
    return not name.startswith(".") and not name.upper().startswith("DICOMDIR")


def _walk(folder: Path) -> Iterator[Part]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root) / name
            if _wanted(name) and path.is_file():
                yield _file(path, str(path.relative_to(folder)))


def _members(place: Path, box: zipfile.ZipFile) -> Iterator[Part]:
    """Members in order of name. Names are labels only: nothing is written to disk, so that none can escape."""
    for info in sorted(box.infolist(), key=lambda info: info.filename):
        if info.is_dir() or not _wanted(Path(info.filename).name) or "__MACOSX" in info.filename:
            continue
        if info.flag_bits & 1:
            raise FormatError(f"{place} is encrypted. Unpack it with its password and give the folder.")
        growth = info.file_size // max(info.compress_size, 1)
        if info.file_size > _LARGE and growth > _RATIO:
            raise FormatError(f"{place}: {info.filename} would grow {growth}-fold to {info.file_size:,} bytes: refused as a zip bomb.")
        yield Part(info.filename, _opener(place, info), info.file_size, _starter(box, info))


def _opener(place: Path, info: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
    def inflate() -> BinaryIO:
        with zipfile.ZipFile(place) as box, box.open(info) as member:
            return io.BytesIO(member.read(info.file_size + 1))

    return inflate


def _starter(box: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    def start() -> bytes:
        with box.open(info) as member:
            return member.read(132)

    return start


def _is_dicom(part: Part) -> bool:
    """The DICM mark, or (files from before part 10) a first element of group 2 or 8 in either byte order."""
    head = part.start()
    if head[128:] == b"DICM":
        return True
    named = part.name.lower().endswith(SUFFIXES) or "." not in Path(part.name).name
    return named and len(head) == 132 and head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08") and head[3] in (0, 5, 8, 0x10, 0x16)
