"""What learned features must beat: pixels as they are, principal components, and distances to the centres of k-means.

Pearson 1901; Hotelling 1933. Arthur & Vassilvitskii 2007 (k-means++). Coates, Ng & Lee 2011 (AISTATS) for distances to centres as
features: how much nearer than on average each centre is, 0 for those that are not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from vesalius.core.errors import DataError
from vesalius.data.whole import block_means

Rows = NDArray[np.float32]
MOST_PIXELS = 4096  # of an image: larger ones are reduced to means of blocks
MOST_FITTED = 2000  # images, where they have more numbers than that
MOST_CENTRES = 256  # for features
SHARE = 3  # images for each feature of a rival that is learned: with as many components as images a probe learns the images by heart
RESTARTS, TURNS = 5, 60
BLOCK = 4096  # rows at once
Describe = Callable[[Rows], Rows]


def pixels(images: NDArray[np.floating]) -> tuple[Rows, str]:
    """(N, D) of `images` (N, C, *S), at most MOST_PIXELS numbers each, and what they are in words."""
    block = 1
    while images.shape[1] * prod(-(-side // block) for side in images.shape[2:]) > MOST_PIXELS:
        block += 1
    if block == 1:
        return np.asarray(images, np.float32).reshape(len(images), -1), "pixels"
    parts = []
    for image in images:
        small = np.asarray(image, np.float32)
        for axis in range(1, small.ndim):
            small = block_means(small, axis, block)
        parts.append(small.ravel())
    return np.stack(parts), f"pixels (means of blocks of {block})"


@dataclass(frozen=True, eq=False)
class Principal:
    """`mean` (D,) and orthonormal `axes` (K, D), the one with most variance first; `variance` (K,) of each."""

    mean: Rows
    axes: Rows
    variance: Rows

    def __call__(self, rows: Rows) -> Rows:
        """(N, K)."""
        return np.asarray((rows - self.mean) @ self.axes.T)

    def back(self, codes: Rows) -> Rows:
        """(N, D)."""
        return np.asarray(codes @ self.axes + self.mean)


def principal(rows: Rows, components: int, *, seed: int = 0) -> Principal:
    """The first `components` principal components of `rows` (N, D); fewer where N or D do not give as many."""
    if len(rows) < 2:
        raise DataError(f"Principal components need at least two images; got {len(rows)}.")
    some = _some(rows, seed)
    mean = some.mean(0)
    centred = (some - mean).astype(np.float64)
    wide = centred.shape[1] > len(centred)
    values, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    order = np.argsort(values)[::-1][: min(components, len(centred) - 1, centred.shape[1])]
    order = order[values[order] > 1e-10 * max(values[-1], 1e-300)]
    axes = (centred.T @ vectors[:, order] / np.sqrt(values[order])).T if wide else vectors[:, order].T
    return Principal(mean, axes.astype(np.float32), (values[order] / (len(centred) - 1)).astype(np.float32))


def _some(rows: Rows, seed: int) -> Rows:
    """All rows, or MOST_FITTED of them where a decomposition of all would take long."""
    if min(rows.shape) <= MOST_FITTED:
        return rows
    return np.asarray(rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:MOST_FITTED])])


def centres(rows: Rows, number: int, *, seed: int = 0, restarts: int = RESTARTS) -> Rows:
    """(number, D) centres of least summed squared distance out of several starts (k-means++, Lloyd's turns)."""
    number = min(number, len(np.unique(rows, axis=0)) if len(rows) <= 4 * number else number)
    tried = [_lloyd(rows, _start(rows, number, np.random.default_rng((seed, k)))) for k in range(restarts)]
    return min(tried, key=lambda found: found[1])[0]


def _start(rows: Rows, number: int, draw: np.random.Generator) -> Rows:
    """k-means++: each next centre is drawn in proportion to the squared distance from those there are."""
    chosen = [int(draw.integers(len(rows)))]
    near = squared(rows, rows[chosen])[:, 0]
    while len(chosen) < number:
        total = near.sum()
        chosen.append(int(draw.choice(len(rows), p=near / total)) if total > 0 else int(draw.integers(len(rows))))
        near = np.minimum(near, squared(rows, rows[chosen[-1:]])[:, 0])
    return rows[chosen].copy()


def _lloyd(rows: Rows, centre: Rows) -> tuple[Rows, float]:
    owner = np.full(len(rows), -1)
    for _ in range(TURNS):
        distance = squared(rows, centre)
        now = distance.argmin(1)
        if (now == owner).all():
            break
        owner = now
        count = np.bincount(owner, minlength=len(centre))
        owned = csr_array((np.ones(len(rows)), (owner, np.arange(len(rows)))), shape=(len(centre), len(rows)))
        total = owned @ rows
        centre = np.where(count[:, None] > 0, total / np.maximum(1, count)[:, None], centre).astype(np.float32)
    return centre, float(squared(rows, centre).min(1).sum())


def squared(rows: Rows, centre: Rows) -> NDArray[np.float64]:
    """Squared distance of each row from each centre, (N, K)."""
    size = (centre.astype(np.float64) ** 2).sum(1)
    parts = [(part**2).sum(1)[:, None] + size - 2 * part @ centre.T.astype(np.float64)
             for part in (rows[start : start + BLOCK].astype(np.float64) for start in range(0, len(rows), BLOCK))]  # fmt: skip
    return np.asarray(np.maximum(np.concatenate(parts), 0))


def groups(rows: Rows, centre: Rows) -> NDArray[np.intp]:
    """(N,) the nearest centre of each row."""
    return np.asarray(squared(rows, centre).argmin(1))


@dataclass(frozen=True, eq=False)
class Triangle:
    """How much nearer than the mean centre each of `centre` (K, D) is, 0 where it is farther (Coates, Ng & Lee 2011)."""

    centre: Rows

    def __call__(self, rows: Rows) -> Rows:
        """(N, K)."""
        away = np.sqrt(squared(rows, self.centre))
        return np.asarray(np.maximum(away.mean(1, keepdims=True) - away, 0), np.float32)


def distances_to_centres(rows: Rows, number: int, *, seed: int = 0) -> Triangle:
    """k-means of `rows` with as many centres as features are asked for, within MOST_CENTRES and a third of the images."""
    some = _some(rows, seed)
    return Triangle(centres(some, max(2, min(number, MOST_CENTRES, len(some) // SHARE)), seed=seed, restarts=1))
