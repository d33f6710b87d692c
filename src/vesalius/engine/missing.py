"""Channels that a new case lacks, filled in by a method that has learned how channels go together, each written on the case's own grid."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vesalius.core.space import Array
from vesalius.data.case import Case
from vesalius.data.normalise import Normalise
from vesalius.data.read import components
from vesalius.engine.grids import restored
from vesalius.io import load, save
from vesalius.io.image import Image
from vesalius.plan import Plan
from vesalius.tasks import Images

SWEEPS = 200  # turns of a chain to burn in, and as many that are averaged


def lacking(case: Case, channels: Mapping[str, int]) -> tuple[str, ...]:
    """Channels that `case` does not have."""
    return tuple(name for name in channels if name not in case.images)


def completed(method: Any, images: Images, plan: Plan) -> Images:
    """`images` with channels that a case lacks as the method expects them from the others; as they are where the method cannot."""
    channels, groups = plan.preparation.channels, defaultdict[tuple[str, ...], list[int]](list)
    for k, case in enumerate(images.cases):
        groups[lacking(case, channels)].append(k)
    if not callable(getattr(method, "fill", None)) or set(groups) == {()}:
        return images
    pixels = [np.array(one, np.float32) for one in images.pixels]
    for names, rows in groups.items():
        if names:
            away = [c for name in names for c in places(name, channels)]
            seen = torch.from_numpy(np.stack([pixels[k] for k in rows])).to(method.step.device)
            for k, made in zip(rows, method.fill(seen, away, sweeps=SWEEPS).float().cpu().numpy(), strict=True):
                pixels[k] = made
    return replace(images, pixels=pixels)


def places(name: str, channels: Mapping[str, int]) -> range:
    """Numbers of the components of the channel called `name`."""
    first = sum(count for other, count in list(channels.items())[: list(channels).index(name)])
    return range(first, first + channels[name])


def write_missing(folder: Path, case: Case, pixels: Array, *, plan: Plan) -> list[Path]:
    """A file for each channel that `case` lacks, out of `pixels` (C, *grid), on the grid of the first channel that it has: in the units of
    the channel where its scale is the same in all cases, else as the method sees it; a picture from black to white."""
    how, paths = plan.preparation, []
    for name in lacking(case, how.channels):
        other = next(known for known in how.channels if known in case.images)
        like = components(load(case.images[other]), how.channels[other], case.images[other])
        made = np.concatenate([in_units(restored(pixels[c : c + 1], like, how, size=plan.patch.size), how.normalise[c])
                               for c in places(name, how.channels)])  # fmt: skip
        paths.append(folder / f"{case.name}_{name}{'.nii.gz' if like.space.ndim == 3 else '.png'}")
        save(Image(made if like.space.ndim == 3 else _grey(made), like.space), paths[-1])
    return paths


def in_units(values: NDArray[np.float32], rule: Normalise) -> NDArray[np.float32]:
    """What `rule` made of intensities, undone where it does the same to every case."""
    if rule.kind == "unit" and rule.high > rule.low:
        return np.asarray(values * (rule.high - rule.low) + rule.low, np.float32)
    return np.asarray(values * rule.std + rule.mean, np.float32) if rule.kind == "window" else values


def _grey(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """0 to 255 as they are, 0 to 1 from black to white, others from their least to their greatest."""
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255:
        values = 255 * (values - low) / max(high - low, 1e-8)
    return np.asarray(np.rint(values * (255 if high <= 1 and low >= 0 else 1)), np.uint8)
