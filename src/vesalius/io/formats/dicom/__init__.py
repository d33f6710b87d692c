"""DICOM: a file, a folder, or a zip; classic series, multi-frame, whole slides, segmentations, structure sets; read only.

One series is read at a time; `folder#SERIES_UID` chooses. A volume has the index order (column, row, slice), slices along
the normal, as ITK has it. One image alone (a radiograph, a single slice) is 2D: (rows, columns), its place in `words`.
LPS becomes RAS at this door.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.card import Card
from vesalius.core.errors import FormatError
from vesalius.core.space import Array, Space
from vesalius.io.formats import Format, Header
from vesalius.io.formats.dicom import files, segments, stack, structures, tiles, uptake
from vesalius.io.formats.dicom.frames import Frame, frames
from vesalius.io.formats.dicom.heads import Head, read_head, words
from vesalius.io.formats.dicom.pixels import check_length, fill, real, real_kind, samples, stored
from vesalius.io.formats.dicom.series import choose
from vesalius.io.guard import unwarned
from vesalius.io.image import Image, Source

CARD = Card(
    entry="DICOM",
    title="DICOM",
    summary="DICOM series, multi-frame, whole-slide images, segmentations and structures, from files, folders and zips.",
    paper="NEMA PS3, Digital Imaging and Communications in Medicine",
    tags=(".dcm", ".dicom", ".ima", ".zip"),
)


@dataclass(frozen=True)
class _Reading:
    """A series understood from its headers; `pixels` does the work."""

    space: Space
    channels: int
    dtype: np.dtype[Any]
    words: dict[str, Any]
    pixels: Callable[[], Array]


class DICOM(Format):
    """Real units: Hounsfield, becquerel per millilitre, gray ..., after the rescale slope of every frame."""

    suffixes = CARD.tags
    writable = False

    def claims(self, path: Path) -> bool:
        return files.claims(path)

    def header(self, path: Path) -> Header:
        reading = _reading(path)
        return Header(reading.space, reading.channels, reading.dtype.name, reading.words)

    def read(self, path: Path) -> Image:
        reading = _reading(path)
        return Image(reading.pixels(), reading.space, Source(str(path), "dicom", reading.words))


def _reading(path: Path) -> _Reading:
    unwarned("pydicom")
    place, uid = files.split(path)
    every = [read_head(place, part) for part in files.parts(place)]
    drawn = [head for head in every if structures.is_structures(head, uid)]
    if drawn:
        return _structures(place, drawn, every)
    heads, notes = choose(place, every, uid)
    for head in heads:
        check_length(place, head)
    found = _understood(place, heads, notes)
    told = {**words(heads[0]), **uptake.told(heads), **found.words, "files": len(heads)}
    return _Reading(found.space, found.channels, found.dtype, told | ({"notes": notes} if notes else {}), found.pixels)


def _understood(place: Path, heads: list[Head], notes: list[str]) -> _Reading:
    """What kind of object this is decides who reads it."""
    first = heads[0]
    if "MOSAIC" in str(first.get("ImageType", "")):
        raise FormatError(f"{place} is a Siemens mosaic: many slices in one picture. Convert it with dcm2niix first.")
    if len(heads) == 1 and segments.is_segmentation(first):
        own = frames(place, first)
        grid = segments.space(place, first, own)
        told = {"segments": {str(number): name for number, name in segments.names(first).items()}}
        return _Reading(grid, len(segments.keys(first)), segments.kind(first), told, lambda: segments.pixels(place, first, own))
    if len(heads) == 1 and tiles.is_tiled(first):
        return _slide(place, first)
    every = [frame for head in heads for frame in frames(place, head)]
    if every[0].position is None and len(heads) == 1:
        return _pictures(place, every, notes)
    if len(every) == 1:
        lone = every[0]
        return _pictures(place, every, notes, more={"position": lone.position, "orientation": (lone.along_row, lone.along_column)})
    return _volume(place, every, notes)


def _structures(place: Path, drawn: list[Head], every: list[Head]) -> _Reading:
    """Contours on the grid of the series that they were drawn on."""
    if len(drawn) > 1:
        uids = ", ".join(str(head.get("SOPInstanceUID")) for head in drawn)
        raise FormatError(f"{place} holds {len(drawn)} structure sets of that name: choose one by the UID of the object: {uids}.")
    data = structures.contents(place, drawn[0])
    notes: list[str] = []
    image = _understood(place, structures.drawn_on(place, data, every), notes)
    if image.space.ndim != 3 or any("tilted" in note for note in notes):
        raise FormatError(f"{place}: the structures were drawn on a single slice or a tilted stack. Export them as a segmentation.")
    inside = structures.filled(data, image.space, notes)
    segments_ = {str(number): name for number, name in structures.names(data).items()}
    told = {**words(drawn[0]), "segments": segments_} | ({"notes": notes} if notes else {})
    return _Reading(image.space, len(inside), inside.dtype, told, lambda: inside)


def _slide(place: Path, head: Head) -> _Reading:
    kind, keys = real_kind([Frame(head, 0)]), tiles.paths(head)
    grid = tiles.plane(place, head, itemsize=kind.itemsize, channels=samples(head) * len(keys))

    def pixels() -> Array:
        flat = np.stack([real(tile, Frame(head, 0), kind) for tile in stored(place, head)])
        spots = tiles.corners(head, keys)
        spots = [(r, c, key if key in keys else None) for r, c, key in spots]
        return tiles.mosaic(place, flat, spots, keys=keys, shape=grid.shape)

    return _Reading(grid, samples(head) * len(keys), kind, {"paths": keys} if keys != [None] else {}, pixels)


def _pictures(place: Path, every: list[Frame], notes: list[str], *, more: dict[str, Any] | None = None) -> _Reading:
    """One picture, or several over time, in 2D: channels are frames times samples."""
    head, kind = every[0].head, real_kind(every)
    told: dict[str, Any] = {"frames": len(every), "samples": samples(head)} if len(every) > 1 else {}
    told |= {key: np.asarray(value, float).ravel().tolist() for key, value in (more or {}).items()}

    def pixels() -> Array:
        return np.concatenate([real(tile, frame, kind) for tile, frame in zip(stored(place, head), every, strict=True)])

    return _Reading(stack.flat_space(every[0], notes), len(every) * samples(head), kind, told, pixels)


def _volume(place: Path, every: list[Frame], notes: list[str]) -> _Reading:
    """A stack; several images at every place are channels."""
    kind, found = real_kind(every), stack.stack(place, every)
    notes.extend(found.notes)
    head = every[0].head
    channels = len(found.frames) * samples(head)

    def pixels() -> Array:
        array = _gathered(place, found, kind)
        if found.space.ndim == 2:
            return array[:, 0]
        return stack.straightened(array, found.shift).transpose(0, 3, 2, 1)

    return _Reading(found.space, channels, kind, found.words, pixels)


def _gathered(place: Path, found: stack.Stack, kind: np.dtype[Any]) -> Array:
    """(times * samples, slices, rows, columns): each object is read once, each of its frames put in its place."""
    spots: dict[int, list[tuple[int, int, Frame]]] = {}
    for t, time in enumerate(found.frames):
        for k, frame in enumerate(time):
            spots.setdefault(id(frame.head), []).append((t, k, frame))
    head = found.frames[0][0].head
    shape = (len(found.frames), samples(head), len(found.frames[0]), head.whole("Rows", 0), head.whole("Columns", 0))
    out: Array | None = None
    for group in spots.values():
        raw = stored(place, group[0][2].head)
        out = np.empty(shape, kind) if out is None else out  # after the first length has been checked
        for t, k, frame in group:
            fill(out[t, :, k], raw[frame.index], frame)
    assert out is not None
    return out.reshape(-1, *shape[2:])
