"""How well a map ranks anomalous pixels above others: area under the ROC curve, and average precision.

All pixels of all images together. Where anomalies are small the area is close to 1 for methods of little use, since it is a share of very
many normal pixels (Baur et al. 2021, Medical Image Analysis 69); average precision is not so kind.
"""

from math import nan

import numpy as np

from vesalius.core.card import Card
from vesalius.metrics._heat import Heat

CARD = Card(
    entry="pixel_ranking", title="Pixel-wise AUROC and AP", tasks=("anomaly",),
    summary="How well a map of strangeness ranks the pixels of anomalies above all others.",
    paper="Hanley & McNeil 1982, Radiology 143, 29-36; Baur et al. 2021, Medical Image Analysis 69, 101952",
    facts={
        "pixel_auroc": {
            "definition": "chance that a pixel of an anomaly is stranger than another pixel, ties half; all images together",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": None, "no_negatives": None,
        },
        "pixel_ap": {
            "definition": "precision meaned over the steps of recall; all images together; by chance the share of anomalous pixels",
            "unit": "1", "better": "high", "perfect": 1.0, "no_positives": None, "no_negatives": None,
        },
    },
)  # fmt: skip


def pixel_ranking(heat: Heat) -> dict[str, float]:
    """pixel_auroc and pixel_ap in 0..1, NaN without anomalous or without other pixels."""
    if not heat.both:
        return {"pixel_auroc": nan, "pixel_ap": nan}
    curve = heat.curve
    return {"pixel_auroc": curve.area, "pixel_ap": float(np.diff(curve.sensitivity) @ curve.precision[1:])}
