"""Thresholds that are chosen on one set and applied to another: Youden's, a fixed sensitivity or specificity, the least cost.

Youden 1950, Cancer 3. What a threshold reached where it was chosen flatters it; `measure` says what it does elsewhere.
"""

from math import nan

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from vesalius.core.errors import DataError
from vesalius.metrics._curves import Curve
from vesalius.trust._kept import Flags, Floats, Kept


class Rate(Kept):
    """`part` of `whole` cases as a `share`, with the exact binomial interval of 95 % (Clopper & Pearson 1934)."""

    part: int
    whole: int
    share: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, part: int, whole: int, *, level: float = 0.95) -> "Rate":
        """Undefined, None, of no case."""
        if not whole:
            return cls(part=0, whole=0, share=None, low=None, high=None)
        miss = (1 - level) / 2
        low = float(betaincinv(part, whole - part + 1, miss)) if part else 0.0
        high = float(betaincinv(part + 1, whole - part, 1 - miss)) if part < whole else 1.0
        return cls(part=part, whole=whole, share=part / whole, low=low, high=high)


class Performance(Kept):
    """What a threshold does on some cases."""

    sensitivity: Rate
    specificity: Rate


class OperatingPoint(Kept):
    """"Yes" is said from `threshold` on. `rule` says how it was chosen, `fitted` what it did on the cases it was chosen on."""

    rule: str
    threshold: float
    fitted: Performance

    def says(self, score: ArrayLike) -> Flags:
        """Decisions (N,) from scores (N,) of the same kind as those of the choice."""
        return np.asarray(np.asarray(score, float) >= self.threshold)

    def measure(self, score: ArrayLike, truth: ArrayLike) -> Performance:
        """Sensitivity and specificity on other cases (N,), which take no part in the choice; 255 is unknown."""
        known = known_of(score, truth)
        return performance(self.says(known[0]), known[1])


def known_of(score: ArrayLike, truth: ArrayLike) -> tuple[Floats, Flags]:
    """`score` (N,) and yes or no (N,) of the cases whose truth is 0 or 1."""
    values, actual = np.asarray(score, float), np.asarray(truth)
    if values.shape != actual.shape or values.ndim != 1:
        raise DataError(f"Expected scores (N,) with truth (N,) of 0 / 1; got {values.shape} and {actual.shape}.")
    known = (actual == 0) | (actual == 1)
    return values[known], actual[known] == 1


def performance(said: Flags, truth: Flags) -> Performance:
    """Rates of the decisions `said` (N,)."""
    return Performance(sensitivity=Rate.of(int((said & truth).sum()), int(truth.sum())),
                       specificity=Rate.of(int((~said & ~truth).sum()), int((~truth).sum())))  # fmt: skip


def youden(score: ArrayLike, truth: ArrayLike) -> OperatingPoint:
    """The threshold with the largest sensitivity + specificity."""
    curve, known = _curve(score, truth)
    return _point("youden", curve, int(np.argmax(curve.sensitivity + curve.specificity)), known=known)


def fixed_sensitivity(score: ArrayLike, truth: ArrayLike, *, least: float) -> OperatingPoint:
    """The strictest threshold with a sensitivity of at least `least`: of those, the one of the largest specificity."""
    curve, known = _curve(score, truth)
    return _point(f"sensitivity >= {least:g}", curve, int(np.argmax(curve.sensitivity >= least - 1e-12)), known=known)


def fixed_specificity(score: ArrayLike, truth: ArrayLike, *, least: float) -> OperatingPoint:
    """The mildest threshold with a specificity of at least `least`: of those, the one of the largest sensitivity."""
    curve, known = _curve(score, truth)
    return _point(f"specificity >= {least:g}", curve, int(np.flatnonzero(curve.specificity >= least - 1e-12)[-1]), known=known)


def least_cost(score: ArrayLike, truth: ArrayLike, *, missed: float, alarm: float = 1.0, prevalence: float | None = None) -> OperatingPoint:
    """The threshold of least expected cost, where a missed case costs `missed` and a false alarm `alarm`.

    `prevalence` is that of the place of use, where cases here are not as frequent as there; None takes theirs.
    """
    if missed <= 0 or alarm <= 0 or not 0 < (prevalence or 0.5) < 1:
        raise DataError(f"Expected costs above 0 and a prevalence between 0 and 1; got {missed}, {alarm}, {prevalence}.")
    curve, known = _curve(score, truth)
    share = curve.positives / len(known[1]) if prevalence is None else prevalence
    cost = share * missed * (1 - curve.sensitivity) + (1 - share) * alarm * (1 - curve.specificity)
    return _point(f"least cost, {missed:g} : {alarm:g}", curve, int(np.argmin(cost)), known=known)


def _curve(score: ArrayLike, truth: ArrayLike) -> tuple[Curve, tuple[Floats, Flags]]:
    known = known_of(score, truth)
    curve = Curve.of(*known)
    if not curve.positives or not curve.negatives:
        lacks = "positive" if not curve.positives else "negative"
        raise DataError(f"A threshold needs positive and negative cases to be chosen on; there is no {lacks} one among {len(known[1])}. "
                        "Give a validation part that has both, or state the threshold yourself.")  # fmt: skip
    return curve, known


def _point(rule: str, curve: Curve, index: int, *, known: tuple[Floats, Flags]) -> OperatingPoint:
    """The threshold lies in the middle between the last case that is said and the first that is not."""
    last = curve.threshold[index]
    following = curve.threshold[index + 1] if index + 1 < len(curve.threshold) else nan
    cut = float(np.nextafter(following, np.inf)) if np.isinf(last) else float(last if np.isnan(following) else (last + following) / 2)
    return OperatingPoint(rule=rule, threshold=cut, fitted=performance(known[0] >= cut, known[1]))


