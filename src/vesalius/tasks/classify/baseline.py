"""The shallow baseline: what coarse pixels, intensities and edge directions tell, so that a reader sees what deep learning adds.

Each channel gives its coarse pixels, a histogram of its intensities, and histograms of its edge directions in a few cells (after Dalal
& Triggs 2005, Histograms of oriented gradients); of volumes the strength of edges along each axis. Regularised logistic regression
and gradient boosted trees learn from these. A fifth of the training cases chooses the penalty, the number of trees, and which of both
stands as the baseline. No network, no luck.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, log_softmax, softmax

from vesalius.core.errors import DataError
from vesalius.data.labels import IGNORE
from vesalius.data.whole import along
from vesalius.tasks.classify.boosting import Forest, How, Known, boost, cost, widened

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]
COARSE = {2: 16, 3: 6}  # sides of the coarse picture
CELLS = {2: 4, 3: 2}
BINS, DIRECTIONS = 16, 8
PENALTIES = (0.3, 0.1, 0.03, 0.01, 0.003)  # on the squared coefficients of standardised features, per case
KEPT = 6000  # training cases at most


LINEAR, TREES = "logistic regression", "gradient boosting"
FEWEST = 5  # cases held back at least, or nothing is chosen by them
UNCHOSEN = 30  # rounds of trees where nothing is chosen


@dataclass
class Baseline:
    """`fit` on (image (C, *S) float32, target uint8 (1,) or (K,)); `answers` gives the (K,) probabilities of both, `predict` those of
    the one that `stands`, because it cost the cases that were held back less."""

    classes: int
    one_of: bool
    seed: int = 0
    stands: str = LINEAR
    centre: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    spread: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    coefficients: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    forest: Forest | None = None

    def fit(self, pairs: Iterable[tuple[Floats, Codes]], *, patients: Sequence[str] | None = None) -> "Baseline":
        """Learn from `pairs`, which are gone through once; of each of their `patients` all images are held back, or none."""
        x, y, people = described(pairs, patients, seed=self.seed)
        held = held_back(people)
        self.centre, self.spread = x.mean(0), x.std(0) + np.float32(1e-6)
        penalty, rounds = self._chosen(x, y, held) if held.sum() >= FEWEST else (PENALTIES[0], UNCHOSEN)
        self.coefficients = regression(self._standard(x), y, penalty, classes=self._width())
        truth = self._known(y)
        self.forest = boost(x, truth, how=replace(How().paced(truth.outputs), rounds=rounds), seed=self.seed)
        return self

    def answers(self, image: Floats) -> dict[str, NDArray[np.float64]]:
        """(K,) probabilities of `image` (C, *S), by either."""
        if not self.forest:
            raise DataError("The baseline has learned nothing yet. Call fit first.")
        x = features(image)[None]
        logits = {LINEAR: self._standard(x) @ self.coefficients, TREES: widened(self.forest.logits(x), self.classes)}
        return {who: np.asarray((softmax(z, 1) if self.one_of else expit(z))[0], np.float64) for who, z in logits.items()}

    def predict(self, image: Floats) -> NDArray[np.float64]:
        """(K,) probabilities of `image` (C, *S) by the one that stands."""
        return self.answers(image)[self.stands]

    def _chosen(self, x: Floats, y: Codes, held: NDArray[np.bool_]) -> tuple[float, int]:
        """The penalty and the rounds of trees that cost the cases `held` back least; and who of both `stands`."""
        z, truth, theirs = self._standard(x), self._known(y[~held]), self._known(y[held])
        found = [regression(z[~held], y[~held], penalty, classes=self._width()) for penalty in PENALTIES]
        costs = [cost(z[held] @ coefficients, theirs) for coefficients in found]
        forest = boost(x[~held], truth, held=(x[held], theirs), how=How().paced(truth.outputs), seed=self.seed)
        self.stands = TREES if cost(forest.logits(x[held]), theirs) < min(costs) else LINEAR
        return PENALTIES[int(np.argmin(costs))], forest.rounds

    def _known(self, y: Codes) -> Known:
        return Known(*membership(y, self._width()), softly=self.one_of)

    def _width(self) -> int:
        """Classes of a softmax, or minus the findings."""
        return self.classes if self.one_of else -self.classes

    def _standard(self, x: Floats) -> Floats:
        """Features in standard deviations, clipped to four, and a 1."""
        return np.hstack([np.clip((x - self.centre) / self.spread, -4, 4), np.ones((len(x), 1))]).astype(np.float32)


def described(pairs: Iterable[tuple[Floats, Codes]], patients: Sequence[str] | None, *, seed: int) -> tuple[Floats, Codes, list[str]]:
    """Features (N, F), targets and patients of the cases, in random order and at most `KEPT`; without `patients` each is its own."""
    if patients is None:
        pairs = list(pairs)
        patients = [str(k) for k in range(len(pairs))]
    order = np.random.default_rng(seed).permutation(len(patients))[:KEPT].tolist()
    drawn = set(order)
    found = {k: (features(image), target) for k, (image, target) in enumerate(pairs) if k in drawn}
    if not found:
        raise DataError("The baseline was given no case to learn from. Check the training part of the split.")
    return np.stack([found[k][0] for k in order]), np.stack([found[k][1] for k in order]), [patients[k] for k in order]


def held_back(patients: Sequence[str]) -> NDArray[np.bool_]:
    """Which cases are held back to choose by: whole patients, in the order of their first case, until a fifth of the cases is reached; none
    where that would be half of them or more."""
    names, owner = np.unique(np.asarray(patients, str), return_inverse=True)
    first = np.full(len(names), len(owner))
    np.minimum.at(first, owner, np.arange(len(owner)))
    order = np.argsort(first)
    before = np.cumsum(np.bincount(owner)[order]) - np.bincount(owner)[order]
    held = np.isin(owner, order[before < len(owner) // 5])
    return held if 2 * held.sum() < len(owner) else np.zeros_like(held)


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
