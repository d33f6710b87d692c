"""Whether prediction sets keep their promise: coverage over many resamplings, beside the exact bounds of the theory.

With n calibration patients and scores that do not tie, the number of m new patients that are covered is beta-binomial with
k and n + 1 - k, k = ceil((n + 1)(1 - miss)) (Vovk 2012, Machine Learning 92; Angelopoulos & Bates 2023, section 3.2). That holds
for random parts of one fixed set of patients too, since only ranks matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import betabinom

from vesalius.core.errors import DataError
from vesalius.data.labels import IGNORE
from vesalius.trust._kept import Flags, Floats, Indices, owners
from vesalius.trust.conformal import Conformal, ConformalChoice, fit_conformal, rank_of


@dataclass(frozen=True, eq=False)
class Coverage:
    """`covered` (times,) share of test patients covered in each resampling, mean `size` (times,) of their sets, and how many
    patients calibrated and were tested."""

    covered: Floats
    size: Floats
    calibrated: int
    tested: int
    miss: float

    def bounds(self, level: float = 0.95) -> tuple[float, float]:
        """Between which a single resampling lies with at least this chance."""
        return exact_bounds(self.calibrated, self.tested, miss=self.miss, level=level)

    @property
    def expected(self) -> float:
        """The mean coverage that the theory gives, at least 1 - miss."""
        return min(rank_of(self.calibrated, self.miss) / (self.calibrated + 1), 1.0)

    def to_json(self) -> dict[str, Any]:
        """The figures of a report."""
        low, high = self.bounds()
        return {"mean": float(self.covered.mean()), "expected": self.expected, "low": low, "high": high, "size": float(self.size.mean()),
                "inside": float(((self.covered >= low) & (self.covered <= high)).mean()), "covered": self.covered.tolist()}  # fmt: skip


def exact_bounds(calibrated: int, tested: int, *, miss: float, level: float = 0.95) -> tuple[float, float]:
    """Central interval of the share covered of `tested` new patients after a fit on `calibrated`."""
    rank = rank_of(calibrated, miss)
    if rank > calibrated:
        return 1.0, 1.0
    law = betabinom(tested, rank, calibrated + 1 - rank)
    return float(law.ppf((1 - level) / 2)) / tested, float(law.ppf((1 + level) / 2)) / tested


def covered_patients(rule: Conformal, probabilities: Floats, truth: NDArray[np.int64], *, names: Sequence[object],
                     patients: Sequence[object] | NDArray[np.generic] | None = None) -> tuple[Flags, float]:  # fmt: skip
    """Whether all known cases of each patient are in their sets (patients,), and the mean size of the sets. Exclusive classes."""
    if truth.ndim != 1:
        raise DataError("Coverage is counted for classes that exclude each other; give one finding at a time as two classes.")
    known = np.flatnonzero(truth != IGNORE)
    sets = rule.sets(probabilities[known], [names[i] for i in known.tolist()])
    inside = sets[np.arange(len(known)), truth[known]]
    owner = owners(None if patients is None else np.asarray(patients)[known], len(known))
    return np.bincount(owner, ~inside) == 0, float(sets.sum(1).mean()) if len(known) else nan


def resampled_coverage(probabilities: ArrayLike, truth: ArrayLike, *, patients: Sequence[object] | None = None,
                       choice: ConformalChoice | None = None, share: float = 0.5, times: int = 200, seed: int = 0) -> Coverage:  # fmt: skip
    """Deal the patients into calibration (`share` of them) and test `times` over, each time with new random numbers."""
    p, known, choice = np.asarray(probabilities, float), np.asarray(truth).astype(np.int64), choice or ConformalChoice()
    owner, generator = owners(patients, len(p)), np.random.default_rng(seed)
    people = int(owner.max(initial=-1)) + 1
    number = round(share * people)
    if not 0 < number < people:
        raise DataError(f"{people} patients cannot be parted into calibration and test with a share of {share:g}.")
    found = [_one_deal(p, known, owner, chosen=np.isin(owner, generator.permutation(people)[:number]),
                       choice=choice.model_copy(update={"seed": choice.seed + time})) for time in range(times)]  # fmt: skip
    covered, sizes = zip(*found, strict=True)
    return Coverage(np.array(covered), np.array(sizes), number, people - number, choice.miss)


def _one_deal(p: Floats, truth: NDArray[np.int64], owner: Indices, *, chosen: Flags, choice: ConformalChoice) -> tuple[float, float]:
    """Share of the patients not `chosen` that are covered, and the size of their sets, after a fit on the chosen ones."""
    for_fit, for_test = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    rule = fit_conformal(p[for_fit], truth[for_fit], names=for_fit.tolist(), patients=owner[for_fit], choice=choice)
    inside, size = covered_patients(rule, p[for_test], truth[for_test], names=for_test.tolist(), patients=owner[for_test])
    return float(inside.mean()), size
