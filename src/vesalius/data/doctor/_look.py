"""One pass over a case: everything that the checks need to know, in some 2.6 kB; each file is read once."""

from array import array
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import VesaliusError
from vesalius.core.space import Array, Space
from vesalius.data.case import Case, Masked, files_of
from vesalius.data.doctor._edges import edges_under
from vesalius.data.doctor._rows import Kept, Rows
from vesalius.data.doctor.duplicates import SIDE, content, thumbnails
from vesalius.data.labels import Labels
from vesalius.data.read import load_mask
from vesalius.io.image import Image

SAMPLES = 100_000  # pixels looked at for percentiles
CHUNK = 1 << 18  # voxels counted at a time
STATS = ("minimum", "low", "median", "high", "whole", "near_water", "below_air")


@dataclass(frozen=True, slots=True)
class Picture:
    """What is known of one image file. `bad` is the share of NaN or infinite pixels; `numbers` are the `stats` of a sample of all
    pixels; `depth` is the kind of its values (uint8 ...); its thumbnails lie in a file that the looks share."""

    path: Path
    space: Space
    components: int
    grey: bool
    bad: float
    constant: bool
    digest: str
    numbers: "array[float]"
    words: dict[str, Any]
    thumbs: Kept
    depth: str = ""

    @property
    def stats(self) -> dict[str, float]:
        """What `sampled` has found."""
        return dict(zip(STATS, self.numbers, strict=False))


@dataclass(frozen=True, slots=True)
class Mask:
    """What is known of one mask. `counts` holds raw values and how often they occur; `problem` why they cannot be told."""

    path: Path
    space: Space
    counts: dict[int, int]
    problem: str = ""


@dataclass(slots=True)
class Look:
    """One case: images by channel, masks by rater, and (path, words) of the files that could not be read. `edges` tell
    how well the reference mask fits the first channel, as it is and flipped (see _edges)."""

    case: Case
    images: dict[str, Picture] = field(default_factory=dict)
    masks: dict[str, Mask] = field(default_factory=dict)
    unread: list[tuple[Path, str]] = field(default_factory=list)
    edges: tuple[float, ...] = ()

    @property
    def picture(self) -> Picture | None:
        """The first channel that could be read."""
        return next(iter(self.images.values()), None)

    @property
    def mask(self) -> Mask | None:
        """The reference rater's mask, where it could be read."""
        first = next(iter(self.case.masks), "")
        return self.masks.get(first)


def sheets() -> Rows:
    """Where the thumbnails of many looks go, a row (72, 72) for each view."""
    return Rows((SIDE, SIDE), "uint8")


def look(case: Case, channels: tuple[str, ...], labels: Labels, *, sheet: Rows) -> Look:
    """Read every file of `case`; what cannot be read is told, never raised. Thumbnails are put on the `sheet`."""
    seen, pixels, marked = Look(case), None, None
    for channel in channels:
        if channel in case.images and (image := _read(seen, case.images[channel], labels)):
            seen.images[channel] = picture(image, case.images[channel], sheet)
            pixels = image if pixels is None else pixels
    for rater, place in case.masks.items():
        if image := _read(seen, place, labels, space=pixels.space if pixels else None):
            seen.masks[rater] = mask(_on(image, pixels), files_of(place)[0], labels)
            marked = image if marked is None else marked
    if pixels and marked and pixels.space.shape == marked.space.shape:
        seen.edges = edges_under(pixels.array[:3].mean(0) if pixels.space.ndim == 2 else pixels.array[0], foreground(marked, labels))
    return seen


def _on(image: Image, other: Image | None) -> Image:
    """`image` with the very space of `other` where it has the same: of many cases each is then held once."""
    return replace(image, space=other.space) if other and _equal(image.space, other.space) else image


def _equal(one: Space, other: Space) -> bool:
    return one.shape == other.shape and one.physical == other.physical and np.array_equal(one.affine, other.affine)


def foreground(image: Image, labels: Labels) -> NDArray[np.bool_]:
    """(*S) where the mask holds any label; a colour-coded mask is read by its first component that is not black."""
    value = image.array[0] if image.channels < 3 else image.array[:3].max(0)
    marked = value != 0 if labels.background == (0,) else ~np.isin(value, labels.background)
    return np.asarray(marked if labels.ignore is None else marked & (value != labels.ignore), bool)


def _read(seen: Look, place: Masked, labels: Labels, *, space: Space | None = None) -> Image | None:
    try:
        return load_mask(place, labels, space)
    except VesaliusError as problem:
        seen.unread.append((files_of(place)[0], str(problem)))
        return None


def picture(image: Image, path: Path, sheet: Rows) -> Picture:
    """The facts of one image."""
    pixels = image.array
    grey = pixels.shape[0] in (3, 4) and bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())
    low, high, bad = extremes(pixels)
    turned = image.space.canonical_turn().apply(pixels[0] if grey or pixels.shape[0] == 1 else pixels[:3].mean(0))
    views = thumbnails(turned)
    return Picture(path, image.space, image.channels, grey, bad, not low < high, content(pixels), array("d", sampled(pixels, low)),
                   {k: v for k, v in image.source.words.items() if isinstance(v, str | int | float)},
                   Kept(sheet, sheet.add(views), len(views)), pixels.dtype.name)  # fmt: skip


def extremes(pixels: Array) -> tuple[float, float, float]:
    """Smallest and largest finite value, and the share of values that are neither; (nan, nan, 1) where none is finite."""
    low, high = float(pixels.min()), float(pixels.max())
    if np.isfinite(low) and np.isfinite(high):
        return low, high, 0.0
    finite = np.isfinite(pixels)
    good = pixels[finite]
    ends = (float(good.min()), float(good.max())) if good.size else (float("nan"), float("nan"))
    return *ends, 1 - float(finite.mean())


def sampled(pixels: Array, lowest: float) -> list[float]:
    """STATS of evenly spread pixels, the smallest of all, percentiles, and what tells Hounsfield units (the words of data/normalise);
    nothing where no pixel is finite."""
    flat = pixels.ravel(order="K")  # in the order of memory: a volume is not copied
    sample = np.asarray(flat[:: max(1, flat.size // SAMPLES)], np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return []
    low, median, high = (float(v) for v in np.percentile(sample, [0.5, 50, 99.5]))
    return [lowest, low, median, high, float(np.mean(sample == np.rint(sample))), float(np.mean(np.abs(sample) <= 150)),
            float(np.mean((sample < -1050) & (sample != sample.min())))]  # fmt: skip


def mask(image: Image, path: Path, labels: Labels) -> Mask:
    """The facts of one mask; values that are no whole numbers, or colours without a meaning, are its problem."""
    pixels = image.array
    if pixels.shape[0] not in (1, 2, 3, 4):
        return Mask(path, image.space, {}, f"has {pixels.shape[0]} components; a mask has one, or is colour-coded")
    try:
        values = pixels[0] if pixels.shape[0] < 3 else labels.raw_values(pixels[:3])
        return Mask(path, image.space, counted(values))
    except VesaliusError as problem:
        return Mask(path, image.space, {}, str(problem))
    except ValueError as problem:
        return Mask(path, image.space, {}, str(problem))


def counted(values: Array) -> dict[int, int]:
    """How often each whole number occurs; ValueError where some are none. Small numbers are counted in chunks, not sorted."""
    total: dict[int, int] = {}
    flat = values.ravel(order="K")
    for start in range(0, flat.size, CHUNK):
        part = flat[start : start + CHUNK]
        if part.dtype.kind == "f":
            if not np.isfinite(part).all() or (part != np.rint(part)).any():
                raise ValueError("holds values that are no whole numbers: is it an image or a map of probabilities?")
            part = part.astype(np.int64)
        low, high = int(part.min()), int(part.max())
        if 0 <= low and high < 1 << 16:
            counts = np.bincount(part)
            found = zip(np.flatnonzero(counts).tolist(), counts[counts > 0].tolist(), strict=True)
        else:
            found = zip(*(a.tolist() for a in np.unique(part, return_counts=True)), strict=True)
        for value, count in found:
            total[value] = total.get(value, 0) + count
    return total
