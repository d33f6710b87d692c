"""The answering half of the shallow baseline (tasks/segment/baseline.py): from intensity, texture and place to log odds of every voxel.

Numpy and the kernels of io/separable.py do it, without torch and scipy, so that exported models (export/model.py) can hold one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import DataError
from vesalius.core.space import Array
from vesalius.io.separable import Along, along_axis

Floats = NDArray[np.float32]

CELLS = 16  # sides of the atlas
LARGEST = 2**21  # voxels; a larger image is halved until it fits
CHUNK = 2**15  # voxels classified at once
OF_CHANNEL = 9  # features
LEARNED = ("atlas", "centre", "spread", "coefficients")


@dataclass(frozen=True, eq=False)
class VoxelOdds:
    """A classifier that has learned: whether its K classes are `exclusive` (then the background is one more), `atlas` (K, 16, 16, ...)
    the class frequencies in `cases` cases, `centre` and `spread` (F,) of the features, `coefficients` (1 + F + F (F + 1) / 2, L) of one,
    the features and their products for each of L logits."""

    exclusive: bool
    cases: int
    atlas: Floats
    centre: Floats
    spread: Floats
    coefficients: Floats

    def odds(self, image: Floats) -> Floats:
        """(K, *S) log odds of each label of `image` (C, *S); of exclusive ones against the background."""
        logits, step = self.coarse(image)
        return grow(logits[1:] - logits[:1] if self.exclusive else logits, step, image.shape[1:])

    def coarse(self, image: Floats) -> tuple[Floats, tuple[int, ...]]:
        """Logits (L, *s) on a grid that is `step` times as coarse, and that step."""
        step = reduction(image.shape[1:])
        small = shrink(image, step)
        place = log_odds(self.atlas * self.cases, small.shape[1:], cases=self.cases, prior=self.atlas)
        raw = np.concatenate([local_features(small), place]).T
        parts = [self._logits(raw[start : start + CHUNK]) for start in range(0, len(raw), CHUNK)]
        return np.concatenate(parts).T.reshape(-1, *small.shape[1:]), step

    def _logits(self, raw: Floats) -> Floats:
        return quadratic(standardised(raw, self.centre, self.spread), self.coefficients)

    @property
    def classes(self) -> int:
        """Labels that it gives odds of."""
        return len(self.atlas) if self.atlas.ndim else 0

    def suits(self, *, channels: int, ndim: int) -> bool:
        """Whether what was learned is of images with so many `channels` and axes, whole and of finite numbers."""
        features = OF_CHANNEL * channels + ndim + self.classes
        shapes = {"atlas": (self.classes, *(CELLS,) * ndim), "centre": (features,), "spread": (features,),
                  "coefficients": (1 + features + features * (features + 1) // 2, self.classes + self.exclusive)}  # fmt: skip
        learned = {name: np.asarray(getattr(self, name)) for name in LEARNED}
        fits = all(learned[name].shape == shape and np.isfinite(learned[name]).all() for name, shape in shapes.items())
        return fits and self.classes > 0 and self.cases >= 0 and bool(self.spread.min() > 0)

    def to_json(self) -> dict[str, Any]:
        """Everything learned, as plain JSON."""
        return {"exclusive": self.exclusive, "cases": self.cases, **{name: getattr(self, name).tolist() for name in LEARNED}}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "VoxelOdds":
        """What `to_json` made, here or of a baseline, which keeps more."""
        try:
            learned: dict[str, Any] = {name: np.asarray(tree[name], np.float32) for name in LEARNED}
            return cls(exclusive=bool(tree["exclusive"]), cases=int(tree["cases"]), **learned)
        except (KeyError, TypeError, ValueError, OverflowError) as problem:
            raise DataError(f"Expected a baseline with cases, exclusive, {', '.join(LEARNED)}; what is there is not whole "
                            f"({type(problem).__name__}: {problem}).") from None  # fmt: skip


def reduction(shape: Sequence[int]) -> tuple[int, ...]:
    """By how much to shrink each axis so that at most `LARGEST` voxels are left: the longest is halved first."""
    step = [1] * len(shape)
    while np.prod(sides := [-(-n // s) for n, s in zip(shape, step, strict=True)]) > LARGEST:
        step[int(np.argmax(sides))] *= 2
    return tuple(step)


def shrink(image: Floats, step: Sequence[int]) -> Floats:
    """Means of blocks of `step` voxels of `image` (C, *S); a block cut by the edge is filled with the edge's values."""
    image = np.asarray(image, np.float32)
    for axis, s in enumerate(step, start=1):
        if s > 1:
            rest = -image.shape[axis] % s
            padded = np.pad(image, [(0, rest if a == axis else 0) for a in range(image.ndim)], mode="edge")
            image = padded.reshape(*padded.shape[:axis], -1, s, *padded.shape[axis + 1 :]).mean(axis + 1)
    return image


def grow(values: Array, step: Sequence[int], shape: Sequence[int]) -> Array:
    """The inverse of `shrink` for values that no mean was taken of: every voxel of a block takes its value."""
    for axis, s in enumerate(step, start=1):
        values = np.repeat(values, s, axis) if s > 1 else values
    return np.ascontiguousarray(values[(slice(None), *map(slice, shape))])


def local_features(image: Floats) -> Floats:
    """(9 C + n, N): each channel as it is, smoothed over 1, 2, 4 and 8 voxels, its gradients over 1 and 2, its contrast over
    2, how much it stands out from its surroundings of 8; and the place, -1 to 1 along each axis.

    An axis much shorter than the longest has thick slices and is smoothed less, by 4 times its share of the longest.
    """
    shape = image.shape[1:]
    share = np.minimum(1, 4 * np.array(shape) / max(shape))
    rows = []
    for channel in image:
        smooth = {s: _smoothed(channel, s * share) for s in (1, 2, 4, 8)}
        fine, wide = (np.sqrt(np.maximum(_smoothed(channel**2, s * share) - smooth[s] ** 2, 0)) for s in (2, 8))
        outstanding = (smooth[1] - smooth[8]) / (wide + 0.05 * channel.std() + np.float32(1e-6))
        rows += [channel, *smooth.values(), _steepness(smooth[1]), _steepness(smooth[2]), fine, outstanding]
    rows += np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) if n > 1 else np.zeros(1, np.float32) for n in shape), indexing="ij")
    return np.stack([row.ravel() for row in rows]).astype(np.float32)


def _smoothed(channel: Floats, sigma: NDArray[np.float64]) -> Floats:
    """Blurred by a Gaussian of `sigma` voxels along each axis, cut at three deviations; beyond the ends the last voxel goes on."""
    for axis, (side, deviation) in enumerate(zip(channel.shape, sigma.tolist(), strict=True)):
        channel = along_axis(channel, axis, Along(np.arange(side), deviation), order=1)
    return channel


def _steepness(smooth: Floats) -> Floats:
    slopes = [np.gradient(smooth, axis=a) for a in range(smooth.ndim) if smooth.shape[a] > 1]
    return np.asarray(np.sqrt(sum(s**2 for s in slopes)) if slopes else np.zeros_like(smooth), np.float32)


def _between(side: int) -> Floats:
    """(side, CELLS): linear interpolation of cell centres at voxel centres."""
    where = np.clip((np.arange(side) + 0.5) * CELLS / side - 0.5, 0, CELLS - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(where[:, None] - np.arange(CELLS))), np.float32)


def along_axes(array: Floats, matrices: Sequence[Floats]) -> Floats:
    """`array` (..., *S) with each of its last axes taken through a matrix (new, old)."""
    for matrix in matrices:  # the axis in front goes to the back each time, so that the order is the old one again
        array = np.tensordot(array, matrix, axes=([array.ndim - len(matrices)], [1]))
    return array


def log_odds(total: Floats, shape: Sequence[int], *, cases: int, prior: Floats) -> Floats:
    """(K, N) log odds of each class at each voxel of a grid of `shape`, from sums over `cases` atlases and one of chance."""
    chance = prior.reshape(len(prior), -1).mean(1).reshape(-1, *[1] * len(shape))
    p = np.clip((total + chance) / (cases + 1), 1e-4, 1 - 1e-4)
    fine = along_axes(p.astype(np.float32), [_between(n) for n in shape])
    return np.asarray(np.log(fine / (1 - fine)).reshape(len(prior), -1), np.float32)


def standardised(raw: Floats, centre: Floats, spread: Floats) -> Floats:
    """Features in standard deviations, clipped to four: far out the products would know no bounds."""
    return np.asarray(np.clip((raw - centre) / spread, -4, 4), np.float32)


def quadratic(x: Floats, coefficients: Floats) -> Floats:
    """(m, K) the same as `products(x) @ coefficients`, without the products: 1, x and x'Qx for each class."""
    n = x.shape[1]
    out: Floats = coefficients[0] + x @ coefficients[1 : n + 1]
    square = np.zeros((n, n), np.float32)
    for k in range(coefficients.shape[1]):
        square[np.triu_indices(n)] = coefficients[n + 1 :, k]
        out[:, k] += np.einsum("mi,mi->m", x @ square, x)
    return out
