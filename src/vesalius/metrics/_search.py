"""The nearest of many rows of features: exact, block by block, and never of the same patient where that is asked for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import DataError
from vesalius.data.labels import IGNORE

Features = NDArray[np.floating]
Indices = NDArray[np.intp]
BLOCK = 2048  # queries, and rows, at once: no matrix of all pairs is ever kept


@dataclass(frozen=True, eq=False)
class Described:
    """`features` (N, F) of N images, their `labels`, (N,) indices or (N, K) of 0 / 1 (255 is unknown), and whose they are (N,)."""

    features: Features
    labels: NDArray[np.integer]
    patients: NDArray[np.str_]

    def __post_init__(self) -> None:
        counts = {len(self.features), len(self.labels), len(self.patients)}
        if self.features.ndim != 2 or self.labels.ndim not in (1, 2) or len(counts) != 1:
            raise DataError(f"Expected features (N, F) with labels (N,) or (N, K) and patients (N,); got {self.features.shape}, "
                            f"{self.labels.shape} and {self.patients.shape}.")  # fmt: skip


def ranked(queries: Features, rows: Features, k: int, *,
           apart: tuple[NDArray[np.generic], NDArray[np.generic]] | None = None) -> tuple[NDArray[np.float64], Indices]:  # fmt: skip
    """Distances (Q, k) and places (Q, k) of the k rows nearest to each query, the nearest first.

    `apart`: owners of the queries and of the rows; a row of a query's own owner does not count. Where fewer than k are left, the
    distance is infinite and the place -1.
    """
    if queries.ndim != 2 or rows.ndim != 2 or queries.shape[1] != rows.shape[1] or k < 1:
        raise DataError(f"Expected two tables of the same features and at least one neighbour; got {queries.shape}, {rows.shape}, k = {k}.")
    middle = np.asarray(rows[: BLOCK * 8], np.float64).mean(0) if len(rows) else 0.0  # less is lost where large numbers are taken away
    near = [np.zeros((0, k))], [np.zeros((0, k), np.intp)]
    for start in range(0, len(queries), BLOCK):
        block = np.asarray(queries[start : start + BLOCK], np.float64) - middle
        owners = None if apart is None else (np.asarray(apart[0])[start : start + BLOCK], np.asarray(apart[1]))
        which = _nearest_of_all(block, rows, k, middle=middle, owners=owners)
        near[0].append(_exact(block, rows, which, middle=middle))
        near[1].append(which)
    return np.concatenate(near[0]), np.concatenate(near[1])


def _nearest_of_all(block: NDArray[np.float64], rows: Features, k: int, *, middle: NDArray[np.float64] | float,
                    owners: tuple[NDArray[np.generic], NDArray[np.generic]] | None) -> Indices:  # fmt: skip
    best, which = np.full((len(block), k), np.inf), np.full((len(block), k), -1, np.intp)
    for start in range(0, len(rows), BLOCK):
        part = np.asarray(rows[start : start + BLOCK], np.float64) - middle
        squared = (part**2).sum(1) - 2 * block @ part.T + (block**2).sum(1)[:, None]
        if owners is not None:
            squared[owners[0][:, None] == owners[1][None, start : start + BLOCK]] = np.inf
        both = np.hstack([best, squared])
        place = np.hstack([which, np.broadcast_to(np.arange(start, start + len(part)), squared.shape)])
        kept = np.argpartition(both, k - 1, axis=1)[:, :k]
        best, which = np.take_along_axis(both, kept, 1), np.take_along_axis(place, kept, 1)
    which = np.where(np.isinf(best), -1, which)
    order = np.lexsort((which, best), axis=1)
    return np.asarray(np.take_along_axis(which, order, 1))


def _exact(block: NDArray[np.float64], rows: Features, which: Indices, *, middle: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Distances from the differences themselves, row by row of neighbours."""
    found = np.empty(which.shape)
    for k in range(which.shape[1]):
        gap = block - (np.asarray(rows[which[:, k]], np.float64) - middle)
        found[:, k] = np.where(which[:, k] < 0, np.inf, np.sqrt((gap**2).sum(1)))
    return found


def alike(first: NDArray[np.integer], second: NDArray[np.integer], *, findings: bool) -> NDArray[np.bool_]:
    """Whether two images show the same: the same class, (...,) indices; of findings, (..., K) of 0 / 1, one in common or none in both."""
    if not findings:
        return np.asarray(first == second)
    there, too = first == 1, second == 1
    return np.asarray((there & too).any(-1) | ~(there.any(-1) | too.any(-1)))


def known(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(N,) whether anything is known of each image."""
    return np.asarray(labels != IGNORE if labels.ndim == 1 else (labels != IGNORE).any(1))
