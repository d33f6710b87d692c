"""Are made images real, and are all real images made? Precision and recall, density and coverage, by nearest neighbours.

Kynkaanniemi et al. 2019 (NeurIPS): an image lies in a set's manifold if it is in the ball of a member that reaches its k-th neighbour
(k = 3). Naeem et al. 2020 (ICML): density counts balls, so that one outlier with a wide ball does not make everything precise;
coverage asks for a made image in each real one's ball (k = 5). Equal distributions of as many images have density 1 and coverage
1 - 2^-5, nearly.
"""

import numpy as np
from numpy.typing import NDArray

from vesalius.core.card import Card
from vesalius.metrics._features import BLOCK, Rows, distances, nearest, rows

CARD = Card(
    entry="neighbours", title="Precision, recall, density, coverage", tasks=("synthesise",),
    summary="Whether made images look real, and whether every kind of real image is made.",
    paper="Kynkaanniemi et al. 2019, NeurIPS; Naeem et al. 2020, ICML",
    facts={
        "precision": {"definition": "share of made images within the ball of a real one (3rd neighbour)", "better": "high"},
        "recall": {"definition": "share of real images within the ball of a made one (3rd neighbour)", "better": "high"},
        "density": {"definition": "balls of real images (5th neighbour) that a made one lies in, over 5; 1 for equal distributions",
                    "better": "none"},
        "coverage": {"definition": "share of real images with a made one in their ball (5th neighbour)", "better": "high"},
    },
)  # fmt: skip

K, K_COUNTED = 3, 5


def neighbours(real: NDArray[np.floating], fake: NDArray[np.floating], *, k: int = K, k_counted: int = K_COUNTED) -> dict[str, float]:
    """precision, recall (by `k`), density and coverage (by `k_counted`) from features (N, F) of as many real as made images."""
    x, y = rows(max(k, k_counted) + 1, real=real, fake=fake)
    counted = within(y, x, k_counted)
    near, _ = nearest(x, y)
    return {
        "precision": float((within(y, x, k) > 0).mean()),
        "recall": float((within(x, y, k) > 0).mean()),
        "density": float(counted.mean() / k_counted),
        "coverage": float((near <= nearest(x, x, k=k_counted, own=True)[0]).mean()),
    }


def within(points: Rows, centres: Rows, k: int) -> NDArray[np.intp]:
    """How many balls around `centres`, each as wide as to its k-th neighbour among them, each of `points` lies in."""
    radii, _ = nearest(centres, centres, k=k, own=True)
    blocks = [(distances(points[start : start + BLOCK], centres) <= radii).sum(1) for start in range(0, len(points), BLOCK)]
    return np.concatenate(blocks)
