"""Formats that nibabel reads for us: FreeSurfer MGH, Philips PAR/REC, MINC 1 (and 2 where h5py is installed). Read only."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.card import Card
from vesalius.core.errors import FormatError
from vesalius.core.space import Space
from vesalius.io.formats import Format, Header
from vesalius.io.formats._values import real_dtype
from vesalius.io.guard import DEFLATE_RATIO, check_size, unwarned
from vesalius.io.image import Image, Source

CARD = Card(
    entry="NibabelOthers",
    title="MGH, PAR/REC and MINC",
    summary="Formats of FreeSurfer, Philips scanners and the Montreal Neurological Institute, read only.",
    paper="Brett et al., nibabel, doi:10.5281/zenodo.591597",
    ndim=(3,),
    tags=(".mgh", ".mgz", ".mgh.gz", ".par", ".rec", ".mnc"),
)


class NibabelOthers(Format):
    """A further axis after space becomes channels; MINC's first one, which is time, too."""

    suffixes = CARD.tags
    writable = False

    def claims(self, path: Path) -> bool:
        return path.is_file() and path.name.lower().endswith(self.suffixes)

    def header(self, path: Path) -> Header:
        picture = _open(path)
        channels, sides, _ = _layout(path, picture)
        return Header(Space(sides, np.asarray(picture.affine, float)), channels, _kind(picture).name, {})

    def read(self, path: Path) -> Image:
        picture = _open(path)
        _, sides, axis = _layout(path, picture)
        array = np.asarray(picture.dataobj)
        array = np.moveaxis(array, axis, 0) if axis is not None else array
        array = array.reshape(-1, *sides).astype(_kind(picture), copy=False)
        return Image(array, Space(sides, np.asarray(picture.affine, float)), Source(str(path), "nibabel_others", {}))


def _open(path: Path) -> Any:
    """nibabel's image, its declared size checked against the file."""
    nibabel: Any = import_module("nibabel")
    name, pixels = _pair(path)
    unwarned("nibabel")
    picture = nibabel.load(name)
    needed = int(np.prod(picture.shape, dtype=object)) * np.dtype(picture.get_data_dtype()).itemsize
    packed = path.suffix.lower() in (".mgz", ".gz", ".mnc")
    check_size(path, needed, pixels.stat().st_size * (DEFLATE_RATIO if packed else 1))
    return picture


def _pair(path: Path) -> tuple[Path, Path]:
    """(header, pixels): the two of PAR and REC in whatever case, otherwise one file."""
    ending = path.suffix.lower()
    if ending not in (".par", ".rec"):
        return path, path
    other = {".par": ".rec", ".rec": ".par"}[ending]
    found = [p for p in path.parent.iterdir() if p.stem == path.stem and p.suffix.lower() == other]
    if not found:
        raise FormatError(f"{path} is half of a pair and its {other.upper()} is missing. Put it beside.")
    return (path, found[0]) if ending == ".par" else (found[0], path)


def _layout(path: Path, picture: Any) -> tuple[int, tuple[int, ...], int | None]:
    """(channels, spatial sides, axis of the channels)."""
    shape = tuple(int(side) for side in picture.shape)
    axis = None
    if len(shape) == 4:
        axis = 0 if path.suffix.lower() == ".mnc" else 3
    elif len(shape) != 3:
        raise FormatError(f"{path} has shape {shape}; an image has three axes, and one of channels. Split it first.")
    sides = shape if axis is None else shape[1:] if axis == 0 else shape[:3]
    return (1 if axis is None else shape[axis]), sides, axis


def _kind(picture: Any) -> np.dtype[Any]:
    """float32 wherever anything is scaled; otherwise the stored kind."""
    stored = np.dtype(picture.get_data_dtype()).newbyteorder("=")
    if type(picture).__name__ in ("Minc1Image", "Minc2Image", "PARRECImage"):
        return np.dtype(np.float32) if stored.itemsize <= 4 else np.dtype(np.float64)
    return real_dtype(stored, 1.0, 0.0)
