"""DICOM segmentations: one channel per segment (binary or fractional), or one of label numbers (label map).

Only slices with something in them are stored; the others are empty here. The grid is that of the stored slices:
`vesalius.io.resample` puts it on the grid of the image.
"""

from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import FormatError
from vesalius.core.space import Array, Space
from vesalius.io.formats.dicom import tiles
from vesalius.io.formats.dicom.frames import Frame
from vesalius.io.formats.dicom.heads import Head, numbers
from vesalius.io.formats.dicom.pixels import stored, stored_dtype
from vesalius.io.formats.dicom.stack import flat_space

_OFF = 0.05  # share of the slice distance by which a frame may be off the grid


def is_segmentation(head: Head) -> bool:
    """Whether frames belong to segments."""
    return head.modality == "SEG" and bool(head.data.get("SegmentSequence"))


def names(head: Head) -> dict[int, str]:
    """Segment number -> label, in order of number; the background of a label map is left out."""
    found = {int(item.SegmentNumber): str(item.get("SegmentLabel", "")) for item in head.dataset.SegmentSequence}
    return {number: found[number] for number in sorted(found) if number or not is_labelmap(head)}


def is_labelmap(head: Head) -> bool:
    """Whether pixels are segment numbers rather than yes or no."""
    return str(head.get("SegmentationType", "")) == "LABELMAP"


def kind(head: Head) -> np.dtype[Any]:
    """uint8 for binary, float32 in 0..1 for fractional, the stored kind for label maps."""
    if is_labelmap(head):
        return stored_dtype(head)
    return np.dtype(np.float32 if str(head.get("SegmentationType", "")) == "FRACTIONAL" else np.uint8)


def keys(head: Head) -> list[Any]:
    """What the channels stand for: segment numbers, or one channel for a label map."""
    return [None] if is_labelmap(head) else list(names(head))


def space(place: Path, head: Head, frames: list[Frame]) -> Space:
    """The grid from the first to the last stored slice."""
    if tiles.is_tiled(head):
        return tiles.plane(place, head, itemsize=kind(head).itemsize, channels=len(keys(head)))
    if frames[0].position is None:
        return flat_space(frames[0], [])
    first, step, count = _line(place, head, frames)
    if first.spacing is None or first.along_row is None or first.along_column is None:
        raise FormatError(f"{place} states no pixel spacing of its segments. Export it again.")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.along_row * first.spacing[1], first.along_column * first.spacing[0]
    affine[:3, 2], affine[:3, 3] = step, first.position
    affine[:2] *= -1
    return Space((head.whole("Columns", 0), head.whole("Rows", 0), count), affine)


def _line(place: Path, head: Head, frames: list[Frame]) -> tuple[Frame, Array, int]:
    """(lowest frame, vector from slice to slice, number of slices) along the normal."""
    ordered = sorted(frames, key=lambda f: float(np.dot(f.position, frames[0].normal)))  # type: ignore[arg-type]
    first, last = ordered[0], ordered[-1]
    assert first.position is not None and last.position is not None
    heights = _heights(frames)
    apart = np.diff(np.unique(np.round(heights, 3)))
    stated = _stated(head)
    if not len(apart):
        return first, first.normal * (stated or 1.0), 1
    usual = stated if stated and _even(heights, stated) else float(apart.min())
    if not _even(heights, usual):
        told = f"{apart.min():.3f} to {apart.max():.3f} mm apart"
        raise FormatError(f"{place}: its slices do not lie on an even grid ({told}). Export it again.")
    count = round(float(heights.max() - heights.min()) / usual) + 1
    return first, (last.position - first.position) / (count - 1), count


def _heights(frames: list[Frame]) -> Array:
    """Millimetres of every frame along the normal."""
    return np.array([float(np.dot(frame.position, frames[0].normal)) for frame in frames])  # type: ignore[arg-type]


def _even(heights: Array, step: float) -> bool:
    steps = (heights - heights.min()) / step
    return bool(np.abs(steps - np.rint(steps)).max() < _OFF)


def _stated(head: Head) -> float | None:
    """The slice distance (or thickness) that the shared measures state."""
    shared = head.data.get("SharedFunctionalGroupsSequence")
    measures = shared[0].get("PixelMeasuresSequence") if shared else None
    if not measures:
        return None
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        value = numbers(measures[0], keyword)
        if value and value[0] > 0:
            return value[0]
    return None


def pixels(place: Path, head: Head, frames: list[Frame]) -> Array:
    """(K, *S) as `kind`."""
    raw = stored(place, head)
    found = _placed(place, head, frames, raw=raw)
    if kind(head) == np.float32:
        return found.astype(np.float32) / np.float32(head.whole("MaximumFractionalValue", 255))
    return found.astype(kind(head), copy=False)


def _placed(place: Path, head: Head, frames: list[Frame], *, raw: Array) -> Array:
    channels = keys(head)
    if tiles.is_tiled(head):
        shape = (head.whole("TotalPixelMatrixRows", 0), head.whole("TotalPixelMatrixColumns", 0))
        return tiles.mosaic(place, raw, tiles.corners(head, channels), keys=channels, shape=shape)
    count, steps = 1, np.zeros(len(frames), int)
    if frames[0].position is not None:
        _, step, count = _line(place, head, frames)
        steps = np.rint((_heights(frames) - _heights(frames).min()) / (step @ frames[0].normal)).astype(int)
    volume = np.zeros((len(channels), count, *raw.shape[2:]), raw.dtype)
    for frame, k, tile in zip(frames, steps, raw, strict=True):
        key = segment_of(head, frame)
        if key not in channels:
            raise FormatError(f"{place}: {frame.name} belongs to segment {key}, which is not described. Export it again.")
        volume[channels.index(key), k] = tile[0]
    return volume.transpose(0, 3, 2, 1) if frames[0].position is not None else volume[:, 0]


def segment_of(head: Head, frame: Frame) -> Any:
    """The segment number of a frame; None in a label map."""
    if is_labelmap(head):
        return None
    for sequence in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        groups = head.data.get(sequence)
        group = groups[frame.index if sequence.startswith("Per") else 0] if groups else None
        told = group.get("SegmentIdentificationSequence") if group is not None else None
        if told:
            return int(told[0].ReferencedSegmentNumber)
    return None
