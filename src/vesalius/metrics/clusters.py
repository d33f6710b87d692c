"""Do groups that were found without labels agree with the classes? Mutual information and Rand index, both corrected in their way.

Strehl & Ghosh 2002 (JMLR 3) for mutual information, here over the mean of the two entropies; Hubert & Arabie 1985 (Journal of
Classification 2) for the Rand index less what chance gives. The first rises with the number of groups by itself; the second does not.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vesalius.core.card import Card
from vesalius.core.errors import DataError

CARD = Card(
    entry="clusters", title="Cluster agreement", tasks=("pretrain",),
    summary="How far groups found without labels agree with the classes.",
    paper="Strehl & Ghosh 2002, JMLR 3; Hubert & Arabie 1985, Journal of Classification 2",
    facts={
        "nmi": {"definition": "mutual information of groups and classes over the mean of their entropies, 0 to 1", "better": "high"},
        "ari": {"definition": "pairs of cases that both keep together or apart, less what chance gives; 0 by chance, 1 if equal",
                "better": "high"},
    },
)  # fmt: skip


def clusters(truth: ArrayLike, groups: ArrayLike) -> dict[str, float]:
    """nmi and ari of classes (N,) and groups (N,), whatever their numbers; two partitions into one group agree fully."""
    classes, found = np.asarray(truth), np.asarray(groups)
    if classes.ndim != 1 or classes.shape != found.shape or not len(classes):
        raise DataError(f"Expected one class and one group for each case; got {classes.shape} and {found.shape}.")
    table = crossed(classes, found)
    return {"nmi": mutual_information(table), "ari": rand_index(table)}


def crossed(classes: NDArray[np.generic], groups: NDArray[np.generic]) -> NDArray[np.float64]:
    """Numbers of cases by [class, group]."""
    rows, columns = (np.unique(part, return_inverse=True)[1] for part in (classes, groups))
    wide = int(columns.max()) + 1
    return np.bincount(rows * wide + columns, minlength=(int(rows.max()) + 1) * wide).reshape(-1, wide).astype(float)


def mutual_information(table: NDArray[np.float64]) -> float:
    """Over the mean of both entropies; 1 where neither partition parts anything, 0 where one of them does not."""
    p = table / table.sum()
    expected = np.outer(p.sum(1), p.sum(0))
    there = p > 0
    shared = float((p[there] * np.log(p[there] / expected[there])).sum())
    mean = (_entropy(p.sum(1)) + _entropy(p.sum(0))) / 2
    return 1.0 if mean == 0 else max(0.0, shared / mean)


def _entropy(p: NDArray[np.float64]) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum()) if len(p) > 1 else 0.0


def rand_index(table: NDArray[np.float64]) -> float:
    """Hubert & Arabie 1985, equation 5."""
    both, one, other, every = (float((n * (n - 1) / 2).sum()) for n in (table, table.sum(1), table.sum(0), table.sum()))
    chance = one * other / every if every else 0.0
    most = (one + other) / 2
    return 1.0 if most == chance else (both - chance) / (most - chance)
