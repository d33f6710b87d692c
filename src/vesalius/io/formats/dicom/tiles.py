"""Whole-slide images: frames are tiles of one large plane (PS3.3 C.8.12.4), put together again."""

from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import FormatError
from vesalius.core.space import Array, Space
from vesalius.io.formats.dicom.heads import Head, numbers

_LARGEST = 1 << 31  # bytes of a plane held in memory at once


def is_tiled(head: Head) -> bool:
    """Whether the frames are tiles of a total pixel matrix."""
    return head.get("TotalPixelMatrixRows") is not None and head.get("TotalPixelMatrixColumns") is not None


def plane(place: Path, head: Head, *, itemsize: int, channels: int) -> Space:
    """The whole plane in millimetres of the specimen; refused where it is too large for memory."""
    shape = (head.whole("TotalPixelMatrixRows", 0), head.whole("TotalPixelMatrixColumns", 0))
    if shape[0] * shape[1] * channels * itemsize > _LARGEST:
        raise FormatError(f"{place} is a whole slide of {shape[0]} x {shape[1]} pixels, too large to read at once. Give a lower level.")
    shared = head.data.get("SharedFunctionalGroupsSequence") or [None]
    measures = shared[0].get("PixelMeasuresSequence") if shared[0] is not None else None
    spacing = numbers(measures[0], "PixelSpacing") if measures else None
    return Space.of(shape, spacing) if spacing else Space.of(shape, physical=False)


def corners(head: Head, keys: list[Any]) -> list[tuple[int, int, Any]]:
    """(first row, first column, key) of every tile. `keys` are the optical paths or segments in order, used where tiles are
    complete and therefore not described one by one (TILED_FULL: keys outermost, then rows, then columns)."""
    rows, columns = head.whole("Rows", 1), head.whole("Columns", 1)
    own = head.data.get("PerFrameFunctionalGroupsSequence")
    if own and own[0].get("PlanePositionSlideSequence"):
        return [_told(group) for group in own]
    down = range(0, head.whole("TotalPixelMatrixRows", 0), rows)
    right = range(0, head.whole("TotalPixelMatrixColumns", 0), columns)
    return [(r, c, key) for key in keys for r in down for c in right]


def _told(group: Any) -> tuple[int, int, Any]:
    spot = group.PlanePositionSlideSequence[0]
    segment = group.get("SegmentIdentificationSequence")
    path = group.get("OpticalPathIdentificationSequence")
    key = int(segment[0].ReferencedSegmentNumber) if segment else str(path[0].OpticalPathIdentifier) if path else None
    return int(spot.RowPositionInTotalImagePixelMatrix) - 1, int(spot.ColumnPositionInTotalImagePixelMatrix) - 1, key


def paths(head: Head) -> list[Any]:
    """Identifiers of the optical paths (stains, wavelengths), in order."""
    return [str(item.OpticalPathIdentifier) for item in head.data.get("OpticalPathSequence") or []] or [None]


def mosaic(place: Path, tiles: Array, spots: list[tuple[int, int, Any]], *, keys: list[Any], shape: tuple[int, ...]) -> Array:
    """(keys * samples, rows, columns) of `tiles` (frames, samples, rows, columns) at `spots`; what no tile covers is zero."""
    if len(spots) != len(tiles):
        told = f"{len(tiles)} tiles where {len(spots)} are expected"
        raise FormatError(f"{place} has {told}: it has focal planes, or lacks tiles. Export one plane of it.")
    whole = np.zeros((len(keys), tiles.shape[1], *shape), tiles.dtype)
    for tile, (row, column, key) in zip(tiles, spots, strict=True):
        if row < 0 or column < 0 or row >= shape[0] or column >= shape[1] or key not in keys:
            raise FormatError(f"{place} has a tile at row {row}, column {column} outside {shape[0]} x {shape[1]}. Export it again.")
        part = tile[:, : shape[0] - row, : shape[1] - column]
        whole[keys.index(key), :, row : row + part.shape[1], column : column + part.shape[2]] = part
    return whole.reshape(-1, *shape)
