"""Measures of made images against the real ones of one part, kept so that real images can be drawn again for intervals.

Features are random projections of the pixels, which keep distances (metrics/_features.py): no network of other people's photographs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.metrics._features import Rows, described, nearest, random_projection
from vesalius.metrics.frechet import LEAST as LEAST_FRECHET
from vesalius.metrics.frechet import frechet
from vesalius.metrics.kernel_distance import kernel, kernel_distance
from vesalius.metrics.memorised import QUANTILE, memorised
from vesalius.metrics.neighbours import K_COUNTED, K, neighbours, within

LEAST = K_COUNTED + 1  # images of a set of which anything is said
SIZE = 128  # projections
PAIRED = 1500  # real images whose pairs are kept for the intervals of KID
ALARM = 0.001  # chance of so many near copies below which copying is said out loud
Index = NDArray[np.intp]
Numbers = dict[str, float]


@dataclass(frozen=True)
class Real:
    """The real images of a part: `features` (N, F), what `describe`s others alike, and in `words` what that is."""

    features: Rows
    describe: Callable[[NDArray[Any]], NDArray[Any]]
    words: str

    @classmethod
    def of(cls, images: NDArray[np.float32]) -> "Real":
        """`images` (N, C, *S)."""
        numbers = int(np.prod(images.shape[1:]))
        describe = random_projection(numbers, size=SIZE)
        words = f"{SIZE} random projections of {numbers} pixels"
        return cls(described(images, describe), describe, words)

    def described(self, images: NDArray[np.float32]) -> Rows:
        """Features of other images."""
        return described(images, self.describe)

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Beside:
    """Made images beside real ones: `features` of the made, and for each real image the squared distance per pixel to the nearest made one,
    whether it is covered and recalled, and sums of kernels."""

    features: Rows
    real: Real
    distance: Rows
    covered: NDArray[np.bool_]
    recalled: NDArray[np.bool_]
    kept: Index
    pairs: NDArray[np.float32]
    cross: Rows
    own: float

    @classmethod
    def of(cls, images: NDArray[np.float32], real: Real) -> "Beside":
        """`images` (M, C, *S) from 0 to 1. With fewer real images than `LEAST`, only distances are defined."""
        made, x = real.described(images), real.features
        near, _ = nearest(x, made)
        enough = min(len(x), len(made)) >= LEAST
        covered = near <= nearest(x, x, k=K_COUNTED, own=True)[0] if enough else np.zeros(len(x), bool)
        recalled = within(x, made, K) > 0 if enough else np.zeros(len(x), bool)
        kept = np.linspace(0, len(x) - 1, min(len(x), PAIRED)).astype(np.intp)
        own = kernel(made, made)
        m = len(made)
        mean_own = float((own.sum() - np.trace(own)) / (m * (m - 1)))
        pairs = kernel(x[kept], x[kept]).astype(np.float32)
        return cls(made, real, near**2 / np.prod(images.shape[1:]), covered, recalled, kept, pairs, kernel(x[kept], made).mean(1), mean_own)

    def row(self, number: int) -> Numbers:
        """What is said of one real image."""
        return {"distance": float(self.distance[number]), "coverage": float(self.covered[number]), "recall": float(self.recalled[number])}

    def measures(self, index: Index) -> Numbers:
        """Of the real images `index`, which may come several times."""
        undefined = len(self.real) < LEAST
        found = {"kid": self.kid(index), "coverage": float(self.covered[index].mean()), "recall": float(self.recalled[index].mean())}
        return {**(dict.fromkeys(found, np.nan) if undefined else found), "distance": float(self.distance[index].mean())}

    def kid(self, index: Index | None = None) -> float:
        """KID of the real images `index` (all) and those made; an image that comes twice makes no pair with itself."""
        counts = np.bincount(self._all if index is None else index, minlength=len(self.real))[self.kept].astype(np.float64)
        total, twice = counts.sum(), (counts**2).sum()
        if total**2 <= twice:
            return float("nan")
        same = float((counts**2) @ np.diag(self.pairs))
        own = (counts @ (self.pairs @ counts.astype(np.float32)).astype(np.float64) - same) / (total**2 - twice)
        return float(own + self.own - 2 * (counts @ self.cross) / total)

    @property
    def _all(self) -> Index:
        return np.arange(len(self.real))

    def more(self) -> dict[str, Any]:
        """Measures that belong to both sets: KID with its jackknife interval, precision and density, FID or why there is none."""
        if min(len(self.real), len(self.features)) < LEAST:
            return {"fid": "not stated: too few images"}
        return {**kernel_distance(self.real.features, self.features), **neighbours(self.real.features, self.features),
                "fid": self._frechet()}  # fmt: skip

    def _frechet(self) -> float | str:
        numbers = (len(self.real), len(self.features))
        if min(numbers) < LEAST_FRECHET:
            return f"not stated: too few ({numbers[0]} real, {numbers[1]} made images; at least {LEAST_FRECHET} of each)"
        return frechet(self.real.features, self.features)["fid"]


def closeness(kid: float) -> float:
    """1 where sets cannot be told apart, towards 0 as they part: 1 / (1 + KID)."""
    return 1 / (1 + max(0.0, kid)) if kid == kid else 0.0


def copies(made: Beside, learned: Rows, real: Real) -> dict[str, Any]:
    """Whether training images are given back, with the made images that lie closest to one first; and the verdict in words."""
    if min(len(made.features), len(learned), len(real)) < 2:
        return {"verdict": "too few images to tell"}
    found = dict(memorised(made.features, learned, real.features))
    near, which = nearest(made.features, learned)
    flagged = near < np.quantile(nearest(real.features, learned)[0], QUANTILE)
    alarm = found["near_copies"] > 2 * QUANTILE and found["p_copied"] < ALARM
    words = (
        f"{found['near_copies']:.1%} of the made images lie closer to a training image than 99 of 100 images that were not learned from do"
    )
    verdict = f"training images are given back: {words}. Do not share the images." if alarm else f"no sign of copying: {words}."
    closest = [{"made": int(k), "training": int(which[k]), "distance": float(near[k])} for k in np.argsort(near)[:12]]
    return {**found, "flagged": int(flagged.sum()), "closest": closest, "copied": bool(alarm), "verdict": verdict}
