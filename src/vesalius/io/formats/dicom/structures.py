"""Radiotherapy structure sets: contours drawn on the slices of a series, filled into one channel per structure.

A voxel belongs to a structure where its centre lies inside an odd number of its contours on that slice, so that holes
stay holes whether they are drawn as contours of their own or by a keyhole (PS3.3 C.8.8.6.3).
"""

from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import FormatError
from vesalius.core.space import Array, Space
from vesalius.io.formats.dicom.heads import Head

_OFF_PLANE = 0.5  # slices by which the points of one contour may leave a slice


def is_structures(head: Head, uid: str) -> bool:
    """Whether `head` is the structure set that `uid` (of the object or its series, the end of it, or RTSTRUCT) asks for."""
    named = (head.series, str(head.get("SOPInstanceUID", "")))
    return head.modality == "RTSTRUCT" and bool(uid) and (uid.upper() == "RTSTRUCT" or any(name.endswith(uid) for name in named))


def contents(place: Path, head: Head) -> Any:
    """The whole dataset, contours and all."""
    import pydicom

    with head.part.open() as file:
        data = pydicom.dcmread(file, force=True)
    if not data.get("ROIContourSequence"):
        raise FormatError(f"{place}: the structure set {head.part.name} holds no contours. Export it again.")
    return data


def names(data: Any) -> dict[int, str]:
    """ROI number -> name of every structure that has contours."""
    told = {int(item.ROINumber): str(item.get("ROIName", "")) for item in data.StructureSetROISequence}
    drawn = [int(item.ReferencedROINumber) for item in data.ROIContourSequence if item.get("ContourSequence")]
    return {number: told.get(number, "") for number in sorted(drawn)}


def drawn_on(place: Path, data: Any, images: list[Head]) -> list[Head]:
    """The objects of the series on which the contours were drawn."""
    series = {
        str(told.SeriesInstanceUID)
        for frame in data.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for told in study.get("RTReferencedSeriesSequence") or []
    }
    found = [head for head in images if head.series in series]
    if not found:
        told = ", ".join(sorted(series)) or "no series"
        raise FormatError(f"{place}: the structures were drawn on {told}, which is not here. Give a folder or zip that holds both.")
    return found


def filled(data: Any, space: Space, notes: list[str]) -> Array:
    """(K, *S) uint8 on the grid (column, row, slice) of the image."""
    numbers = list(names(data))
    crossings = np.zeros((len(numbers), space.shape[2], space.shape[1], space.shape[0] + 1), np.uint8)
    lost = 0
    for structure in data.ROIContourSequence:
        for contour in structure.get("ContourSequence") or []:
            if str(contour.get("ContourGeometricType", "CLOSED_PLANAR")) not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
                continue
            points = space.index(np.asarray(contour.ContourData, float).reshape(-1, 3) * [-1, -1, 1])
            k = round(float(points[:, 2].mean()))
            if np.abs(points[:, 2] - k).max() > _OFF_PLANE or not 0 <= k < space.shape[2]:
                lost += 1
                continue
            cross(crossings[numbers.index(int(structure.ReferencedROINumber)), k], points[:, :2])
    if lost:
        notes.append(f"{lost} contours lie outside the slices of the image and are left out.")
    inside = np.cumsum(crossings, axis=-1, dtype=np.uint8)[..., :-1] & 1
    return inside.transpose(0, 3, 2, 1)


def cross(plane: Array, points: Array) -> None:
    """Add to `plane` (rows, columns + 1), for every row, 1 at the first column whose centre lies beyond each edge of the closed
    polygon `points` (n, 2) = (column, row): the parity of the running sum is 1 inside."""
    rows, columns = plane.shape[0], plane.shape[1] - 1
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        hit = np.arange(max(0, int(np.ceil(y0))), min(rows, int(np.ceil(y1))))  # half open: a corner is met once
        if len(hit):
            beyond = np.ceil(x0 + (hit - y0) / (y1 - y0) * (x1 - x0)).astype(int)
            plane[hit, np.clip(beyond, 0, columns)] += 1
