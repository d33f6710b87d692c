"""When to say nothing: the mildest confidence from which on answers are wrong no more often than promised.

Geifman & El-Yaniv 2017, Selective Classification for Deep Neural Networks, NeurIPS (selection with guaranteed risk): with
chance 1 - `doubt` over the validation patients, the error among answered new cases is at most `risk`. Ours is given one
case per patient, or takes of each patient the wrong one, if any.
"""

from collections.abc import Sequence
from math import floor, log2

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from vesalius.core.errors import DataError
from vesalius.trust._kept import Flags, Floats, Kept, owners


class Abstention(Kept):
    """Answers are given from the confidence `cut` on; None is never, because no cut could be promised.

    `coverage` is the share of validation cases that is answered, `bound` what the error among them is below, `wrong` of
    `answered` what it was.
    """

    risk: float
    doubt: float
    cut: float | None
    coverage: float
    bound: float
    wrong: int
    answered: int

    def answers(self, confidence: ArrayLike) -> Flags:
        """Which cases (N,) are answered."""
        values = np.asarray(confidence, float)
        return np.zeros(values.shape, bool) if self.cut is None else np.asarray(values >= self.cut)


def upper_bound(wrong: int, answered: int, doubt: float) -> float:
    """The error rate that is exceeded with chance `doubt` at most, given `wrong` of `answered` (Clopper & Pearson)."""
    return 1.0 if wrong >= answered else float(betaincinv(wrong + 1, answered - wrong, 1 - doubt))


def fit_abstention(confidence: ArrayLike, right: ArrayLike, *, risk: float = 0.05, doubt: float = 0.1,
                   patients: Sequence[object] | NDArray[np.generic] | None = None) -> Abstention:  # fmt: skip
    """From `confidence` (N,) and whether each answer was `right` (N,) on validation cases that nothing else was fitted on."""
    if not 0 < risk < 1 or not 0 < doubt < 1:
        raise DataError(f"Risk and doubt lie between 0 and 1; got {risk} and {doubt}.")
    sure, wrong = _one_per_patient(np.asarray(confidence, float), ~np.asarray(right, bool), patients)
    order = np.argsort(-sure, kind="stable")
    sure, errors, n = sure[order], np.cumsum(wrong[order]), len(sure)
    steps = floor(log2(n)) + 1 if n else 1
    low, high, best = 1, n, 0
    while low <= high:  # a bisection looks at `steps` cuts at most, so that the doubt is shared among as many
        middle = (low + high) // 2
        last = int(np.searchsorted(-sure, -sure[middle - 1], side="right"))
        if upper_bound(int(errors[last - 1]), last, doubt / steps) <= risk:
            best, low = max(best, last), last + 1
        else:
            high = middle - 1
    found = int(errors[best - 1]) if best else 0
    return Abstention(risk=risk, doubt=doubt, cut=float(sure[best - 1]) if best else None, coverage=best / n if n else 0.0,
                      bound=upper_bound(found, best, doubt / steps), wrong=found, answered=best)  # fmt: skip


def _one_per_patient(confidence: Floats, wrong: Flags, patients: Sequence[object] | NDArray[np.generic] | None) -> tuple[Floats, Flags]:
    """The case of each patient that counts: the surest wrong one, else the least sure."""
    owner = owners(patients, len(confidence))
    order = np.lexsort((np.where(wrong, -confidence, confidence), ~wrong, owner))
    first = order[np.unique(owner[order], return_index=True)[1]]
    return confidence[first], wrong[first]
