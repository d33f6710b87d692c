"""Connected parts of an answer: each with its box and its voxels, the largest of a label, and those that are certain enough."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vesalius.core.connected import around, boxes, numbered
from vesalius.core.space import Array
from vesalius.data.labels import Labels


def largest(said: Array, names: Sequence[str], *, labels: Labels) -> Array:
    """`said` with only the largest connected outline of each label in `names`."""
    out = said.copy()
    for number, name in enumerate(labels.names):
        if name not in names:
            continue
        plane = 0 if labels.exclusive else number
        found = pieces(labels.mask(said, number))
        for box, members in sorted(found, key=lambda piece: -int(piece[1].sum()))[1:]:
            out[plane][box][members] = 0
    return out


def kept(said: Array, certainty: Array, levels: Mapping[str, int], *, labels: Labels) -> Array:
    """`said` without the outlines whose most certain voxel stays below the level of their label."""
    out = said.copy()
    for number, name in enumerate(labels.names):
        if name not in levels:
            continue
        plane = 0 if labels.exclusive else number
        inside = said[plane] == (number + 1 if labels.exclusive else 1)
        for part, members, peak in outlines(inside, certainty[plane]):
            if peak < levels[name]:
                out[plane][part][members] = 0
    return out


def outlines(inside: NDArray[np.bool_], certainty: Array) -> list[tuple[tuple[slice, ...], NDArray[np.bool_], int]]:
    """Each connected part of `inside`: its box, its voxels there, and the code of its most certain voxel."""
    found = []
    for box, members in pieces(inside):
        found.append((box, members, int(certainty[box][members].max())))
    return found


def pieces(inside: NDArray[np.bool_]) -> list[tuple[tuple[slice, ...], NDArray[np.bool_]]]:
    """Each connected part of `inside`: its box, and its voxels there. Nothing is looked at beyond the box of all."""
    box = around(inside)
    if box is None:
        return []
    numbers, count = numbered(inside[box])
    return [
        (tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, part, strict=True)), numbers[part] == k)
        for k, part in enumerate(boxes(numbers, count), start=1)
    ]
