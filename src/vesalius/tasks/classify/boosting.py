"""Gradient boosted trees: small trees one after another, each a Newton step down the cross entropy of those before it.

Friedman 2001, Greedy function approximation: a gradient boosting machine; each tree learns from a part of the cases (Friedman 2002).
Chen & Guestrin 2016, XGBoost: the weight of a leaf and the gain of a split (equations 5 and 7). Ke et al. 2017, LightGBM: splits are
sought between the bins of a histogram. Ours grows trees level by level to a fixed depth; features are drawn anew for each tree.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, log_softmax, softmax

Floats = NDArray[np.float32]
Real = NDArray[np.float64]
Bools = NDArray[np.bool_]
Bins = NDArray[np.uint8]
Index = NDArray[np.intp]
Tree = tuple[Index, Index, Real]  # feature and last bin of the left side of each node, level by level; logits of the leaves
SHARPEST = 0.5  # shrinkage at most, where there is only time for few rounds


@dataclass(frozen=True)
class How:
    """Trees of `depth` levels, shrunk by `rate`; `penalty` on squared leaf weights; a leaf holds a hessian of `least` or more; each tree
    sees `drawn` features and `rows` cases at most. No more than `trees` in all, and `rounds` of one per output; with cases held back it
    ends when `patience` rounds did not help them. Bounded in every direction: seconds whatever the data."""

    rounds: int = 150
    trees: int = 600
    depth: int = 3
    rate: float = 0.1
    penalty: float = 1.0
    least: float = 1.0
    bins: int = 32
    drawn: int = 64
    rows: int = 2048
    patience: int = 15

    def paced(self, outputs: int) -> "How":
        """The same for so many outputs: where there are many, fewer and larger steps."""
        rounds = max(1, min(self.rounds, self.trees // outputs))
        return replace(self, rounds=rounds, rate=min(max(self.rate, SHARPEST), self.rate * self.rounds / rounds))


@dataclass(frozen=True)
class Known:
    """What cases are: `inside` (N, K) true where they are of a class, `known` (N, K); `softly`: of exactly one of K classes."""

    inside: Bools
    known: Bools
    softly: bool

    @property
    def single(self) -> bool:
        """Whether there are two classes of which each case is one: half the difference of two logits says it all."""
        return self.softly and self.inside.shape[1] == 2

    @property
    def outputs(self) -> int:
        """Trees per round."""
        return 1 if self.single else self.inside.shape[1]

    def of(self, rows: Index) -> "Known":
        """The cases `rows`."""
        return Known(self.inside[rows], self.known[rows], self.softly)


@dataclass(frozen=True)
class Forest:
    """T rounds of K complete binary trees: node j sends a case to 2 j + 2 where its `feature` is above `cut`, else to 2 j + 1; `leaves`
    (T, K, 2 ** depth) are logits, to which `start` (K,) is added."""

    start: Real
    feature: NDArray[np.intp]
    cut: Floats
    leaves: Real

    @property
    def rounds(self) -> int:
        return len(self.leaves)

    def logits(self, x: Floats) -> Real:
        """(N, K) of features (N, F)."""
        inner = self.cut.shape[-1]
        depth = inner.bit_length()
        ahead = np.arange(self.rounds)[:, None], np.arange(self.leaves.shape[1])
        total = np.empty((len(x), self.leaves.shape[1]))
        for n, case in enumerate(x):
            node = np.zeros(self.leaves.shape[:2], np.intp)
            for _ in range(depth):
                node = 2 * node + 1 + (case[self.feature[(*ahead, node)]] > self.cut[(*ahead, node)])
            total[n] = self.leaves[(*ahead, node - inner)].sum(0)
        return total + self.start


def boost(x: Floats, truth: Known, *, held: tuple[Floats, Known] | None = None, how: How | None = None, seed: int = 0) -> Forest:
    """`how.rounds` of trees on features (N, F); with `held` cases as many of them as cost these least. Logits are of sigmoids, or of a
    softmax; of two classes one logit, that of the second."""
    how, draw = how or How(), np.random.default_rng(seed)
    edges, start = quantiles(x, how.bins), prior(truth)
    mine = _Side(binned(x, edges), np.tile(start, (len(x), 1)), truth)
    theirs = _Side(binned(held[0], edges), np.tile(start, (len(held[0]), 1)), held[1]) if held else None
    made, costs, best = list[list[Tree]](), list[float](), how.rounds
    for _ in range(how.rounds):
        slope, bend = newton(mine.logits, truth)
        made.append([_tree(mine.bins, slope[:, k], bend[:, k], how=how, draw=draw) for k in range(truth.outputs)])
        mine.add(made[-1])
        if theirs:
            costs.append(theirs.add(made[-1]))
            best = int(np.argmin(costs)) + 1
            if len(made) - best >= how.patience:
                break
    return _forest(start, made[:best], edges)


@dataclass
class _Side:
    """Cases with what the trees so far say of them."""

    bins: Bins
    logits: Real
    truth: Known

    def add(self, trees: list[Tree]) -> float:
        """One more round; the cost after it."""
        self.logits += np.stack([leaves[_reached(feature, cut, self.bins)] for feature, cut, leaves in trees], 1)
        return cost(self.logits, self.truth)


def _forest(start: Real, made: list[list[Tree]], edges: list[Floats]) -> Forest:
    """Trees whose cuts are values of features instead of bins; what goes left altogether is cut at infinity."""
    feature, cut, leaves = (np.array([[tree[part] for tree in trees] for trees in made]) for part in range(3))
    values = [float(edges[f][c]) if c < len(edges[f]) else np.inf for f, c in zip(feature.ravel(), cut.ravel(), strict=True)]
    return Forest(start, feature, np.array(values, np.float32).reshape(cut.shape), leaves)


def quantiles(x: Floats, bins: int) -> list[Floats]:
    """Edges between at most `bins` bins of each feature, equally full; midway between values where these are few."""
    at = np.linspace(0, len(x) - 1, bins + 1)[1:-1].astype(int)
    found = []
    for column in np.sort(x, 0).T:
        values = column[np.concatenate([[True], column[1:] > column[:-1]])]
        few = len(values) <= bins
        found.append(((values[1:] + values[:-1]) / 2 if few else np.unique(column[at])).astype(np.float32))
    return found


def binned(x: Floats, edges: list[Floats]) -> Bins:
    """(F, N) bins: how many edges lie below each value."""
    return np.stack([np.searchsorted(cuts, column) for cuts, column in zip(edges, x.T, strict=True)]).astype(np.uint8)


def prior(truth: Known) -> Real:
    """(K,) logits of the shares of the classes, each held off 0 and 1 by half a case."""
    number = np.maximum(1, truth.known.sum(0))
    share = np.clip((truth.inside & truth.known).sum(0) / number, 0.5 / number, 1 - 0.5 / number)
    share[truth.known.sum(0) == 0] = 0.5
    if truth.single:
        return np.asarray(np.log(share[1:] / (1 - share[1:])))
    return np.asarray(np.log(share) if truth.softly else np.log(share / (1 - share)))


def widened(logits: NDArray[np.floating], classes: int) -> NDArray[np.floating]:
    """(N, K) logits of all classes; where one is missing, because it says all of two classes, the first has 0."""
    return np.hstack([np.zeros_like(logits), logits]) if logits.shape[1] < classes else logits


def newton(logits: Real, truth: Known) -> tuple[Real, Real]:
    """Slope and bend of each case's cross entropy by its logits; of a softmax the diagonal of the bend. 0 where nothing is known."""
    inside, known = (part[:, 1:] if truth.single else part for part in (truth.inside, truth.known))
    p = softmax(logits, 1) if truth.softly and not truth.single else expit(logits)
    return (p - inside) * known, p * (1 - p) * known


def cost(logits: NDArray[np.floating], truth: Known) -> float:
    """Mean cross entropy of what is known."""
    if truth.softly:
        return float(-log_softmax(widened(logits, truth.inside.shape[1]), 1)[truth.inside].mean())
    return float(-log_expit(np.where(truth.inside, logits, -logits))[truth.known].sum() / max(1, int(truth.known.sum())))


def _tree(bins: Bins, slope: Real, bend: Real, *, how: How, draw: np.random.Generator) -> Tree:
    """One tree on some of the cases and features."""
    features = draw.permutation(len(bins))[: how.drawn]
    rows = draw.permutation(bins.shape[1])[: how.rows] if bins.shape[1] > how.rows else np.arange(bins.shape[1])
    feature, cut, leaves = grown(bins[features[:, None], rows], slope[rows], bend[rows], how=how)
    return features[feature], cut, how.rate * leaves


def grown(bins: Bins, slope: Real, bend: Real, *, how: How) -> Tree:
    """A tree on `bins` (F, N), its leaves not shrunk yet."""
    count, cases = bins.shape
    places = bins.astype(np.intp) + how.bins * np.arange(count)[:, None]
    node, told = np.zeros(cases, np.intp), []
    slopes, bends = (np.tile(part, count) for part in (slope, bend))
    for level in range(how.depth):
        joint = (places + node * (count * how.bins)).ravel()
        shape, size = (2**level, count, how.bins), 2**level * count * how.bins
        sums = [np.bincount(joint, part, size).reshape(shape) for part in (slopes, bends)]
        feature, cut = best_splits(*sums, how=how)
        node = 2 * node + (bins[feature[node], np.arange(cases)] > cut[node])
        told.append((feature, cut))
    total, bent = (np.asarray(np.bincount(node, part, 2**how.depth), float) for part in (slope, bend))
    feature, cut = (np.concatenate(part) for part in zip(*told, strict=True))
    return feature, cut, weight(total, bent, penalty=how.penalty)


def best_splits(slopes: Real, bends: Real, *, how: How) -> tuple[Index, Index]:
    """(feature, last bin of the left side) of greatest gain for each node, out of sums (nodes, F, bins) of slope and bend; the last bin of
    all, so that everything goes left, where no split gains."""
    left = [np.cumsum(part, -1)[..., :-1] for part in (slopes, bends)]
    whole = [part[:, :1].sum(-1, keepdims=True) for part in (slopes, bends)]
    right = [all_ - part for all_, part in zip(whole, left, strict=True)]
    gains = gain(left, right, penalty=how.penalty)
    gains[(left[1] < how.least) | (right[1] < how.least)] = 0.0
    flat = gains.reshape(len(gains), -1)
    best = flat.argmax(1)
    feature, cut = np.divmod(best, gains.shape[-1])
    return feature, np.where(flat.max(1) > 0, cut, slopes.shape[-1] - 1)


def weight(slope: Real, bend: Real, *, penalty: float) -> Real:
    """-G / (H + lambda), the least of G w + (H + lambda) w ** 2 / 2 (equation 5); 0 for a leaf without cases."""
    return np.asarray(-slope / np.maximum(bend + penalty, 1e-12))


def gain(left: list[Real], right: list[Real], *, penalty: float) -> Real:
    """How much less that least is for two leaves than for one (equation 7), from (G, H) of both."""
    whole = [a + b for a, b in zip(left, right, strict=True)]
    one, other, both = (slope**2 / np.maximum(bend + penalty, 1e-12) for slope, bend in (left, right, whole))
    return np.asarray((one + other - both) / 2)


def _reached(feature: Index, cut: Index, bins: Bins) -> Index:
    """(N,) the leaf that each case reaches."""
    node, cases = np.zeros(bins.shape[1], np.intp), np.arange(bins.shape[1])
    while (node[:1] < len(cut)).any():
        node = 2 * node + 1 + (bins[feature[node], cases] > cut[node])
    return node - len(cut)
