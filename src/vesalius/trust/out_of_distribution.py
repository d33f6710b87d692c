"""Whether a case is like those that were learned from: energy and largest probability of logits, Mahalanobis distance of features.

Hendrycks & Gimpel 2017 (largest probability); Liu et al. 2020 (energy), Wang et al. 2021 (its sum over findings); Lee et al.
2018 (distance to the nearest class with one covariance, here shrunk as Ledoit & Wolf 2004). Every score is the larger the
stranger the case. A cut is set on validation cases alone: which share of patients like them would be called strange.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from vesalius.core.errors import DataError
from vesalius.data.labels import IGNORE
from vesalius.trust._kept import Flags, Floats, Indices, Kept, owners
from vesalius.trust.calibration import probabilities_of
from vesalius.trust.conformal import ConformalChoice, limit, one_per_patient


def energy(logits: ArrayLike, *, exclusive: bool = True, temperature: float = 1.0) -> Floats:
    """Free energy (N,) of logits (N, K); of findings the sum of theirs."""
    scaled = np.asarray(logits, float) / temperature
    free = logsumexp(scaled, axis=1) if exclusive else np.logaddexp(0, scaled).sum(1)
    return np.asarray(-temperature * free)


def doubt(logits: ArrayLike, *, exclusive: bool = True) -> Floats:
    """One minus the probability of what is said (N,); of findings the mean."""
    p = probabilities_of(logits, exclusive=exclusive)
    return np.asarray(1 - p.max(1) if exclusive else 1 - np.maximum(p, 1 - p).mean(1))


class Mahalanobis(Kept):
    """Means (K, D) of the classes and a factor (D, R) that takes features to where their covariance is the identity."""

    means: tuple[tuple[float, ...], ...]
    whitening: tuple[tuple[float, ...], ...]
    shrinkage: float

    def score(self, features: ArrayLike) -> Floats:
        """Squared distance (N,) of features (N, D) to the nearest class mean."""
        means, whitening = np.array(self.means), np.array(self.whitening)
        values = np.asarray(features, float)
        if values.ndim != 2 or values.shape[1] != means.shape[1]:
            raise DataError(f"Expected features (N, {means.shape[1]}), got {values.shape}; they must come from the network of the run.")
        seen, centres = values @ whitening, means @ whitening
        return np.asarray(((seen[:, None] - centres) ** 2).sum(2).min(1))


def fit_mahalanobis(features: ArrayLike, truth: ArrayLike | None = None) -> Mahalanobis:
    """From features (N, D) of training cases and their classes (N,), 255 unknown; without classes there is one mean."""
    values = np.asarray(features, float)
    group = np.zeros(len(values), int) if truth is None else np.asarray(truth).astype(int)
    if values.ndim != 2 or group.shape != values.shape[:1]:
        raise DataError(f"Expected features (N, D) with classes (N,); got {values.shape} and {group.shape}.")
    values, group = values[group != IGNORE], group[group != IGNORE]
    names, index = np.unique(group, return_inverse=True)
    if len(values) <= len(names):
        raise DataError(f"{len(values)} cases of {len(names)} classes leave nothing to tell how features spread. Give more cases.")
    means = np.stack([values[index == k].mean(0) for k in range(len(names))])
    covariance, share = shrunk_covariance(values - means[index])
    spread, axes = np.linalg.eigh(covariance)
    keep = spread > spread.max() * 1e-10
    whitening = axes[:, keep] / np.sqrt(spread[keep])
    return Mahalanobis(means=tuple(map(tuple, means.tolist())), whitening=tuple(map(tuple, whitening.tolist())), shrinkage=share)


def shrunk_covariance(centred: Floats) -> tuple[Floats, float]:
    """Covariance (D, D) of centred rows (N, D), drawn towards a multiple of the identity, and by how much (Ledoit & Wolf 2004)."""
    n, d = centred.shape
    raw = centred.T @ centred / n
    mean = np.trace(raw) / d
    far = ((raw - mean * np.eye(d)) ** 2).sum() / d
    noise = (((centred**2).T @ centred**2).sum() / n - (raw**2).sum()) / n / d
    share = float(min(noise, far) / far) if far > 0 else 1.0
    return (1 - share) * raw + share * mean * np.eye(d), share


class Novelty(Kept):
    """Cases whose `score` is above `cut` are called strange; `alarms` is the share of ordinary patients of whom that may be said.

    `cut` None is never, because there were too few patients.
    """

    score: str
    cut: float | None
    alarms: float
    patients: int

    def strange(self, scores: ArrayLike) -> Flags:
        """Which cases (N,) are strange."""
        values = np.asarray(scores, float)
        return np.zeros(values.shape, bool) if self.cut is None else np.asarray(values > self.cut)


def fit_novelty(scores: ArrayLike, *, score: str, alarms: float = 0.05,
                patients: Sequence[object] | NDArray[np.generic] | None = None) -> Novelty:  # fmt: skip
    """From scores (N,) of validation cases; the guarantee is that of split conformal prediction with one score per patient."""
    values = np.asarray(scores, float)
    owner: Indices = owners(patients, len(values))
    worst = one_per_patient(values, owner, ConformalChoice())
    return Novelty(score=score, cut=limit(worst, alarms), alarms=alarms, patients=len(worst))
