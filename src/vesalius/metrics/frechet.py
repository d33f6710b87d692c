"""Fréchet distance (FID) of made from real images: of two normal distributions with the sets' means and covariances.

Heusel et al. 2017 (NeurIPS); Dowson & Landau 1982 for the distance. It is biased upwards by an amount that falls with the number of images
and differs between methods, so it is refused below 2,000 images: take the kernel distance there.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from vesalius.core.card import Card
from vesalius.core.errors import DataError
from vesalius.metrics._features import Rows, rows

CARD = Card(
    entry="frechet", title="Fréchet distance (FID)", tasks=("synthesise",),
    summary="Distance of the means and covariances of features; refused below 2,000 images.", paper="Heusel et al. 2017, NeurIPS",
    facts={"fid": {"definition": "squared Fréchet distance of normal distributions fitted to features", "better": "low"}},
)  # fmt: skip

LEAST = 2000


def frechet(real: NDArray[np.floating], fake: NDArray[np.floating]) -> dict[str, float]:
    """fid from features (N, F) of at least 2,000 images each."""
    x, y = rows(1, real=real, fake=fake)
    if min(len(x), len(y)) < (least := max(LEAST, x.shape[1] + 1)):
        raise DataError(f"FID needs at least {least:,} images in each set, because its bias at fewer hides what it measures; "
                        f"got {len(x):,} and {len(y):,}. Use kernel_distance (KID), which has none.")  # fmt: skip
    return {"fid": frechet_of_normals((x.mean(0), np.cov(x.T)), (y.mean(0), np.cov(y.T)))}


def frechet_of_normals(one: tuple[Rows, Rows], other: tuple[Rows, Rows]) -> float:
    """|m - n|^2 + tr(S + T - 2 (S T)^(1/2)) of two (mean, covariance). The root is that of S^(1/2) T S^(1/2), which is symmetric, so that
    no complex number comes up."""
    (m, s), (n, t) = ((np.atleast_1d(mean), np.atleast_2d(covariance)) for mean, covariance in (one, other))
    values, vectors = linalg.eigh(s)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    shared = np.sqrt(np.maximum(linalg.eigvalsh(root @ t @ root), 0)).sum()
    return float(((m - n) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * shared)
