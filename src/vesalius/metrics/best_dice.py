"""The Dice that the best of all thresholds reaches: a ceiling, not a result, since it is chosen by the truth.

Baur et al. 2021 (Medical Image Analysis 69) and Zimmerer et al. 2019 compare methods by it. All pixels of all images together, every
threshold at which anything changes.
"""

from math import nan

import numpy as np

from vesalius.core.card import Card
from vesalius.metrics._heat import Heat

CARD = Card(
    entry="best_dice", title="Ceiling of Dice", tasks=("anomaly",),
    summary="The best Dice that any one threshold on the map reaches.",
    paper="Baur et al. 2021, Medical Image Analysis 69, 101952",
    facts={
        "best_dice": {
            "definition": "greatest Dice over all thresholds, all pixels of all images together; what no choice of threshold can exceed",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": None, "no_negatives": 1.0,
        },
    },
)  # fmt: skip


def best_dice(heat: Heat) -> dict[str, float]:
    """best_dice in 0..1, NaN without anomalous pixels."""
    curve = heat.curve
    if not curve.positives:
        return {"best_dice": nan}
    return {"best_dice": float(np.max(2 * curve.true / (curve.true + curve.false + curve.positives)))}
