"""A whole case on one fixed grid: each channel comes there from a grid of its own, and the channels are stacked.

Photographs, views and phases of one case need not lie on each other; a channel that a case lacks is all zeros, by which a network
tells that it is missing. Where an image shrinks, means of blocks are taken first, so that nothing is skipped.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import DataError
from vesalius.core.space import Array, Space
from vesalius.data.case import Case
from vesalius.data.prepare import Preparation, nonzero_box, normalised
from vesalius.data.read import components
from vesalius.io import load
from vesalius.io.image import Image

Floats = NDArray[np.float32]


def read_whole(case: Case, how: Preparation, size: Sequence[int]) -> Floats:
    """(C, *size): every channel of `case`, normalised, on the fixed grid whose first axis is `how.lead` of the scan's."""
    if not set(case.images) & set(how.channels):
        raise DataError(f"Case {case.name} has none of the channels {', '.join(how.channels)}.")
    parts, done = [], 0
    for name, count in how.channels.items():
        rules, done = how.normalise[done : done + count], done + count
        if name not in case.images:
            parts.append(np.zeros((count, *size), np.float32))
            continue
        image = flat(components(load(case.images[name]), count, case.images[name]), len(size)).canonical()
        if image.space.ndim != len(size):
            raise DataError(f"Case {case.name}, channel {name}: the image has {image.space.ndim} dimensions; {len(size)} were expected, "
                            "as in the other cases. Leave it out, or put pictures and volumes into two data sets.")  # fmt: skip
        pixels, spacing = normalised(image.array, rules), image.space.spacing
        if how.crop:
            pixels = pixels[(slice(None), *nonzero_box(image.array))]
        parts.append(fitted(np.moveaxis(pixels, 1 + how.lead, 1), led(spacing, how.lead), how, size=size))
    return np.concatenate(parts)


def led(values: Sequence[Any], lead: int) -> list[Any]:
    """One value per axis, that of the axis `lead` first and the others in their order."""
    return [values[lead], *values[:lead], *values[lead + 1 :]]


def flat(image: Image, ndim: int) -> Image:
    """A volume of one slice as a picture, where pictures are asked for."""
    if ndim == 3 or image.space.ndim == 2 or 1 not in image.space.shape:
        return image
    axis = image.space.shape.index(1)
    sides, steps = (tuple(np.delete(values, axis)) for values in (image.space.shape, image.space.spacing))
    return Image(np.take(image.array, 0, 1 + axis), Space.of(sides, steps, physical=image.space.physical), image.source)


def fitted(pixels: Array, spacing: Sequence[float], how: Preparation, *, size: Sequence[int]) -> Floats:
    """`pixels` (C, *S) with `spacing` on a grid of `size` about the same centre; beyond the image there are zeros.

    "pad": voxels of how.spacing millimetres, made larger where the image would not fit; without a spacing the image fills the grid
    along the side that is longest for it. "stretch": the image fills the grid along every side.
    """
    steps = network_steps(np.array(pixels.shape[1:]) * spacing, how, np.array(size))
    out = np.asarray(pixels, np.float32)
    for axis, (step, own, side) in enumerate(zip(steps, spacing, size, strict=True), start=1):
        out = along(out, axis, ratio=float(step / own), side=side)
    return np.ascontiguousarray(out)


def network_steps(extent: NDArray[np.float64], how: Preparation, size: NDArray[np.int64]) -> NDArray[np.float64]:
    """Length of a network voxel along each axis, in the unit of `extent`."""
    if how.fit == "stretch":
        return np.asarray(extent / size)
    unit = np.array(how.spacing or (1.0,) * len(size))
    factor = float((extent / (size * unit)).max())
    return unit * (max(1.0, factor) if how.spacing else factor)


def along(pixels: Floats, axis: int, *, ratio: float, side: int) -> Floats:
    """`pixels` resampled along one axis to `side` voxels that are `ratio` old ones long, about the same centre; linear, and means
    of blocks before it where at least two old voxels make a new one."""
    length = pixels.shape[axis]
    if abs(ratio - 1) < 1e-9 and side == length:
        return pixels
    block = max(1, int(ratio + 1e-6))
    if block > 1:
        pixels = block_means(pixels, axis, block)
    place = ((np.arange(side) + 0.5 - side / 2) * ratio + length / 2) / block - 0.5
    inside = (place > -0.5 - 1e-6) & (place < length / block - 0.5 + 1e-6)
    place = place.clip(0, pixels.shape[axis] - 1)
    low = place.astype(np.intp)
    part = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(pixels.ndim)])
    first = pixels.take(low, axis)
    out = first + part * (pixels.take(np.minimum(low + 1, pixels.shape[axis] - 1), axis) - first)
    if not inside.all():
        out[(slice(None),) * axis + (~inside,)] = 0
    return np.asarray(out, np.float32)


def block_means(pixels: Floats, axis: int, block: int) -> Floats:
    """Means of `block` neighbours along one axis; the last block takes what is left."""
    starts = np.arange(0, pixels.shape[axis], block)
    counts = np.minimum(block, pixels.shape[axis] - starts).astype(np.float32)
    return np.asarray(
        np.add.reduceat(pixels, starts, axis) / counts.reshape([-1 if a == axis else 1 for a in range(pixels.ndim)]), np.float32
    )
