"""Lesion by lesion: which of the true objects were found, and which of the predicted ones are real.

Objects are connected components (26 neighbours in 3D, 8 in 2D). A true lesion is found when at least a tenth of its
voxels are predicted; a predicted object is real when at least a tenth of its voxels are true: the detection rule of
Commowick et al. 2018 with their alpha = 10 %, without their second test against over-segmentation, which the precision
takes over. One prediction may find several lesions and several may find one; no matching is needed.
"""

from math import nan

import numpy as np
from scipy import ndimage

from vesalius.core.card import Card
from vesalius.metrics._pair import Mask, Pair

CARD = Card(
    entry="lesion",
    title="Lesion-wise detection",
    summary="Sensitivity, precision and F1 over connected components instead of voxels.",
    paper="Commowick et al. 2018, Objective Evaluation of Multiple Sclerosis Lesion Segmentation, Scientific Reports 8, 13650",
    tasks=("segment", "detect"),
    facts={
        "lesion_sensitivity": {
            "definition": "share of the true connected components of which at least a tenth was predicted (undefined where there is none)",
            "unit": "1", "better": "high", "both_empty": None, "missed": 0.0, "hallucinated": None,
        },
        "lesion_precision": {
            "definition": "share of the predicted connected components of which at least a tenth is true (undefined where there is none)",
            "unit": "1", "better": "high", "both_empty": None, "missed": None, "hallucinated": 0.0,
        },
        "lesion_f1": {
            "definition": "harmonic mean of lesion-wise sensitivity and precision; 1 where both masks are empty, 0 where one is",
            "unit": "1", "better": "high", "both_empty": 1.0, "missed": 0.0, "hallucinated": 0.0,
        },
    },
)  # fmt: skip

COVERED = 0.1  # alpha of Commowick et al.


def lesion(pair: Pair) -> dict[str, float]:
    """lesion_sensitivity, lesion_precision and lesion_f1 in 0..1, NaN where undefined."""
    sensitivity = found_share(pair.truth, pair.prediction)
    precision = found_share(pair.prediction, pair.truth)
    f1 = float(pair.state == "both_empty")
    if pair.state == "scored" and sensitivity + precision > 0:
        f1 = 2 * sensitivity * precision / (sensitivity + precision)
    return {"lesion_sensitivity": sensitivity, "lesion_precision": precision, "lesion_f1": f1}


def found_share(objects: Mask, cover: Mask, *, covered: float = COVERED) -> float:
    """Share of the connected components of `objects` of which at least the part `covered` lies in `cover`; NaN without any."""
    labels, number = ndimage.label(objects, np.ones((3,) * objects.ndim))
    if number == 0:
        return nan
    size = np.bincount(labels[objects], minlength=number + 1)[1:]
    inside = np.bincount(labels[objects & cover], minlength=number + 1)[1:]
    return float(np.mean(inside >= covered * size))
