"""Colours of a heat: viridis (van der Walt & Smith 2015, public domain), even in lightness, read alike by people who see no red or green.

Between 33 of its colours, evenly apart, values are linear; no channel is further than 2 of 255 from the whole table.
"""

import numpy as np
from numpy.typing import NDArray

STOPS = (
    "440154 470d60 48186a 482374 472d7b 453781 424086 3e4989 3b528b 375b8d 33638d 2f6b8e 2c728e 297a8e 26828e 23898e 21918c 1f978b "
    "1f9f88 21a685 27ad81 31b57b 3dbc74 4cc26c 5cc863 6ece58 81d34d 95d840 aadc32 c0df25 d5e21a eae51a fde725"
)
COLOURS = np.array([[int(stop[k : k + 2], 16) for k in (0, 2, 4)] for stop in STOPS.split()], float)


def viridis(part: NDArray[np.floating]) -> NDArray[np.float64]:
    """Red, green and blue (..., 3), 0 to 255, of `part`, 0 to 1; what lies outside takes the nearest end, NaN the darkest."""
    place = np.clip(np.nan_to_num(part), 0, 1)
    return np.stack([np.interp(place, np.linspace(0, 1, len(COLOURS)), channel) for channel in COLOURS.T], -1)
