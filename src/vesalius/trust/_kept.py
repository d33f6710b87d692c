"""The base of every fitted rule: frozen settings to and from plain JSON; and what rules need of cases and patients."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vesalius.core.errors import DataError
from vesalius.core.settings import Settings
from vesalius.data.labels import IGNORE

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]


class Kept(Settings):
    """A fitted rule, as a run keeps it."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: numbers, words, lists, None."""
        tree: dict[str, Any] = self.model_dump(mode="json")
        return tree

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Self:
        """What `to_json` gave; a word that is not known or missing is an error."""
        return cls.checked(tree, where=cls.__name__)


def owners(patients: Sequence[object] | NDArray[np.generic] | None, cases: int) -> Indices:
    """The number (N,) of each case's patient; every case its own without `patients`."""
    if patients is None:
        return np.arange(cases)
    if len(patients) != cases:
        raise DataError(f"Expected one patient for each of {cases} cases, got {len(patients)}.")
    return np.unique(np.asarray(patients).astype(str), return_inverse=True)[1].astype(np.intp)


def uniform_of(names: Sequence[object], *, purpose: str, seed: int = 0) -> Floats:
    """A number in 0..1 for each name (N,), always the same for the same name, seed and purpose, else as good as random.

    Unlike purposes have unlike words, so that who is chosen for one thing is not favoured in another.
    """
    digests = [blake2b(f"{purpose}/{seed}/{name}".encode(), digest_size=8).digest() for name in names]
    return np.array([int.from_bytes(digest, "big") / 2**64 for digest in digests], float)


def require_scores(values: ArrayLike, truth: ArrayLike, what: str) -> tuple[Floats, NDArray[np.int64]]:
    """`values` (N, K) finite, with `truth` (N,), from (N, 1) too, or (N, K); raise a DataError that names `what` otherwise."""
    found, known = np.asarray(values, float), np.asarray(truth).astype(np.int64)
    known = known[:, 0] if known.shape == (len(found), 1) and found.shape[1:] != (1,) else known
    if found.ndim != 2 or known.shape not in (found.shape[:1], found.shape) or not len(found):
        raise DataError(f"Expected {what} (N, K) of at least one case with truth (N,) or (N, K); got {found.shape} and {known.shape}.")
    if not np.isfinite(found).all():
        raise DataError(f"{what.capitalize()} hold numbers that are not finite; the network has diverged or its input was empty.")
    wrong = (known != IGNORE) & ((known < 0) | (known >= (found.shape[1] if known.ndim == 1 else 2)))
    if wrong.any():
        raise DataError(f"Truth must be class indices below {found.shape[1]}, or 0 / 1 of findings, or {IGNORE} for unknown; "
                        f"got {sorted(set(known[wrong].tolist()))[:5]}.")  # fmt: skip
    return found, known
