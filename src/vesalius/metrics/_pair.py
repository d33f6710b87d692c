"""Two masks on one grid, cropped to what they hold: what every metric of overlap, surface and lesions is given."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import GeometryError
from vesalius.core.space import Array, Space

Mask = NDArray[np.bool_]
Box = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Pair:
    """`prediction` and `truth` (*s) are the part of a grid that holds both; `space` is the whole grid.

    `tolerance` is the distance in millimetres (pixels where the space is not physical) that the surface Dice forgives.
    """

    prediction: Mask
    truth: Mask
    space: Space
    tolerance: float = 1.0

    @classmethod
    def of(cls, prediction: Array, truth: Array, space: Space, *, tolerance: float = 1.0) -> "Pair":
        """Masks (*S) on the grid `space`; whatever is not 0 is inside."""
        require_one_grid(prediction, truth, space)
        prediction, truth = np.asarray(prediction, bool), np.asarray(truth, bool)
        box = union_box(bounding_box(prediction), bounding_box(truth))
        return cls(np.ascontiguousarray(prediction[box]), np.ascontiguousarray(truth[box]), space, tolerance)

    @cached_property
    def volumes(self) -> tuple[int, int, int]:
        """Voxels of the prediction, of the truth and of both."""
        count = np.count_nonzero
        return int(count(self.prediction)), int(count(self.truth)), int(count(self.prediction & self.truth))

    @property
    def state(self) -> str:
        """"scored", or why some metrics have no ordinary value: "both_empty", "missed" or "hallucinated"."""
        predicted, actual, _ = self.volumes
        if predicted and actual:
            return "scored"
        return "missed" if actual else "hallucinated" if predicted else "both_empty"

    @property
    def diagonal(self) -> float:
        """Length of the image from corner to corner, edge to edge: the distance scored where one surface does not exist."""
        return float(np.linalg.norm(np.asarray(self.space.shape) * np.asarray(self.space.spacing)))


def require_one_grid(prediction: Array, truth: Array, space: Space) -> None:
    """Raise a GeometryError unless both arrays (*S) have the shape of `space`."""
    if prediction.shape != space.shape or truth.shape != space.shape:
        raise GeometryError(f"A prediction and its truth must lie on one grid: prediction {prediction.shape}, truth {truth.shape}, "
                            f"space {space.shape}. Resample one first: vesalius convert --like.")  # fmt: skip


def bounding_box(mask: Array) -> Box | None:
    """The smallest box of indices outside which `mask` is 0, or None where it is 0 everywhere."""
    union = np.bitwise_or if mask.dtype.kind in "bui" else np.logical_or  # of whole numbers half as long
    first = _ends(union.reduce(mask.reshape(len(mask), -1), axis=1))  # the only pass over the whole array
    if first is None:
        return None
    flat = union.reduce(mask[first], axis=0)
    others = (_ends(flat.any(axis=tuple(b for b in range(flat.ndim) if b != a))) for a in range(flat.ndim))
    return (first, *(part for part in others if part is not None))


def _ends(line: Array) -> slice | None:
    """From the first to the last of `line` that is not 0."""
    found = np.flatnonzero(line)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else None


def union_box(a: Box | None, b: Box | None) -> Box:
    """The box around both; an empty one where both are None."""
    if a is None or b is None:
        return a or b or (slice(0, 0),)
    return tuple(slice(min(x.start, y.start), max(x.stop, y.stop)) for x, y in zip(a, b, strict=True))


def pairs_of_maps(prediction: Array, truth: Array, space: Space, *, classes: int, tolerance: float = 1.0) -> Iterator[Pair]:
    """One pair for each class 1 .. `classes` of two label maps (*S), without a mask of the whole grid for any."""
    require_one_grid(prediction, truth, space)
    whole = union_box(bounding_box(prediction), bounding_box(truth))  # finding objects is slow in empty air
    prediction, truth = prediction[whole], truth[whole]
    boxes = [_boxes(labels, classes) for labels in (prediction, truth)]
    for k, (a, b) in enumerate(zip(*boxes, strict=True), start=1):
        box = union_box(a, b)
        yield Pair(prediction[box] == k, truth[box] == k, space, tolerance)


def _boxes(labels: Array, classes: int) -> list[Box | None]:
    """The box of each class; of one class alone it is found in a third of the time as that of a mask."""
    if classes == 1:
        return [bounding_box(labels == 1)]
    from scipy import ndimage

    found: list[Box | None] = ndimage.find_objects(labels, max_label=classes)
    return found
