"""Kernel distance (KID) of made from real images, unbiased at any number of images, with an interval.

Binkowski et al. 2018 (ICLR): the squared maximum mean discrepancy (Gretton et al. 2012, lemma 6) under the kernel (x y / F + 1)^3. Ours
uses all pairs rather than subsets, and the jackknife over images of both sets for the interval.
"""

import numpy as np
from numpy.typing import NDArray

from vesalius.core.card import Card
from vesalius.metrics._features import BLOCK, Rows, rows

CARD = Card(
    entry="kernel_distance", title="Kernel distance (KID)", tasks=("synthesise",),
    summary="Unbiased squared distance of two sets of images, with an interval.", paper="Binkowski et al. 2018, ICLR",
    facts={
        "kid": {"definition": "squared maximum mean discrepancy of features, kernel (x y / F + 1)^3; 0 for equal distributions",
                "better": "low"},
    },
)  # fmt: skip

NORMAL = 1.959964  # half the width of an interval of 95 %, in standard errors


def kernel_distance(real: NDArray[np.floating], fake: NDArray[np.floating]) -> dict[str, float]:
    """kid, and the ends of its 95 % interval kid_low and kid_high, from features (N, F); below 0 by chance where sets are alike."""
    x, y = rows(3, real=real, fake=fake)
    own_x, own_y, cross, across = sums(x, x), sums(y, y), sums(x, y), sums(y, x)
    found = discrepancy(own_x.sum(), own_y.sum(), cross.sum(), sizes=(len(x), len(y)))
    without_x = discrepancy(own_x.sum() - 2 * own_x, own_y.sum(), cross.sum() - cross, sizes=(len(x) - 1, len(y)))
    without_y = discrepancy(own_x.sum(), own_y.sum() - 2 * own_y, cross.sum() - across, sizes=(len(x), len(y) - 1))
    error = np.sqrt(jackknife(without_x) + jackknife(without_y))
    return {"kid": float(found), "kid_low": float(found - NORMAL * error), "kid_high": float(found + NORMAL * error)}


def sums(a: Rows, b: Rows) -> Rows:
    """For each row of `a`, the kernel summed over the rows of `b`, itself left out where `a` is `b`."""
    total = np.concatenate([kernel(a[start : start + BLOCK], b).sum(1) for start in range(0, len(a), BLOCK)])
    return total - ((a * a).sum(1) / a.shape[1] + 1) ** 3 if a is b else total


def kernel(a: Rows, b: Rows) -> Rows:
    """(x y / F + 1)^3 of every pair."""
    base: Rows = a @ b.T / a.shape[1] + 1
    return base * base * base  # several times faster than a power


def discrepancy(own_x: Rows, own_y: Rows, cross: Rows, *, sizes: tuple[int, int]) -> Rows:
    """Gretton et al. 2012, equation 3, from sums of the kernel over pairs of distinct images."""
    m, n = sizes
    return own_x / (m * (m - 1)) + own_y / (n * (n - 1)) - 2 * cross / (m * n)


def jackknife(without: Rows) -> float:
    """Variance of a statistic from its values with each sample left out (Efron & Stein 1981)."""
    return float((len(without) - 1) * without.var())
