"""Two sets of images as rows of features: what every measure of made images is given.

Features are (N, F) numbers of any source: a classifier's trunk, a method's `features`, or a random projection, which keeps the distances of
pixels (Johnson & Lindenstrauss 1984). Figures of different features cannot be compared.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import DataError

Rows = NDArray[np.float64]
BLOCK = 1024  # rows at once, so that no matrix of all pairs is kept where sums or minima are enough


def described(images: NDArray[np.floating], features: Callable[[NDArray[np.floating]], NDArray[np.floating]], *, batch: int = 256) -> Rows:
    """`features` of `images` (N, ...), a batch at a time: (N, F)."""
    parts = [np.asarray(features(images[start : start + batch])) for start in range(0, len(images), batch)]
    return np.concatenate([part.reshape(len(part), -1) for part in parts]).astype(np.float64)


def random_projection(numbers: int, *, size: int = 128, seed: int = 0) -> Callable[[NDArray[np.floating]], NDArray[np.floating]]:
    """Images of `numbers` pixels to `size` numbers whose distances are those of the pixels, up to about 1 / sqrt(size)."""
    matrix = np.random.default_rng(seed).standard_normal((numbers, size)) / np.sqrt(size)
    return lambda images: np.asarray(images, np.float64).reshape(len(images), -1) @ matrix


def rows(least: int, **sets: NDArray[np.floating]) -> list[Rows]:
    """The sets as float64; refused where they are no rows of the same features, or fewer than `least`."""
    made = [np.asarray(part, np.float64) for part in sets.values()]
    shapes = ", ".join(f"{name} {part.shape}" for name, part in zip(sets, made, strict=True))
    if any(part.ndim != 2 for part in made) or len({part.shape[1] for part in made}) > 1:
        raise DataError(f"Features must be (images, numbers), with as many numbers in each set; got {shapes}. "
                        "Describe all sets with one callable.")  # fmt: skip
    if min(len(part) for part in made) < least:
        raise DataError(f"At least {least} images are needed in each set; got {shapes}.")
    if not all(np.isfinite(part).all() for part in made):
        raise DataError("Features must be finite; some are not. Look for images that are empty or broken.")
    return made


def distances(a: Rows, b: Rows) -> Rows:
    """Euclidean distance of each row of `a` from each of `b`."""
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    found: Rows = np.sqrt(np.maximum(squared, 0))
    return found


def nearest(a: Rows, b: Rows, *, k: int = 1, own: bool = False) -> tuple[Rows, NDArray[np.intp]]:
    """Distance of each row of `a` from its k-th nearest in `b`, and which that is; `own`: a is b, and no row is its own neighbour."""
    found, which = np.empty(len(a)), np.empty(len(a), np.intp)
    for start in range(0, len(a), BLOCK):
        block = distances(a[start : start + BLOCK], b)
        if own:
            block[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        index = np.argpartition(block, k - 1, axis=1)[:, k - 1]
        which[start : start + BLOCK], found[start : start + BLOCK] = index, block[np.arange(len(block)), index]
    return found, which
