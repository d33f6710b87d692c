"""ROC and precision-recall curves at every threshold that changes a decision; "yes" is said from the threshold on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Curve:
    """Points from the strictest threshold (+inf, nothing is said) to the mildest; all arrays (T,).

    `true` and `false` are numbers of true and false positives at `threshold`; `positives` and `negatives` those there are.
    """

    threshold: Floats
    true: Floats
    false: Floats
    positives: int
    negatives: int

    @classmethod
    def of(cls, score: Floats, truth: Flags) -> "Curve":
        """From `score` (N,) of yes and `truth` (N,); cases with one score change sides together."""
        order = np.argsort(-score, kind="stable")
        ranked, hit = score[order], truth[order]
        last = np.flatnonzero(np.append(np.diff(ranked) != 0, True)) if len(ranked) else np.zeros(0, int)
        true = np.append(0.0, np.cumsum(hit, dtype=float)[last])
        false = np.append(0.0, last + 1.0) - true
        return cls(np.append(np.inf, ranked[last]), true, false, int(truth.sum()), int((~truth).sum()))

    @property
    def sensitivity(self) -> Floats:
        """True positives over positives; NaN without any."""
        return share(self.true, self.positives)

    @property
    def specificity(self) -> Floats:
        """True negatives over negatives; NaN without any."""
        return 1 - share(self.false, self.negatives)

    @property
    def area(self) -> float:
        """Area under the ROC curve, the chance that a positive is ranked above a negative, ties half; NaN where one is absent."""
        if not self.positives or not self.negatives:
            return float("nan")
        return float(np.diff(self.false) @ (self.true[1:] + self.true[:-1])) / 2 / self.positives / self.negatives

    @property
    def precision(self) -> Floats:
        """True positives over what was said to be positive; 1 where nothing was."""
        said = self.true + self.false
        return np.divide(self.true, said, out=np.ones_like(said), where=said > 0)


def share(part: Floats, whole: int) -> Floats:
    """`part` / `whole`, NaN where `whole` is 0."""
    return part / whole if whole else np.full_like(part, np.nan)
