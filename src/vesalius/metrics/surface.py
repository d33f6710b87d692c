"""Distances between the surfaces of two masks, in millimetres: Hausdorff, its 95th percentile, mean, and surface Dice.

The surface of a mask is the set of its voxels with a face neighbour outside; beyond the image is outside, so that a
voxel on the image's border is surface, once. Distances run between voxel centres. Definitions differ between packages
(Maier-Hein et al. 2024, Metrics reloaded); ours are on the card and equal MONAI's. DeepMind's surface-distance weighs
the surface by its area, medpy takes one percentile of both directions pooled: their numbers differ by design.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from vesalius.core.card import Card
from vesalius.metrics._pair import Mask, Pair

CARD = Card(
    entry="surface",
    title="Surface distances",
    summary="HD, HD95, ASSD and surface Dice between voxel surfaces in millimetres, any spacing, 2D and 3D.",
    paper="Huttenlocher et al. 1993, PAMI; Nikolov et al. 2021, JMIR 23(7) (surface Dice); Maier-Hein et al. 2024, Nature Methods 21",
    tasks=("segment",),
    facts={
        "hd": {
            "definition": "Hausdorff distance: the largest distance from a surface voxel of either mask to the nearest of the other",
            "unit": "length", "better": "low", "both_empty": 0.0, "missed": "diagonal", "hallucinated": "diagonal",
        },
        "hd95": {
            "definition": "the larger of the two directed 95th percentiles (linear) of distances between surface voxels",
            "unit": "length", "better": "low", "both_empty": 0.0, "missed": "diagonal", "hallucinated": "diagonal",
        },
        "assd": {
            "definition": "mean of the distances from every surface voxel of either mask to the nearest of the other, pooled",
            "unit": "length", "better": "low", "both_empty": 0.0, "missed": "diagonal", "hallucinated": "diagonal",
        },
        "nsd": {
            "definition": "share of the surface voxels of both masks that lie within the tolerance of the other surface (voxels, not area)",
            "unit": "1", "better": "high", "both_empty": 1.0, "missed": 0.0, "hallucinated": 0.0,
        },
    },
)  # fmt: skip

Distances = NDArray[np.float64]
Offsets = tuple[NDArray[np.intp], NDArray[np.float64]]
NEAR = 400  # how many of the nearest grid offsets are looked up one by one; measured, see benchmarks/metrics.py


@dataclass(frozen=True)
class SurfaceDistances:
    """`outward` (from each surface voxel of the prediction to the truth) and `inward` (the reverse), millimetres."""

    outward: Distances
    inward: Distances

    def hausdorff(self, percentile: float = 100.0) -> float:
        """The larger of the two directed percentiles."""
        if percentile == 100:
            return float(max(self.outward.max(), self.inward.max()))
        return float(max(np.percentile(self.outward, percentile), np.percentile(self.inward, percentile)))

    def mean(self) -> float:
        """Average symmetric surface distance, every voxel counting once."""
        return float((self.outward.sum() + self.inward.sum()) / (len(self.outward) + len(self.inward)))

    def within(self, tolerance: float) -> float:
        """Surface Dice: the share of both surfaces no further than `tolerance` from the other.

        A millionth more is forgiven, because headers keep spacings in single precision and oblique grids round.
        """
        limit = tolerance * (1 + 1e-6)
        close = np.count_nonzero(self.outward <= limit) + np.count_nonzero(self.inward <= limit)
        return close / (len(self.outward) + len(self.inward))


def surface(pair: Pair) -> dict[str, float]:
    """hd, hd95, assd (millimetres) and nsd at the tolerance of `pair`."""
    if pair.state != "scored":
        same = pair.state == "both_empty"
        far = 0.0 if same else pair.diagonal
        return {"hd": far, "hd95": far, "assd": far, "nsd": float(same)}
    found = distances(pair)
    return {"hd": found.hausdorff(), "hd95": found.hausdorff(95), "assd": found.mean(), "nsd": found.within(pair.tolerance)}


def edge(mask: Mask) -> Mask:
    """The voxels of `mask` with a face neighbour that is outside it; beyond the array is outside."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        turned, original = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        turned[1:] &= original[:-1]
        turned[:-1] &= original[1:]
        turned[0] = turned[-1] = False
    return np.logical_xor(mask, inner)


def distances(pair: Pair) -> SurfaceDistances:
    """Exact distances between the surfaces of two masks, neither of them empty."""
    step = pair.space.affine[:-1, :-1]
    predicted, actual = edge(pair.prediction), edge(pair.truth)
    near = _offsets(step)
    return SurfaceDistances(_nearest(predicted, actual, step, near=near), _nearest(actual, predicted, step, near=near))


def _nearest(start: Mask, goal: Mask, step: NDArray[np.float64], *, near: Offsets) -> Distances:
    """For each voxel of `start` the distance to the nearest of `goal`; `step` takes index offsets to millimetres.

    Surfaces mostly lie close, so the grid offsets are tried from near to far, for all points at once; what is left is
    asked of a tree. Both are exact: every offset nearer than the last one tried has been tried.
    """
    steps, lengths = near
    margin = np.abs(steps).max(0)
    padded = np.pad(goal, [(m, m) for m in margin])
    field = padded.ravel()
    index = np.flatnonzero(np.pad(start, [(m, m) for m in margin]))
    jumps = steps @ (np.array(padded.strides) // padded.itemsize)
    answer, rows = np.empty(len(index)), np.arange(len(index))  # `index` and `rows`: those still without an answer
    for shell in np.split(np.arange(len(jumps)), np.flatnonzero(np.diff(lengths) > 1e-9 * lengths[1:]) + 1):
        if not len(rows):
            return answer
        hit = field[index + jumps[shell[0]]]
        for jump in jumps[shell[1:]]:
            hit |= field[index + jump]
        answer[rows[hit]] = lengths[shell[0]]
        rows, index = rows[~hit], index[~hit]
    tree = cKDTree(_places(np.flatnonzero(field), padded.shape, step), balanced_tree=False, compact_nodes=False)
    answer[rows] = tree.query(_places(index, padded.shape, step))[0]
    return answer


def _places(index: NDArray[np.intp], shape: tuple[int, ...], step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Millimetres of flat indices, from an origin of no matter."""
    return np.stack(np.unravel_index(index, shape), -1) @ step.T


def _offsets(step: NDArray[np.float64]) -> Offsets:
    """At most `NEAR` whole-number offsets (M, n), sorted by their lengths, without a gap: none nearer than the last is missing."""
    n = len(step)
    apart = 1 / np.linalg.norm(np.linalg.inv(step), axis=1)  # between neighbouring planes of the grid, along each axis
    reach = np.clip(np.ceil(NEAR ** (1 / n) * 0.6 * apart.prod() ** (1 / n) / apart), 1, 12).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, n)
    lengths = np.linalg.norm(grid @ step.T, axis=1)
    order = np.argsort(lengths, kind="stable")[:NEAR]
    order = order[lengths[order] <= ((reach + 1) * apart).min() - 1e-9]  # a ball of this radius leaves the box of offsets nowhere
    return grid[order], lengths[order]
