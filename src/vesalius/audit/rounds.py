"""Rivals over several seeds on the same test cases: the mean over seeds, and its interval over patients and seeds.

Patients are drawn with replacement, the same for every rival and seed; seeds are drawn with replacement too, their departures from the
mean widened by sqrt(S / (S - 1)), without which S drawn seeds spread too little (as in Hesterberg 2015). With one seed only the
patients vary, and with three the interval is rough: it says so beside the table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import DataError
from vesalius.data.labels import IGNORE, Labels
from vesalius.metrics._answers import Answers, macro
from vesalius.metrics._bootstrap import Patients

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one run said of test cases: `probabilities` (N, K) and their `truth` (N, 1 | K), or a score (N,) of each case."""

    names: tuple[str, ...]
    patients: tuple[str, ...]
    scores: Floats | None = None
    probabilities: Floats | None = None
    truth: NDArray[np.uint8] | None = None

    def to_json(self) -> dict[str, Any]:
        return {"names": self.names, "patients": self.patients, "scores": self.scores, "probabilities": self.probabilities,
                "truth": self.truth}  # fmt: skip

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "Outcome":
        """The inverse of `to_json`; None is undefined."""
        numbers = {name: None if tree[name] is None else np.array(tree[name], float) for name in ("scores", "probabilities")}
        truth = None if tree["truth"] is None else np.array(tree["truth"], np.uint8)
        return cls(tuple(tree["names"]), tuple(tree["patients"]), truth=truth, **numbers)

    def measure(self, labels: Labels) -> Callable[[Indices], float]:
        """The mean score of the cases of `rows`; of answers the AUC, mean over the classes that have both sides."""
        if self.scores is not None:
            scores = self.scores
            return lambda rows: float(np.nanmean(scores[rows])) if np.isfinite(scores[rows]).any() else float("nan")
        assert self.probabilities is not None and self.truth is not None
        truth = self.truth[:, 0] if labels.one_of else self.truth
        answers = Answers.of(self.probabilities, np.where(truth == IGNORE, IGNORE, truth).astype(int))
        return lambda rows: macro([q.curve.area for q in answers.take(rows).problems if q.both])


Outcomes = Mapping[str, Mapping[int, Outcome]]  # rival -> seed -> what it said


def compared(outcomes: Outcomes, labels: Labels, *, against: str, draws: int = 1000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """{rival: {"value", "low", "high", "seeds": {seed: value}, "gap": {"difference", "low", "high"} or None}}; the gap is to
    `against`, over the seeds that both have."""
    _require_same_cases(outcomes)
    first = next(iter(next(iter(outcomes.values())).values()))
    groups, generator = Patients.of(first.patients), np.random.default_rng(seed)
    n = len(groups.count)
    rows = [np.arange(len(first.names)), *(groups.cases(generator.integers(n, size=n)) for _ in range(draws if n > 1 else 0))]
    table = {who: {s: _table(one.measure(labels), rows) for s, one in found.items()} for who, found in outcomes.items()}
    made = {}
    for who, found in table.items():
        value, low, high = interval(np.stack(list(found.values()), 1), generator)
        both = [s for s in found if s in table.get(against, {})]
        gap = None
        if who != against and both:
            d, d_low, d_high = interval(np.stack([found[s] - table[against][s] for s in both], 1), generator)
            gap = {"difference": d, "low": d_low, "high": d_high, "seeds": len(both)}
        made[who] = {"value": value, "low": low, "high": high, "seeds": {s: float(v[0]) for s, v in found.items()}, "gap": gap}
    return made


def _table(measure: Callable[[Indices], float], rows: Sequence[Indices]) -> Floats:
    """(1 + draws,) the measure of all cases, then of each draw."""
    return np.array([measure(some) for some in rows])


def interval(table: Floats, generator: np.random.Generator) -> tuple[float, float | None, float | None]:
    """Mean over seeds and its 95 % interval, from (1 + draws, S): the first row is of all cases, the others of drawn patients."""
    value, drawn, seeds = float(table[0].mean()), table[1:], table.shape[1]
    drawn = drawn[np.isfinite(drawn).all(1)]
    if len(drawn) < 20:
        return value, None, None
    means = drawn.mean(1)
    if seeds > 1:
        picks = generator.integers(seeds, size=(len(drawn), seeds))
        means = means + sqrt(seeds / (seeds - 1)) * (np.take_along_axis(drawn, picks, 1).mean(1) - means)
    low, high = np.quantile(means, [0.025, 0.975])
    return value, float(low), float(high)


def _require_same_cases(outcomes: Outcomes) -> None:
    names = {one.names for found in outcomes.values() for one in found.values()}
    if len(names) > 1:
        raise DataError("Rivals are compared on the same test cases in the same order; these differ. Begin in another folder.")
