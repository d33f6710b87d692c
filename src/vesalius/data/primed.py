"""What a network that corrects a classifier is shown (nets/_prior.py): the log odds of that one behind the channels of a scan."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vesalius.core.space import Array

LIMIT = 6.0  # log odds beyond are cut: nothing is so certain that it could not be corrected
SCALE = 3.0  # a network sees numbers of about 1
Floats = NDArray[np.float32]


class Odds(Protocol):
    """Whatever says how likely every voxel is."""

    def odds(self, image: Floats) -> Array:
        """(K, *S) log odds of each label of `image` (C, *S); of exclusive ones against the background."""


def stored_odds(prior: Odds, image: NDArray[np.floating]) -> Floats:
    """(K, *S) the log odds of `prior` for `image` (C, *S) as they are stored: cut at +-LIMIT, 0 for the least likely."""
    return np.asarray(np.clip(prior.odds(image.astype(np.float32)), -LIMIT, LIMIT) + LIMIT, np.float32)


def with_odds(image: Floats, priors: Sequence[Odds]) -> Floats:
    """`image` (C, *S) with the log odds of each prior after its channels."""
    return np.concatenate([image, *(stored_odds(prior, image) for prior in priors)]) if priors else image
