"""The shallow baseline: what intensity, texture and place alone can tell, so that a reader sees what deep learning adds.

Every voxel is described by its channels, smoothed at three scales, their gradients and local contrast, its place in the
image and the class frequencies there (an atlas without registration), and classified by logistic regression on these
and their products. The offsets of the classes are then chosen for the best Dice on the training voxels, since the most
probable class alone would leave rare ones out. Everything is convex or counted: no network, no luck, seconds on one core.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from vesalius.core.errors import DataError
from vesalius.core.files import read_json, write_json
from vesalius.data.labels import IGNORE
from vesalius.data.voxel_odds import (
    CELLS,
    LEARNED,
    Floats,
    VoxelOdds,
    along_axes,
    grow,
    local_features,
    log_odds,
    reduction,
    shrink,
    standardised,
)

Codes = NDArray[np.uint8]

PER_CASE, IN_ALL = 4000, 40000  # training voxels
NUMBERS = 2**26  # training voxels times products of features; with many channels fewer voxels are used
TEMPER = 0.5  # a voxel that stands for w others weighs w ** .5 in the regression: between the image's mixture and an even one
PENALTY = 1e-3  # on the squared coefficients


@dataclass
class Drawn:
    """Training voxels of one case: features (m, F), classes (m, L), how many voxels of the case each stands for, and where."""

    features: Floats
    classes: Codes
    weight: Floats
    index: NDArray[np.intp]
    shape: tuple[int, ...]
    coarse: Floats  # (classes, 16, 16, ...) class frequencies


@dataclass
class Baseline:
    """`fit` on (image (C, *S) float32, target uint8 (1, *S) indices or (K, *S) of 0 / 1, 255 ignored); `predict` answers alike."""

    seed: int = 0
    exclusive: bool = True
    atlas: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    cases: int = 0
    centre: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    spread: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    coefficients: Floats = field(default_factory=lambda: np.zeros(0, np.float32))

    def fit(self, pairs: Iterable[tuple[Floats, Codes]], *, patients: Sequence[str] | None = None) -> "Baseline":
        """Learn from `pairs`, which are gone through once and never held together. Nobody is held back, so that whose they are (`patients`)
        makes no difference."""
        random = np.random.default_rng(self.seed)
        drawn = [draw(image, target, random) for image, target in pairs]
        if not drawn:
            raise DataError("The baseline was given no case to learn from. Check the training part of the split.")
        self.exclusive = drawn[0].classes.shape[1] == 1
        total = _sum_of_unlike([case.coarse for case in drawn])
        self.cases, self.atlas = len(drawn), total / np.float32(len(drawn))
        x = np.concatenate([np.hstack([case.features, self._place(case, total)]) for case in drawn])
        y, w = np.concatenate([case.classes for case in drawn]), np.concatenate([case.weight for case in drawn])
        if not len(x):
            raise DataError("Every voxel of every training mask is ignored; the baseline has nothing to learn from.")
        keep = random.permutation(len(x))[: min(IN_ALL, 2 * NUMBERS // x.shape[1] ** 2)]
        x, y, w = x[keep], y[keep], w[keep]
        self.centre, self.spread = x.mean(0), x.std(0) + np.float32(1e-6)
        self._learn(products(standardised(x, self.centre, self.spread)), y, w / w.mean())
        return self

    def _place(self, case: Drawn, total: Floats) -> Floats:
        """(m, K) what the atlas says of the training voxels of `case`, the case itself left out of the atlas."""
        others = total - _padded(case.coarse, len(total))
        return log_odds(others, case.shape, cases=self.cases - 1, prior=self.atlas)[:, case.index].T

    def _learn(self, x: Floats, y: Codes, w: Floats) -> None:
        if self.exclusive:
            inside = y == np.arange(len(self.atlas) + 1)
            logits = x @ (found := regression(x, inside, w**TEMPER))
            offsets = best_offsets(logits, inside, w)
        else:
            inside = y == 1
            both = [regression(x, np.stack([~one, one], 1), w**TEMPER) for one in inside.T]
            found = np.stack([c[:, 1] - c[:, 0] for c in both], 1)
            offsets = np.concatenate([best_offsets(np.stack([0 * z, z], 1), np.stack([~one, one], 1), w)[1:]
                                      for z, one in zip((x @ found).T, inside.T, strict=True)])  # fmt: skip
        found[0] += offsets
        self.coefficients = found.astype(np.float32)

    def predict(self, image: Floats) -> Codes:
        """Classes of `image` (C, *S), coded as the targets were."""
        logits, step = self._answering().coarse(image)
        coded = logits.argmax(0)[None] if self.exclusive else logits > 0
        return grow(coded.astype(np.uint8), step, image.shape[1:])

    def odds(self, image: Floats) -> Floats:
        """(K, *S) log odds of each label of `image` (C, *S); of exclusive ones against the background."""
        return self._answering().odds(image)

    def _answering(self) -> VoxelOdds:
        """What was learned, as that which answers."""
        if not self.coefficients.size:
            raise DataError("The baseline has learned nothing yet. Call fit first, or load one that has.")
        return VoxelOdds(self.exclusive, self.cases, **{name: getattr(self, name) for name in LEARNED})

    def to_json(self) -> dict[str, Any]:
        """Everything learned, as plain JSON."""
        arrays = {name: getattr(self, name).tolist() for name in LEARNED}
        return {"version": 1, "seed": self.seed, "exclusive": self.exclusive, "cases": self.cases, **arrays}

    @classmethod
    def from_json(cls, text: dict[str, Any]) -> "Baseline":
        """The inverse of `to_json`."""
        learned: dict[str, Any] = {name: np.asarray(text[name], np.float32) for name in LEARNED}
        return cls(seed=text["seed"], exclusive=text["exclusive"], cases=text["cases"], **learned)

    def save(self, path: Path) -> None:
        """Write to the JSON file at `path`."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> "Baseline":
        """Read what `save` wrote."""
        return cls.from_json(read_json(path))


def draw(image: Floats, target: Codes, random: np.random.Generator) -> Drawn:
    """Training voxels of one case: half drawn evenly from all, half evenly from the classes, weighted back to the whole."""
    step = reduction(image.shape[1:])
    small = shrink(image, step)
    coded = target[(slice(None), *(slice(s // 2, None, s) for s in step))][(slice(None), *map(slice, small.shape[1:]))]
    flat = coded.reshape(len(coded), -1)
    valid = np.flatnonzero((flat != IGNORE).all(0))
    strata = _strata(flat[:, valid], len(coded) == 1)
    chance = np.full(len(valid), 1 / max(len(valid), 1))
    for stratum in strata:
        chance += stratum / (stratum.sum() * len(strata))
    expected = np.minimum(PER_CASE * chance / chance.sum(), 1)
    chosen = random.random(len(valid)) < expected
    index = valid[chosen]
    weight = (1 / expected[chosen] / len(valid)).astype(np.float32)
    coarse = np.zeros((0, *[CELLS] * (small.ndim - 1)), np.float32)
    if layers := _layers(coded):
        coarse = np.stack([frequencies(layer) for layer in layers])
    return Drawn(local_features(small)[:, index].T, flat[:, index].T, weight, index, small.shape[1:], coarse)


def _strata(flat: Codes, exclusive: bool) -> list[NDArray[np.bool_]]:
    """The sets of voxels that are to be equally well seen: each class, and the background."""
    sets = [flat[0] == k for k in np.unique(flat[0])] if exclusive else [*(flat == 1), (flat == 0).all(0)]
    return [s for s in sets if s.any()]


def _layers(coded: Codes) -> list[NDArray[np.bool_]]:
    """One mask per class; of exclusive classes up to the largest in the case."""
    if len(coded) > 1:
        return list(coded == 1)
    largest = int(coded[coded != IGNORE].max(initial=0))
    return [coded[0] == k for k in range(1, largest + 1)]


def _padded(coarse: Floats, classes: int) -> Floats:
    return np.pad(coarse, [(0, classes - len(coarse))] + [(0, 0)] * (coarse.ndim - 1))


def _sum_of_unlike(maps: Sequence[Floats]) -> Floats:
    """The sum of maps of which some lack the last classes."""
    classes = max(1, *(len(m) for m in maps)) if maps else 1
    return np.asarray(sum(_padded(m, classes) for m in maps), np.float32)


def _overlaps(cells: int, side: int) -> Floats:
    """(cells, side): how much of each of `cells` equal parts of an axis falls on each of its `side` voxels; rows sum to 1."""
    ends = np.linspace(0, side, cells + 1)
    lows, highs = ends[:-1, None], ends[1:, None]
    voxel = np.arange(side)
    common = np.clip(np.minimum(highs, voxel + 1) - np.maximum(lows, voxel), 0, None)
    return np.asarray(common / common.sum(1, keepdims=True), np.float32)


def frequencies(mask: NDArray[np.bool_]) -> Floats:
    """(16, 16, ...) the part of each cell of a grid over the whole image that is in `mask`."""
    return along_axes(mask.astype(np.float32), [_overlaps(CELLS, n) for n in mask.shape])


def products(x: Floats) -> Floats:
    """(m, 1 + F + F (F + 1) / 2) one, the features and all their products."""
    left, right = np.triu_indices(x.shape[1])
    return np.concatenate([np.ones((1, len(x)), np.float32), x.T, x.T[left] * x.T[right]]).T


def regression(x: Floats, inside: NDArray[np.bool_], weight: Floats) -> Floats:
    """Coefficients (F, K) of weighted multinomial logistic regression with a quadratic penalty, by L-BFGS."""
    from scipy.optimize import minimize

    truth = inside.astype(np.float32)
    share = (weight / weight.sum())[:, None].astype(np.float32)
    scale = np.sqrt((x**2).mean(0))[:, None] + np.float32(1e-6)  # columns of like size make the descent short

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        c = flat.reshape(x.shape[1], -1)
        log_p = log_softmax(x @ (c / scale).astype(np.float32), axis=1)
        slope = x.T @ (share * (np.exp(log_p) - truth)) / scale + PENALTY * c
        return float(-(share * truth * log_p).sum() + PENALTY / 2 * (c**2).sum()), slope.astype(np.float64).ravel()

    start = np.zeros(x.shape[1] * truth.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 100, "ftol": 1e-6}).x
    return np.asarray(found.reshape(x.shape[1], -1) / scale, np.float32)


def best_offsets(logits: Floats, inside: NDArray[np.bool_], weight: Floats) -> Floats:
    """What to add to the logits (m, K) so that the classes after the first reach the best mean Dice; the first keeps 0."""
    offsets = np.zeros(logits.shape[1], np.float32)
    for width in (2.0, 1.0, 0.5, 0.25):
        for k in range(1, len(offsets)):
            tries = offsets[k] + width * np.arange(-3, 4, dtype=np.float32)
            scores = [_mean_dice(logits + _with(offsets, k, value), inside, weight) for value in tries]
            offsets[k] = tries[int(np.argmax(scores))]
    return offsets


def _with(offsets: Floats, k: int, value: float) -> Floats:
    changed = offsets.copy()
    changed[k] = value
    return changed


def _mean_dice(logits: Floats, inside: NDArray[np.bool_], weight: Floats) -> float:
    said, classes = logits.argmax(1), logits.shape[1]
    truth = weight @ inside
    predicted = np.bincount(said, weight, minlength=classes)
    both = np.bincount(said, weight * inside[np.arange(len(said)), said], minlength=classes)
    return float(np.mean((2 * both / np.maximum(predicted + truth, 1e-9))[1:]))
