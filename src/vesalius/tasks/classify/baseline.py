"""The shallow baseline: what coarse pixels, intensities and edge directions tell, so that a reader sees what deep learning adds.

Each channel gives its coarse pixels, a histogram of its intensities, and histograms of its edge directions in a few cells (after Dalal
& Triggs 2005, Histograms of oriented gradients); of volumes the strength of edges along each axis. Regularised logistic regression
on these; the penalty is chosen on a fifth of the training cases. Convex or counted: no network, no luck.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, log_softmax, softmax

from vesalius.core.errors import DataError
from vesalius.data.labels import IGNORE
from vesalius.data.whole import along

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
COARSE = {2: 16, 3: 6}  # sides of the coarse picture
CELLS = {2: 4, 3: 2}
BINS, DIRECTIONS = 16, 8
PENALTIES = (0.3, 0.1, 0.03, 0.01, 0.003)  # on the squared coefficients of standardised features, per case
KEPT = 6000  # training cases at most


@dataclass
class Baseline:
    """`fit` on (image (C, *S) float32, target uint8 (1,) or (K,)); `predict` gives (K,) probabilities."""

    classes: int
    one_of: bool
    seed: int = 0
    centre: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    spread: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    coefficients: Floats = field(default_factory=lambda: np.zeros(0, np.float32))

    def fit(self, pairs: Iterable[tuple[Floats, Codes]]) -> "Baseline":
        """Learn from `pairs`, which are gone through once."""
        described = [(features(image), target) for image, target in pairs]
        if not described:
            raise DataError("The baseline was given no case to learn from. Check the training part of the split.")
        draw = np.random.default_rng(self.seed)
        order = draw.permutation(len(described))[:KEPT]
        x = np.stack([described[k][0] for k in order])
        y = np.stack([described[k][1] for k in order])
        self.centre, self.spread = x.mean(0), x.std(0) + np.float32(1e-6)
        x = self._standard(x)
        held = max(1, len(x) // 5)
        penalty = PENALTIES[0]
        if held > 4:
            costs = [
                self._cost(regression(x[held:], y[held:], penalty, classes=self._width()), x[:held], y[:held]) for penalty in PENALTIES
            ]
            penalty = PENALTIES[int(np.argmin(costs))]
        self.coefficients = regression(x, y, penalty, classes=self._width())
        return self

    def predict(self, image: Floats) -> NDArray[np.float64]:
        """(K,) probabilities of `image` (C, *S)."""
        if not self.coefficients.size:
            raise DataError("The baseline has learned nothing yet. Call fit first.")
        logits = self._standard(features(image)[None]) @ self.coefficients
        return np.asarray((softmax(logits, 1) if self.one_of else expit(logits))[0], np.float64)

    def _width(self) -> int:
        """Classes of a softmax, or minus the findings."""
        return self.classes if self.one_of else -self.classes

    def _standard(self, x: Floats) -> Floats:
        """Features in standard deviations, clipped to four, and a 1."""
        return np.hstack([np.clip((x - self.centre) / self.spread, -4, 4), np.ones((len(x), 1))]).astype(np.float32)

    def _cost(self, coefficients: Floats, x: Floats, y: Codes) -> float:
        """Mean cross entropy."""
        inside, known = membership(y, self._width())
        return float(_nats(x @ coefficients, inside, known, softly=self.one_of)[0])


def features(image: Floats) -> Floats:
    """(F,) numbers that describe `image` (C, *S)."""
    ndim = image.ndim - 1
    return np.concatenate([part for channel in np.asarray(image, np.float32) for part in (
        coarse(channel, COARSE[ndim]).ravel(), intensities(channel), edges(channel, CELLS[ndim]))])  # fmt: skip


def coarse(channel: Floats, side: int) -> Floats:
    """`channel` (*S) with at most `side` voxels along each axis."""
    out = channel[None]
    for axis in range(1, out.ndim):
        wanted = min(side, out.shape[axis])
        out = along(out, axis, ratio=out.shape[axis] / wanted, side=wanted)
    return np.asarray(out[0], np.float32)


def intensities(channel: Floats) -> Floats:
    """Shares of voxels in bins from -3 to 3 standard deviations."""
    return np.asarray(np.histogram(channel.clip(-3, 3), BINS, (-3, 3))[0] / channel.size, np.float32)


def edges(channel: Floats, cells: int) -> Floats:
    """Edge strength by direction in each cell, of length 1 in all."""
    slopes = [np.gradient(channel, axis=axis) if side > 1 else np.zeros_like(channel) for axis, side in enumerate(channel.shape)]
    strength = np.sqrt(sum(slope**2 for slope in slopes))
    if channel.ndim == 2:
        turn = ((np.arctan2(slopes[0], slopes[1]) % np.pi) / np.pi * DIRECTIONS).astype(int) % DIRECTIONS
        layers = [np.where(turn == k, strength, 0) for k in range(DIRECTIONS)]
    else:
        layers = [np.abs(slope) for slope in slopes]
    parts = [np.array_split(np.arange(side), cells) for side in channel.shape]
    sums = [layer[np.ix_(*cell)].sum() for layer in layers for cell in product(*parts)]
    return np.asarray(sums, np.float32) / np.float32(np.linalg.norm(sums) + 1e-6)


def membership(y: Codes, width: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(N, K) what is there and what is known; `width` > 0 counts exclusive classes, < 0 findings."""
    if width > 0:
        return y[:, :1] == np.arange(width), np.ones((len(y), width), bool)
    return y == 1, y != IGNORE


def _nats(logits: NDArray[np.floating], inside: NDArray[np.bool_], known: NDArray[np.bool_], *,
          softly: bool) -> tuple[float, NDArray[np.floating]]:  # fmt: skip
    """Mean cross entropy and its gradient by the logits: of a softmax where a case is of one class, else of sigmoids."""
    if softly:
        return float(-log_softmax(logits, 1)[inside].mean()), (softmax(logits, 1) - inside) / len(logits)
    total = max(1, int(known.sum()))
    return float(-log_expit(np.where(inside, logits, -logits))[known].sum() / total), (expit(logits) - inside) * known / total


def regression(x: Floats, y: Codes, penalty: float, *, classes: int) -> Floats:
    """Coefficients (F, K) of least penalised cross entropy; the last feature, a 1, is not penalised."""
    from scipy.optimize import minimize

    inside, known = membership(y, classes)
    shape = (x.shape[1], inside.shape[1])
    kept = np.ones((shape[0], 1))
    kept[-1] = 0

    def cost(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        b = flat.reshape(shape)
        value, slope = _nats(x @ b.astype(np.float32), inside, known, softly=classes > 0)
        return value + penalty * float((kept * b**2).sum()) / 2, (x.T @ slope + penalty * kept * b).ravel().astype(np.float64)

    found = minimize(cost, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 150})
    return np.asarray(found.x.reshape(shape), np.float32)
