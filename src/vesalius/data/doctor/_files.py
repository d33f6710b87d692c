"""Checks of files and their geometry: can they be read, do they lie on one grid, are they of one kind."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vesalius.core.space import Space
from vesalius.data.dataset import Dataset
from vesalius.data.doctor._finding import Finding, cases_word, some
from vesalius.data.doctor._look import Look, Picture
from vesalius.data.read import GRID_TOLERANCE

EXACT = 1e-3  # voxels: less than this is rounding in the header


def unreadable(_: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Files that no format can read."""
    for one in seen:
        for path, problem in one.unread:
            yield Finding("unreadable", "error", f"Case {one.case.name}: {problem}", (one.case.name,),
                          f"Restore {path}, or leave the case out (--skip-bad leaves out all such).", {"path": str(path)})  # fmt: skip


def dimensions(_: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Pictures among volumes, or the reverse."""
    axes = {one.case.name: one.picture.space.ndim for one in seen if one.picture}
    if len(set(axes.values())) > 1:
        usual = Counter(axes.values()).most_common(1)[0][0]
        odd = tuple(name for name, n in axes.items() if n != usual)
        yield Finding("dimensions", "error", f"{len(odd)} cases have {5 - usual} dimensions, the others {usual}: {some(odd)}.", odd,
                      "Put pictures and volumes into two data sets.")  # fmt: skip


def missing(dataset: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Channels that some cases lack."""
    for channel in dataset.channels:
        lack = tuple(one.case.name for one in seen if channel not in one.case.images)
        if lack:
            yield Finding("missing", "warning", f"{cases_word(len(lack), len(seen))} lack the channel {channel}: {some(lack)}.", lack,
                          "They can be used (a missing channel is filled with its mean), but check that the files are not just named "
                          "differently.")  # fmt: skip


def components(_: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Grey stored as colour, and files whose number of components is unlike the others'."""
    by: dict[str, dict[str, int]] = defaultdict(dict)
    stored = [one.case.name for one in seen for p in one.images.values() if p.grey]
    if stored:
        names = tuple(dict.fromkeys(stored))
        yield Finding("components", "note", f"{cases_word(len(names), len(seen))} are grey pictures stored as colour; they count as one "
                      "channel.", names)  # fmt: skip
    for one in seen:
        for channel, p in one.images.items():
            by[channel][one.case.name] = 1 if p.grey or p.components <= 2 else 3 if p.components == 4 else p.components
    for channel, counts in by.items():
        if len(set(counts.values())) > 1:
            usual = Counter(counts.values()).most_common(1)[0][0]
            odd = tuple(name for name, n in counts.items() if n != usual)
            convertible = set(counts.values()) <= {1, 3}
            yield Finding("components", "warning" if convertible else "error",
                          f"The channel {channel} has {usual} component(s), but {counts[odd[0]]} in {some(odd)}.", odd,
                          "Grey and colour are converted into each other; check that this is meant." if convertible
                          else "Leave the cases out, or store the same components in each.")  # fmt: skip


def geometry(_: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Masks that do not lie on their image: repaired where the headers differ by rounding, refused where they do not."""
    nudged: list[str] = []
    for one in seen:
        if one.picture is None:
            continue
        for mask in one.masks.values():
            image, off = one.picture, offset(mask.space, one.picture.space)
            if np.isinf(off):
                what = f"the mask has shape {mask.space.shape}, its image {image.space.shape}"
            elif off > GRID_TOLERANCE:
                what = f"the mask lies {off:.2g} voxels away from its image though the shapes agree"
            else:
                nudged += [one.case.name] if off > EXACT else []
                continue
            how = remedy(mask.path, image.path, shapes_agree=not np.isinf(off))
            yield Finding("geometry", "error", f"Case {one.case.name}: {what} ({mask.path.name}).", (one.case.name,), how,
                          {"mask": str(mask.path), "image": str(image.path)})  # fmt: skip
    if nudged:
        yield Finding("geometry", "repaired", f"The masks of {cases_word(len(nudged), len(seen))} are off their image by less than "
                      f"{GRID_TOLERANCE} voxels (rounding in a header); they are taken to lie on it.", tuple(nudged))  # fmt: skip


def offset(mask: Space, image: Space) -> float:
    """Voxels between the corners of two grids, infinite where shapes differ; a volume of one slice is a picture."""
    if mask.ndim == 3 and image.ndim == 2 and mask.shape[2] == 1:
        mask = Space(mask.shape[:2], np.delete(np.delete(mask.affine, 2, 0), 2, 1), mask.physical)
    if mask.shape != image.shape:
        return float("inf")
    return mask.distance_to(image) / min(image.spacing) if mask.physical and image.physical else 0.0


def remedy(mask: Path, image: Path, *, shapes_agree: bool) -> str:
    """The command that mends it."""
    resample = f"vesalius convert {mask} OUT --like {image} --order 0"
    if not shapes_agree:
        return f"Resample it: {resample}"
    return f"If its pixels are right and only the header is wrong, vesalius convert {mask} OUT --geometry-of {image}; if not, {resample}"


def channel_grids(dataset: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Channels of one case on unlike grids: resampled onto the first. Views of a case that is labelled as a whole may differ."""
    if dataset.grain != "voxel":
        return
    unlike = tuple(one.case.name for one in seen if any(_unlike(p, one.picture) for p in one.images.values()))
    if unlike:
        yield Finding("grids", "repaired", f"The channels of {cases_word(len(unlike), len(seen))} lie on unlike grids; they are "
                      f"resampled onto the first: {some(unlike)}.", unlike,
                      "Check that they are of one frame of reference (registered).")  # fmt: skip


def _unlike(one: Picture, other: Picture | None) -> bool:
    return other is not None and offset(one.space, other.space) > GRID_TOLERANCE


def spacings(_: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Unlike voxel sizes and orientations: nothing is wrong, but whoever reads the results should know."""
    spaces = {one.case.name: one.picture.space for one in seen if one.picture}
    for ndim in sorted({space.ndim for space in spaces.values()}):
        same = {name: space for name, space in spaces.items() if space.ndim == ndim}
        physical = [space.physical for space in same.values()]
        sizes = np.array([space.turned(space.canonical_turn()).spacing for space in same.values() if space.physical])
        if len(sizes) and (sizes.max(0) / sizes.min(0)).max() > 1.5:
            spread = " x ".join(f"{a:.2g}-{b:.2g}" for a, b in zip(sizes.min(0), sizes.max(0), strict=True))
            yield Finding("spacing", "note", f"Voxel sizes are unlike: {spread} mm.", details={"smallest": sizes.min(0).tolist(),
                          "largest": sizes.max(0).tolist()})  # fmt: skip
        if any(physical) and not all(physical):
            lost = tuple(name for name, space in same.items() if not space.physical)
            yield Finding("spacing", "warning", f"{cases_word(len(lost), len(same))} state no voxel size, the others do: {some(lost)}.",
                          lost, "Their lengths would count as 1 mm; write the size into them or leave them out.")  # fmt: skip
        codes = Counter(space.axis_codes for space in same.values())
        if len(codes) > 1:
            yield Finding("orientation", "repaired", "Orientations are unlike (" + ", ".join(f"{n} x {c}" for c, n in codes.most_common())
                          + "); all are turned to RAS for learning, and answers are turned back.", details=dict(codes))  # fmt: skip
        tilted = tuple(name for name, space in same.items() if space.shear > 0.01)
        if tilted:
            yield Finding("orientation", "warning", f"The axes of {cases_word(len(tilted), len(same))} are not at right angles (gantry "
                          f"tilt): {some(tilted)}.", tilted, "Distances across such slices are slightly off.")  # fmt: skip
