"""What a user points `predict` at: a scan, a DICOM folder, a folder of scans, or a data set; as cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vesalius.core.errors import DataError, UsageError, suggest
from vesalius.data.case import Case

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npz", ".npy", ".dcm", ".zip", ".bmp")
SINGLE = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")  # files that hold one scan, whatever is in them


def cases_of(path: Path, channels: Sequence[str], images: Mapping[str, Path] | None = None) -> list[Case]:
    """Cases behind `path` for a network that wants `channels`.

    One channel: a file, a DICOM folder or zip, or a folder of files (of DICOM files too, where each is of another series).
    Several: a data set in any layout, a table with a column `image_<channel>` for each (it need not say what a case shows), a folder of
    `<case>_0000`, `<case>_0001` ... files, or `images` that name each channel of one case.
    """
    if images:
        return [_named(images, channels)]
    if not path.exists() and "#" not in path.name:
        raise DataError(f"{path} does not exist.")
    if len(channels) == 1 and path.is_file() and path.name.lower().endswith(SINGLE):
        return [Case(stem(path), stem(path), {channels[0]: path})]
    from vesalius.engine.folders import behind  # which brings every layout, and DICOM

    return behind(path, channels)


def _named(images: Mapping[str, Path], channels: Sequence[str]) -> Case:
    for name in images:
        if name not in channels:
            raise UsageError(suggest(name, channels, "channel"))
    first = next(iter(images.values()))
    return Case(stem(first), stem(first), dict(images))


def stem(path: Path) -> str:
    """File name without its image suffix."""
    name = path.name.partition("#")[0]
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name
