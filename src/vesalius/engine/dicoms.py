"""A folder of DICOM files that is no one series: single images of several series, each a case of its own."""

from pathlib import Path

from vesalius.core.errors import FormatError
from vesalius.data.case import Case
from vesalius.io.formats.dicom.files import parts
from vesalius.io.formats.dicom.heads import Head, read_head, what_else
from vesalius.io.formats.dicom.series import ANNOTATIONS


def loose(folder: Path, channel: str) -> list[Case]:
    """A case for each image that lies directly in `folder`, where there are several and each is a series of its own (or another person's);
    or for each folder in it that holds one series. None otherwise: a series is one case, and of several series in many files one has to
    be chosen."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    if inside and all(_holds_series(path) for path in inside) and not is_one(folder):
        return [Case(path.name, path.name, {channel: path}) for path in inside]
    found = heads_in(folder)
    series = {_whose(head) for _, head in found}
    if len(found) < 2 or len(series) < len(found):
        return []
    return [Case(_named(path), str(head.get("PatientID", "")) or _named(path), {channel: path}) for path, head in found]


def heads_in(folder: Path) -> list[tuple[Path, Head]]:
    """Images among the files directly in `folder`, with what they say of themselves; of a clear series the first two alone, which tell."""
    here = [part for part in parts(folder) if "/" not in part.name]
    found: list[tuple[Path, Head]] = []
    for part in here:
        head = read_head(folder, part)
        if not what_else(head) and head.modality not in ANNOTATIONS:
            found.append((folder / part.name, head))
        if len(found) == 2 and _whose(found[0][1]) == _whose(found[1][1]):
            break
    return found


def _holds_series(folder: Path) -> bool:
    """Whether the files directly in `folder` are slices of one series."""
    try:
        found = heads_in(folder)
    except FormatError:
        return False
    return len(found) > 1 and _whose(found[0][1]) == _whose(found[1][1])


def _whose(head: Head) -> tuple[str, str]:
    """The series and the person."""
    return head.series, str(head.get("PatientID", ""))


def is_one(folder: Path) -> bool:
    """Whether all DICOM files of `folder` are one thing to be read: not where they lie in several folders below it."""
    try:
        return len({part.name.rpartition("/")[0].partition("/")[0] for part in parts(folder)}) == 1
    except FormatError:
        return False


def _named(path: Path) -> str:
    """The file's name without a suffix of DICOM."""
    return path.stem if path.suffix.lower() in (".dcm", ".dicom", ".ima") else path.name
