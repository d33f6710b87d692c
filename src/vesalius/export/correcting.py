"""Networks that correct the shallow baseline, without torch: each is shown its own log odds, which are added to what it says.

As `engine/infer.py` does it with torch: tiles carry the channels of the scan, then the log odds for each network that corrects some, in the
order of the networks (data/primed.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from vesalius.core.space import Array
from vesalius.data.primed import LIMIT, SCALE
from vesalius.export.numbers import Singles, singles

Asked = Callable[[Singles], Array]


@dataclass(frozen=True)
class Correcting:
    """A `network` that takes the first `channels` of a tile and its own `odds`, which are none where it corrects nothing."""

    network: Asked
    channels: int
    odds: slice

    def __call__(self, tiles: Singles) -> Array:
        """Logits (B, K, *S) of tiles (B, C, *S)."""
        if self.odds.start == self.odds.stop:
            return self.network(tiles[:, : self.channels])
        odds = tiles[:, self.odds]
        shown = np.empty((len(tiles), self.channels + odds.shape[1], *tiles.shape[2:]), np.float32)
        shown[:, : self.channels] = tiles[:, : self.channels]
        np.divide(odds, np.float32(SCALE), out=shown[:, self.channels :])
        said = singles(self.network(shown))
        said[:, said.shape[1] - odds.shape[1] :] += odds - np.float32(LIMIT)  # the background of exclusive classes stays as it is
        return said


def correcting(networks: Sequence[Asked], channels: int, odds: Sequence[int]) -> list[Asked]:
    """`networks` for tiles of one kind: each takes the scan's `channels`, and of `odds`, so many for each of them, its own."""
    if not any(odds):
        return list(networks)
    ends = accumulate(odds, initial=channels)
    return [Correcting(network, channels, slice(*span)) for network, span in zip(networks, pairwise(ends), strict=True)]
