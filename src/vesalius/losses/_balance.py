"""Weights of classes from how many cases each has: effective numbers, and when they begin to count.

Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples, CVPR: n cases are worth (1 - beta^n) / (1 - beta).
Cao et al. 2019, NeurIPS (deferred re-weighting): first learn without weights, then with them.
"""

from collections.abc import Sequence

from vesalius.core.errors import DataError

BETA = 0.9999  # of both papers for their long-tailed data


def effective_number_weights(counts: Sequence[int], *, beta: float = BETA) -> list[float]:
    """A weight for each class of `counts` training cases, in proportion to 1 / effective number, with mean 1.

    beta = 0 gives equal weights, beta -> 1 the inverse frequencies.
    """
    require_cases(counts)
    if not 0 <= beta < 1:
        raise DataError(f"Expected beta of 0 or more and below 1; got {beta}.")
    raw = [(1 - beta) / (1 - beta**count) for count in counts]
    return [len(raw) * weight / sum(raw) for weight in raw]


def require_cases(counts: Sequence[int]) -> None:
    """Raise a DataError where a class has no case to learn from."""
    empty = [k for k, count in enumerate(counts) if count < 1]
    if empty or not counts:
        raise DataError(f"Class {', '.join(map(str, empty)) or '(none given)'} has no training case (counts {list(counts)}). "
                        "Leave it out of the labels, or split the data so that it has one.")  # fmt: skip
