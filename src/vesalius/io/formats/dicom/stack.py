"""Frames sorted into a volume along their normal, with everything that can be wrong with a series found and named."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import FormatError
from vesalius.core.space import Array, Space
from vesalius.io.formats.dicom.frames import KEYS, Frame
from vesalius.io.separable import taps

_SAME_PLACE = 0.01  # mm: frames closer than this along the normal lie at one place
_UNEVEN = 0.05  # share of the slice distance by which a slice may be off an even grid
_TILT = 0.1  # degrees between the normal and the line of slice centres, above which the stack is straightened


@dataclass(frozen=True)
class Stack:
    """`frames[t][k]`: image t at place k. `shift` is the drift of each next slice in (columns, rows), zero without tilt."""

    frames: list[list[Frame]]
    space: Space
    shift: tuple[float, float]
    words: dict[str, Any]
    notes: list[str]


def stack(place: Path, frames: list[Frame]) -> Stack:
    """Positioned frames as a volume in RAS+ millimetres: index (column, row, slice), slices along the normal, as ITK has them."""
    _check_alike(place, frames)
    places = _places(frames)
    times, words, notes = _times(place, places)
    if len(places) == 1:
        return Stack(times, flat_space(times[0][0], notes), (0.0, 0.0), words, notes)
    centres = np.stack([np.asarray(group[0].position) for group in places])
    step = _step(place, places, centres)
    first = places[0][0]
    assert first.along_row is not None and first.along_column is not None and first.spacing is not None
    normal = first.normal
    drift = step - normal * (step @ normal)
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(drift), step @ normal)))
    shift = (0.0, 0.0)
    if tilt > _TILT:
        shift = (float(drift @ first.along_row) / first.spacing[1], float(drift @ first.along_column) / first.spacing[0])
        notes.append(f"The gantry was tilted by {tilt:.1f} degrees: slices are shifted (linear interpolation) onto an upright grid.")
        step = normal * (step @ normal)
    return Stack(times, _space(first, centres[0], step, count=len(places), shift=shift), shift, words, notes)


def _space(first: Frame, origin: Array, step: Array, *, count: int, shift: tuple[float, float]) -> Space:
    """LPS to RAS; a tilted stack takes as many more columns and rows as its slices drift."""
    assert first.along_row is not None and first.along_column is not None and first.spacing is not None
    affine = np.eye(4)
    affine[:3, 0] = first.along_row * first.spacing[1]
    affine[:3, 1] = first.along_column * first.spacing[0]
    affine[:3, 2] = step
    more, before = grown(shift, count)
    affine[:3, 3] = origin - affine[:3, :2] @ np.asarray(before, float)
    affine[:2] *= -1
    return Space((first.head.whole("Columns", 0) + more[0], first.head.whole("Rows", 0) + more[1], count), affine)


def grown(shift: tuple[float, float], count: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(columns and rows added, those of them added before the first) so that no shifted slice is cut."""
    ends = [s * (count - 1) for s in shift]
    more = tuple(int(np.ceil(abs(e) - 1e-6)) for e in ends)
    before = tuple(m if e < 0 else 0 for m, e in zip(more, ends, strict=True))
    return (more[0], more[1]), (before[0], before[1])


def straightened(array: Array, shift: tuple[float, float]) -> Array:
    """(C, slices, rows, columns) with slice k moved by k * shift (columns, rows), linearly, edges filled with the minimum."""
    if shift == (0.0, 0.0):
        return array
    (more_columns, more_rows), (left, top) = grown(shift, array.shape[1])
    pad = ((0, 0), (0, 0), (top, more_rows - top), (left, more_columns - left))
    low = array.min()
    wide = np.pad(array, pad, constant_values=low)
    for k in range(array.shape[1]):
        moved = _moved(wide[:, k].astype(np.float32), (k * shift[1], k * shift[0]), low=float(low))
        wide[:, k] = np.rint(moved) if array.dtype.kind in "iu" else moved
    return wide


def _moved(slices: Array, far: tuple[float, float], *, low: float) -> Array:
    """(C, rows, columns) moved so `far` along rows and columns, linearly; what would come from beyond the edges is `low`."""
    out, beyond = slices.astype(np.float64), np.zeros(slices.shape[1:], bool)
    for axis, by in enumerate(far):
        side, form = slices.shape[1 + axis], (-1, 1) if axis == 0 else (-1,)
        place = np.arange(side) - by
        near, weights = taps(place.clip(0, side - 1), side, 1)
        out = sum((out.take(near[:, k], 1 + axis) * weights[:, k].reshape(form) for k in (0, 1)), np.zeros(()))
        beyond |= ((place < 0) | (place > side - 1)).reshape(form)
    out[:, beyond] = low
    return out.astype(slices.dtype)


def _check_alike(place: Path, frames: list[Frame]) -> None:
    """One size, one kind of pixel, one spacing, one orientation, and a position for each."""
    _one(place, frames, what="size", of=lambda f: (f.head.whole("Rows", 0), f.head.whole("Columns", 0)))
    _one(place, frames, what="number of samples", of=lambda f: (f.head.samples,))
    if len({frame.head.photometric for frame in frames}) > 1:
        models = ", ".join(sorted({frame.head.photometric for frame in frames}))
        raise FormatError(f"{place} mixes the colour models {models}. Keep one in the folder.")
    lost = [frame.name for frame in frames if frame.position is None]
    if lost:
        raise FormatError(
            f"{place}: {len(lost)} of {len(frames)} images state no position ({_some(lost)}), so that they make no volume. "
            "Give single files."
        )
    lacking = [frame.name for frame in frames if frame.spacing is None]
    if lacking:
        raise FormatError(f"{place} states no pixel spacing for {_some(lacking)}. Export the series again.")
    _one(place, frames, what="pixel spacing", of=lambda f: f.spacing or ())
    _one(place, frames, what="orientation", of=lambda f: (*np.asarray(f.along_row).tolist(), *np.asarray(f.along_column).tolist()))


def _one(place: Path, frames: list[Frame], *, what: str, of: Callable[[Frame], tuple[float, ...]]) -> None:
    """Refuse frames that differ in `of` by more than 0.005 (a third of a degree, 5 micrometres)."""
    groups: list[tuple[tuple[float, ...], list[str]]] = []
    for frame in frames:
        value = of(frame)
        near = [names for key, names in groups if max(abs(a - b) for a, b in zip(key, value, strict=True)) <= 5e-3]
        if near:
            near[0].append(frame.name)
        else:
            groups.append((value, [frame.name]))
    if len(groups) > 1:
        groups.sort(key=lambda group: -len(group[1]))
        told = "; ".join(f"{' x '.join(f'{v:g}' for v in key)}: {_some(names)}" for key, names in groups[:6])
        raise FormatError(f"{place} mixes images of more than one {what}: {told}. Move those that do not belong into another folder.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _places(frames: list[Frame]) -> list[list[Frame]]:
    """Frames by place along the normal, in its direction."""
    normal = frames[0].normal
    heights = np.array([float(np.dot(frame.position, normal)) for frame in frames if frame.position is not None])
    order = np.argsort(heights, kind="stable")
    groups: list[list[Frame]] = []
    last = -np.inf
    for number in order:
        if heights[number] - last > _SAME_PLACE:
            groups.append([])
            last = heights[number]
        groups[-1].append(frames[number])
    return groups


def _times(place: Path, places: list[list[Frame]]) -> tuple[list[list[Frame]], dict[str, Any], list[str]]:
    """(frames[t][k], words, notes): several images at every place become channels, told apart by a key that DICOM states."""
    places, notes = _without_copies(places)
    counts = {len(group) for group in places}
    if len(counts) > 1:
        usual = min(counts)
        odd = next(group for group in places if len(group) > usual)
        raise FormatError(
            f"{place} has {len(odd)} images at one place ({_some([f.name for f in odd])}) and {usual} at others: duplicates, or two series "
            "in one. Move those that do not belong into another folder."
        )
    count = counts.pop()
    if count == 1:
        return [[group[0] for group in places]], {}, notes
    key = next((key for key in KEYS if _tells_apart(places, key)), "")
    if not key and not all(len({f.keys.get("InstanceNumber", f.index) for f in group}) == count for group in places):
        names = _some([f.name for f in places[0]])
        raise FormatError(f"{place} has {count} images at every place ({names}) that nothing tells apart: duplicates. Keep one of each.")
    by = key or "InstanceNumber"
    ordered = [sorted(group, key=lambda f: f.keys.get(by, f.index)) for group in places]
    values = [frame.keys.get(by, frame.index) for frame in ordered[0]]
    notes.append(f"{count} images at every place are taken as channels, in order of {by}.")
    return [list(time) for time in zip(*ordered, strict=True)], {"channel_key": by, "channel_values": values}, notes


def _tells_apart(places: list[list[Frame]], key: str) -> bool:
    """Whether the images at every place differ in `key`, by the same values everywhere."""
    sets = [{frame.keys.get(key) for frame in group} for group in places]
    return None not in sets[0] and len(sets[0]) == len(places[0]) and (all(s == sets[0] for s in sets) or key.endswith("Time"))


def _without_copies(places: list[list[Frame]]) -> tuple[list[list[Frame]], list[str]]:
    """The same object (SOPInstanceUID) twice is read once, with a word."""
    kept: list[list[Frame]] = []
    dropped: list[str] = []
    for group in places:
        seen: set[tuple[str, int]] = set()
        kept.append([])
        for frame in group:
            key = (str(frame.head.get("SOPInstanceUID", frame.name)), frame.index)
            if key in seen:
                dropped.append(frame.name)
            else:
                kept[-1].append(frame)
            seen.add(key)
    return kept, [f"{len(dropped)} copies of the same objects are left out: {_some(dropped)}."] if dropped else []


def _step(place: Path, places: list[list[Frame]], centres: Array) -> Array:
    """The vector from slice to slice; gaps and uneven slices are refused."""
    normal = places[0][0].normal
    heights = centres @ normal
    apart = np.diff(heights)
    usual = float(np.median(apart))
    for k in np.flatnonzero(apart > 1.5 * usual):
        missing = max(1, round(float(apart[k]) / usual) - 1)
        told = f"{places[k][0].name} and {places[k + 1][0].name}: {apart[k]:.2f} mm apart, {usual:.2f} mm elsewhere"
        raise FormatError(
            f"{place} lacks about {missing} slice{'s' * (missing > 1)} between {told}. "
            "Copy the missing slices, or leave out those beyond the gap."
        )
    step = (centres[-1] - centres[0]) / (len(centres) - 1)
    off = np.linalg.norm(centres - (centres[0] + np.arange(len(centres))[:, None] * step), axis=1)
    if off.max() > _UNEVEN * usual + _SAME_PLACE:
        worst = places[int(off.argmax())][0].name
        raise FormatError(
            f"{place}: slices are unevenly spaced ({apart.min():.3f} to {apart.max():.3f} mm; {worst} is {off.max():.3f} mm off). "
            "Leave out what does not belong, or resample with a tool that knows the protocol."
        )
    return np.asarray(step)


def flat_space(frame: Frame, notes: list[str]) -> Space:
    """The space of one 2D image (rows, columns): millimetres where any element states them."""
    head = frame.head
    shape = (head.whole("Rows", 0), head.whole("Columns", 0))
    if frame.spacing:
        return Space.of(shape, frame.spacing)
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = head.numbers(keyword)
        if spacing and len(spacing) == 2 and min(spacing) > 0:
            if keyword == "ImagerPixelSpacing":
                notes.append("The spacing is that at the detector; objects in the body are smaller by the magnification.")
            return Space.of(shape, spacing)
    regions = head.data.get("SequenceOfUltrasoundRegions") or []
    if len(regions) == 1 and int(regions[0].get("PhysicalUnitsXDirection") or 0) == 3:  # 3: centimetres
        sides = [abs(float(regions[0].get(f"PhysicalDelta{axis}") or 0)) * 10 for axis in "YX"]
        if min(sides) > 0:
            return Space.of(shape, sides)
    return Space.of(shape, physical=False)
