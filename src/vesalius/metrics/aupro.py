"""Per-region overlap: how much of an anomaly is found, each region of the truth weighing alike however large it is.

Bergmann et al. 2020 (CVPR), section 4.1: at a threshold, the share of each connected region that lies above it, meaned over regions; the
area below that curve over the false positive rate of pixels, from 0 to 0.3, divided by 0.3. Ours visits every threshold at which anything
changes, not a sample of them.
"""

from math import nan

import numpy as np

from vesalius.core.card import Card
from vesalius.metrics._curves import Floats
from vesalius.metrics._heat import Heat

CARD = Card(
    entry="aupro", title="Per-region overlap", tasks=("anomaly",),
    summary="Area under the curve of the mean share of each region that is found, small regions weighing as much as large ones.",
    paper="Bergmann et al. 2020, Uninformed Students, CVPR",
    facts={
        "aupro": {
            "definition": "mean share of a connected region above the threshold, meaned over false positive rates of pixels from 0 to 0.3",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": None, "no_negatives": None,
        },
    },
)  # fmt: skip

LIMIT = 0.3  # greatest false positive rate


def aupro(heat: Heat) -> dict[str, float]:
    """aupro in 0..1, NaN without anomalous or without other pixels; a map of one value has 0.15."""
    if not heat.both:
        return {"aupro": nan}
    return {"aupro": area(heat.curve.false / heat.curve.negatives, heat.covered(), limit=LIMIT) / LIMIT}


def area(x: Floats, y: Floats, *, limit: float) -> float:
    """Area below straight lines between points (`x` rising, `y`) from 0 to `limit`."""
    number = int(np.searchsorted(x, limit, side="right"))
    ends = [limit], [np.interp(limit, x, y)]
    return float(np.trapezoid(np.append(y[:number], ends[1]), np.append(x[:number], ends[0])))
