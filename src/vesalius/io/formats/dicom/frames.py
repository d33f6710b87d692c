"""Every frame of every object with its own place and scale: classic single slices, enhanced multi-frame, dose and SPECT."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import FormatError
from vesalius.core.space import Array
from vesalius.io.formats.dicom.heads import Head, numbers

# What may tell apart several images at one place, in the order in which it is asked.
KEYS = (
    "TemporalPositionIdentifier", "TemporalPositionIndex", "EffectiveEchoTime", "EchoTime", "DiffusionBValue", "InversionTime",
    "TriggerTime", "NominalCardiacTriggerDelayTime", "AcquisitionNumber", "AcquisitionTime", "ContentTime",
)  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """Frame `index` of `head`. `position` is the centre of its first pixel and `rows`, `columns` are unit vectors along which the
    column and the row index grow (LPS, as DICOM writes them); `spacing` is (between rows, between columns) in mm."""

    head: Head
    index: int
    position: Array | None = None
    along_row: Array | None = None
    along_column: Array | None = None
    spacing: tuple[float, float] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    keys: dict[str, float] = field(default_factory=dict)

    @property
    def normal(self) -> Array:
        assert self.along_row is not None and self.along_column is not None
        return np.cross(self.along_row, self.along_column)

    @property
    def name(self) -> str:
        return self.head.part.name if self.head.frames == 1 else f"frame {self.index + 1}"


def frames(place: Path, head: Head) -> list[Frame]:
    """All frames of one object."""
    found = list(_frames(place, head))
    for frame in found:
        _check(place, frame)
    return found


def _frames(place: Path, head: Head) -> Iterator[Frame]:
    if "PerFrameFunctionalGroupsSequence" in head.data or "SharedFunctionalGroupsSequence" in head.data:
        yield from _enhanced(place, head)
    elif head.frames > 1 and "GridFrameOffsetVector" in head.data:
        yield from _dose(place, head)
    elif head.frames > 1 and "DetectorInformationSequence" in head.data and "TOMO" in str(head.get("ImageType", "")):
        yield from _spect(head)
    elif head.frames > 1:
        frame = _single(head.data)
        for index in range(head.frames):
            yield Frame(head, index, spacing=frame["spacing"], slope=frame["slope"], intercept=frame["intercept"])
    else:
        yield Frame(head, 0, **_single(head.data), keys=_keys([head.data]))


def _single(data: Any) -> dict[str, Any]:
    """Place and scale as the top level of an object states them."""
    slope, intercept = numbers(data, "RescaleSlope"), numbers(data, "RescaleIntercept")
    if slope is None and (dose := numbers(data, "DoseGridScaling")):
        slope = dose
    return {**_oriented(numbers(data, "ImageOrientationPatient"), numbers(data, "ImagePositionPatient")),
            "spacing": _pair(numbers(data, "PixelSpacing")),
            "slope": slope[0] if slope else 1.0, "intercept": intercept[0] if intercept else 0.0}  # fmt: skip


def _oriented(orientation: tuple[float, ...] | None, position: tuple[float, ...] | None) -> dict[str, Any]:
    if orientation is None or position is None or len(orientation) != 6 or len(position) != 3:
        return {}
    cosines = np.asarray(orientation)
    return {"position": np.asarray(position), "along_row": cosines[:3], "along_column": cosines[3:]}


def _pair(values: tuple[float, ...] | None) -> tuple[float, float] | None:
    return (values[0], values[1]) if values and len(values) == 2 and min(values) > 0 else None


def _enhanced(place: Path, head: Head) -> Iterator[Frame]:
    """Functional groups: each is looked up in the frame, then in what all frames share (PS3.3 C.7.6.16)."""
    shared = _first(head.data, "SharedFunctionalGroupsSequence")
    own = head.data.get("PerFrameFunctionalGroupsSequence") or [None] * head.frames
    if len(own) < head.frames:
        raise FormatError(f"{place} describes {len(own)} of {head.frames} frames. It was cut or assembled wrongly; export it again.")
    for index in range(head.frames):
        groups = [group for group in (own[index], shared) if group is not None]
        yield Frame(head, index, **_grouped(head, groups), keys=_keys(_inside(groups)))


def _grouped(head: Head, groups: list[Any]) -> dict[str, Any]:
    def look(sequence: str, keyword: str) -> tuple[float, ...] | None:
        items = (_first(group, sequence) for group in groups)
        return next((found for item in items if item is not None and (found := numbers(item, keyword)) is not None), None)

    top = _single(head.data)
    place = _oriented(
        look("PlaneOrientationSequence", "ImageOrientationPatient") or numbers(head.data, "ImageOrientationPatient"),
        look("PlanePositionSequence", "ImagePositionPatient"),
    )
    slope = look("PixelValueTransformationSequence", "RescaleSlope")
    intercept = look("PixelValueTransformationSequence", "RescaleIntercept")
    return {**place, "spacing": _pair(look("PixelMeasuresSequence", "PixelSpacing")) or top["spacing"],
            "slope": slope[0] if slope else top["slope"], "intercept": intercept[0] if intercept else top["intercept"]}  # fmt: skip


def _first(data: Any, sequence: str) -> Any:
    items = data.get(sequence)
    return items[0] if items else None


def _inside(groups: list[Any]) -> list[Any]:
    """The single items of every functional group, the frame's own before the shared ones."""
    return [element.value[0] for group in groups for element in group if element.VR == "SQ" and element.value]


def _keys(items: list[Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for key in (*KEYS, "InstanceNumber"):
        for item in items:
            with suppress(FormatError):  # times may be written in ways that are no number
                value = numbers(item, key)
                if value:
                    found.setdefault(key, value[0])
    return found


def _dose(place: Path, head: Head) -> Iterator[Frame]:
    """Frames at offsets from the first along the normal, or (axial planes) at absolute heights (PS3.3 C.8.8.3.2)."""
    offsets = head.numbers("GridFrameOffsetVector") or ()
    if len(offsets) != head.frames:
        raise FormatError(f"{place} has {head.frames} frames and {len(offsets)} offsets. Export the dose again.")
    top = _single(head.data)
    if "position" not in top:
        raise FormatError(f"{place} states no position of its dose grid. Export the dose again.")
    first = Frame(head, 0, **top)
    absolute = offsets[0] != 0
    direction = np.array([0.0, 0.0, 1.0]) if absolute else first.normal
    for index, offset in enumerate(offsets):
        yield Frame(head, index, **{**top, "position": top["position"] + direction * (offset - offsets[0])})


def _spect(head: Head) -> Iterator[Frame]:
    """Reconstructed slices lie along the normal of the first detector, SpacingBetweenSlices (signed) apart (PS3.3 C.8.4.15)."""
    detector = _first(head.data, "DetectorInformationSequence")
    top = _single(head.data) | _oriented(numbers(detector, "ImageOrientationPatient"), numbers(detector, "ImagePositionPatient"))
    apart = head.numbers("SpacingBetweenSlices") or head.numbers("SliceThickness")
    for index in range(head.frames):
        frame = Frame(head, index, **top)
        if frame.position is None or apart is None:
            yield Frame(head, index, spacing=top["spacing"], slope=top["slope"], intercept=top["intercept"])
        else:
            yield Frame(head, index, **{**top, "position": frame.position + frame.normal * apart[0] * index})


def _check(place: Path, frame: Frame) -> None:
    """Direction cosines must be two orthogonal unit vectors."""
    if frame.along_row is None or frame.along_column is None:
        return
    lengths = [float(np.linalg.norm(v)) for v in (frame.along_row, frame.along_column)]
    skew = abs(float(frame.along_row @ frame.along_column))
    if max(abs(length - 1) for length in lengths) > 1e-2 or skew > 1e-2:
        told = [round(float(v), 4) for v in (*frame.along_row, *frame.along_column)]
        raise FormatError(f"{place}: {frame.name} has the orientation {told}, which is not two orthogonal unit vectors. Export it again.")
    if not np.isfinite([frame.slope, frame.intercept]).all() or frame.slope == 0:
        raise FormatError(f"{place}: {frame.name} has slope {frame.slope} and intercept {frame.intercept}. Export it again.")
