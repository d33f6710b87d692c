"""What a data set looks like in numbers: shapes, spacings, intensities and classes, one pass over every case."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.space import Array
from vesalius.core.threads import answers
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.detail import pooled, survival
from vesalius.data.labels import Labels
from vesalius.data.pose import every, poses, thumbnail
from vesalius.data.prepare import nonzero_box
from vesalius.data.read import components as as_components
from vesalius.data.read import read_mask, read_stored
from vesalius.io import load

SAMPLES = 20_000  # foreground voxels kept per case for the intensity statistics ...
SAMPLES_IN_ALL = 10_000_000  # ... and of all cases, so that memory does not grow with their number
DETAILED = 24  # cases whose masks are taken to coarser grids
LOOKED_AT = 500  # cases whose pixels are looked at where cases as a whole are labelled, of which there may be very many


def fingerprint(dataset: Dataset, cases: Sequence[Case], *, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Facts on `cases` (those to train on: nothing of the test part may steer the plan), as plain JSON."""
    channels = components(dataset, cases)
    of_cases = dataset.grain != "voxel"
    some = cases[:: max(1, -(-len(cases) // LOOKED_AT))] if of_cases else cases
    detailed = {case.name for case in cases[:: max(1, len(cases) // DETAILED)]}
    posing = every(len(some))
    samples = max(1, min(SAMPLES, SAMPLES_IN_ALL // max(len(cases), 1)))

    def facts(case: Case) -> dict[str, Any]:
        if of_cases:
            return whole_facts(case, dataset, channels)
        return case_facts(case, dataset, channels, detailed=case.name in detailed, samples=samples)

    rows: list[dict[str, Any]] = []
    for row in answers(facts, some, threads=os.cpu_count() or 1):
        if len(rows) % posing:
            row.pop("thumbnail", None)
        rows.append(row)
        if progress:
            progress(len(rows), len(some))
    names = [f"{name}_{part}" if count > 1 else name for name, count in channels.items() for part in range(count)]
    return {
        "cases": len(cases),
        "channels": channels,
        "shapes": [row["shape"] for row in rows],
        "cropped_shapes": [row["cropped_shape"] for row in rows],
        "spacings": [row["spacing"] for row in rows],
        "physical": all(row["physical"] for row in rows),
        "cropped": float(np.median([row["cropped"] for row in rows])),
        "intensities": {name: _pooled([row["samples"][i] for row in rows], [row["extremes"][i] for row in rows])
                        for i, name in enumerate(names)},
        "missing": {name: sum(name not in case.images for case in cases) for name in channels},
        **({"classes": _class_counts(cases, dataset)} if of_cases else _mask_facts(rows, dataset)),
    }  # fmt: skip


def _mask_facts(rows: Sequence[dict[str, Any]], dataset: Dataset) -> dict[str, Any]:
    """What masks and the scans around them say: how rare classes are, how patients lie, which grids the masks bear."""
    alike = len({len(row["shape"]) for row in rows}) == 1
    return {
        "classes": _voxel_counts(rows, dataset),
        "poses": poses([row["thumbnail"] for row in rows if "thumbnail" in row]) if alike else {},
        "detail": pooled([row["detail"] for row in rows if row["detail"] is not None]),
    }


def _voxel_counts(rows: Sequence[dict[str, Any]], dataset: Dataset) -> dict[str, Any]:
    """In how many cases each label occurs, and its mean share of the voxels."""
    return {name: {"cases": sum(row["voxels"][k] > 0 for row in rows),
                   "share": float(np.mean([row["voxels"][k] / row["size"] for row in rows]))}
            for k, name in enumerate(dataset.labels.names)}  # fmt: skip


def _class_counts(cases: Sequence[Case], dataset: Dataset) -> dict[str, Any]:
    """How many cases each class has, and its share of those where it is known; nothing of what only masks say."""
    found: dict[str, Any] = {}
    if dataset.labels.grain == "voxel":
        return found
    for name in dataset.labels.names:
        known = [case.classes or {} for case in cases if dataset.labels.one_of or name in (case.classes or {})]
        count = sum(classes.get(name) == 1 for classes in known)
        found[name] = {"cases": count, "share": count / max(1, len(known))}
    return found


def whole_facts(case: Case, dataset: Dataset, channels: dict[str, int]) -> dict[str, Any]:
    """As `case_facts`, each channel on a grid of its own; shape and spacing are those of the first that is there."""
    chooser, grids = np.random.default_rng(0), []
    samples: list[Array] = []
    extremes: list[dict[str, float]] = []
    for name, count in channels.items():
        if name not in case.images:
            samples += [np.zeros(0, np.float32)] * count
            extremes += [{}] * count
            continue
        image = as_components(load(case.images[name]), count, case.images[name]).canonical()
        grids.append((image.space, nonzero_box(image.array)))
        samples += [_sample(channel.ravel(), chooser) for channel in image.array]
        extremes += [_extremes(channel, chooser) for channel in image.array]
    space, box = grids[0]
    sides = [part.stop - part.start for part in box]
    return {"shape": list(space.shape), "cropped_shape": sides, "spacing": list(space.spacing), "physical": space.physical,
            "size": int(np.prod(space.shape)), "cropped": float(np.prod(sides) / np.prod(space.shape)), "samples": samples,
            "extremes": extremes}  # fmt: skip


def components(dataset: Dataset, cases: Sequence[Case]) -> dict[str, int]:
    """Number of components per channel: a photograph has 3; grey stored as RGB counts as 1 (looked at in 5 cases)."""
    found = {}
    for name in dataset.channels:
        with_it = [case for case in cases if name in case.images]
        probes = with_it[:: max(1, len(with_it) // 5)][:5]
        found[name] = max((_colours(load(case.images[name]).array) for case in probes), default=1)
    return found


def _colours(pixels: Array) -> int:
    if pixels.shape[0] in (1, 2):
        return 1
    if pixels.shape[0] in (3, 4):
        grey = (pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all()
        return 1 if grey else 3
    return int(pixels.shape[0])


def case_facts(
    case: Case, dataset: Dataset, channels: dict[str, int], *, detailed: bool = True, samples: int = SAMPLES
) -> dict[str, Any]:
    """Shape and spacing on the RAS+ grid, foreground intensities (`samples` voxels of each channel), voxels per class and pose of
    one case; `detailed`: what its masks lose on coarser grids too."""
    image = read_stored(case, channels)
    turn = image.space.canonical_turn()
    space = image.space.turned(turn)
    turned = turn.apply(image.array)
    box = nonzero_box(turned)
    sides = [part.stop - part.start for part in box]
    coded = read_mask(case.mask, dataset.labels, image.space) if case.mask else None
    count = len(dataset.labels.names)
    size = int(np.prod(space.shape))
    detail = survival((turn.apply(dataset.labels.mask(coded, k)) for k in range(count)), space.spacing) \
        if detailed and coded is not None else None
    inside = any_class(dataset.labels, coded) if coded is not None else None
    chooser = np.random.default_rng(0)
    return {
        "shape": list(space.shape), "cropped_shape": sides, "spacing": list(space.spacing), "physical": space.physical, "size": size,
        "cropped": float(np.prod(sides) / size),
        "voxels": dataset.labels.counts(coded) if coded is not None else [0] * count,
        "thumbnail": thumbnail(turned),
        "detail": detail,
        "samples": [_sample(channel if inside is None else channel[inside], chooser, samples) for channel in image.array],
        "extremes": [_extremes(channel, chooser) for channel in image.array],
    }  # fmt: skip


def any_class(labels: Labels, coded: Array) -> NDArray[np.bool_] | None:
    """(*S) where any class is in what `labels.encode` gives, one class at a time; None where there is none."""
    inside = labels.mask(coded, 0)
    for k in range(1, len(labels.names)):
        inside |= labels.mask(coded, k)
    return inside if inside.any() else None


def _sample(values: Array, chooser: np.random.Generator, number: int = SAMPLES) -> Array:
    """Up to so many of the finite `values` (any shape), as float32; a volume is not copied."""
    whole = values.dtype.kind in "iu" or not values.size or bool(np.isfinite([values.min(), values.max()]).all())
    values = values if whole else values[np.isfinite(values)]
    if values.size <= number:
        return np.asarray(values.ravel(), np.float32)
    at = chooser.choice(values.size, number, replace=False)
    return np.asarray(values[np.unravel_index(at, values.shape)], np.float32)


def _extremes(channel: Array, chooser: np.random.Generator) -> dict[str, float]:
    values = _sample(channel, chooser)
    if not values.size:
        return {}
    return {"minimum": float(values.min()), "low": float(np.percentile(values, 0.5)), "high": float(np.percentile(values, 99.5)),
            "median": float(np.median(values)), "whole": float(np.mean(values == np.rint(values))),
            "near_water": float(np.mean(np.abs(values) <= 150)),
            "below_air": float(np.mean((values < -1050) & (values != values.min())))}  # fmt: skip


def _pooled(samples: list[Array], extremes: list[dict[str, float]]) -> dict[str, float]:
    values = np.concatenate(samples, dtype=np.float64)
    whole = [row for row in extremes if row]
    if not values.size or not whole:
        return dict.fromkeys(("mean", "std", "p0.5", "p99.5", "low", "high", "median", "minimum", "whole", "near_water", "below_air"), 0.0)
    low, high = np.percentile(values, [0.5, 99.5], overwrite_input=True)
    np.clip(values, low, high, out=values)
    return {
        "mean": float(values.mean()), "std": float(values.std()),
        "p0.5": float(low), "p99.5": float(high), "low": float(np.median([row["low"] for row in whole])),
        "high": float(np.median([row["high"] for row in whole])),
        "median": float(np.median([row["median"] for row in whole])), "minimum": min(row["minimum"] for row in whole),
        **{name: float(np.mean([row[name] for row in whole])) for name in ("whole", "near_water", "below_air")},
    }  # fmt: skip
