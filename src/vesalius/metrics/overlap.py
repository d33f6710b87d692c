"""Overlap of two masks: Dice, IoU, sensitivity, precision, and their volumes.

Dice 1945; Jaccard 1912. A ratio without a denominator is not a number here rather than a convention; two empty masks agree.
"""

from math import nan

from vesalius.core.card import Card
from vesalius.metrics._pair import Pair

CARD = Card(
    entry="overlap",
    title="Overlap",
    summary="Dice, IoU, sensitivity, precision and volumes from voxel counts.",
    paper="Dice 1945, Ecology 26, 297-302; Jaccard 1912, New Phytologist 11, 37-50",
    tasks=("segment",),
    facts={
        "dice": {
            "definition": "twice the voxels in both masks over the sum of the two masks",
            "unit": "1", "better": "high", "both_empty": 1.0, "missed": 0.0, "hallucinated": 0.0,
        },
        "iou": {
            "definition": "voxels in both masks over voxels in either",
            "unit": "1", "better": "high", "both_empty": 1.0, "missed": 0.0, "hallucinated": 0.0,
        },
        "sensitivity": {
            "definition": "share of the true voxels that were predicted (undefined where nothing is true)",
            "unit": "1", "better": "high", "both_empty": None, "missed": 0.0, "hallucinated": None,
        },
        "precision": {
            "definition": "share of the predicted voxels that are true (undefined where nothing is predicted)",
            "unit": "1", "better": "high", "both_empty": None, "missed": None, "hallucinated": 0.0,
        },
        "volume": {
            "definition": "predicted voxels times the volume of a voxel",
            "unit": "volume", "better": "none", "both_empty": 0.0, "missed": 0.0, "hallucinated": "volume",
        },
        "true_volume": {
            "definition": "true voxels times the volume of a voxel",
            "unit": "volume", "better": "none", "both_empty": 0.0, "missed": "true_volume", "hallucinated": 0.0,
        },
        "volume_error": {
            "definition": "predicted minus true volume; its mean is the bias",
            "unit": "volume", "better": "zero", "both_empty": 0.0, "missed": "-true_volume", "hallucinated": "volume",
        },
    },
)  # fmt: skip


def overlap(pair: Pair) -> dict[str, float]:
    """dice, iou, sensitivity, precision in 0..1 or NaN; volume, true_volume, volume_error in cubic (2D: square) millimetres."""
    predicted, actual, both = pair.volumes
    voxel = pair.space.voxel_volume
    return {
        "dice": _ratio(2 * both, predicted + actual, empty=1.0),
        "iou": _ratio(both, predicted + actual - both, empty=1.0),
        "sensitivity": _ratio(both, actual, empty=nan),
        "precision": _ratio(both, predicted, empty=nan),
        "volume": predicted * voxel,
        "true_volume": actual * voxel,
        "volume_error": (predicted - actual) * voxel,
    }


def _ratio(part: int, whole: int, *, empty: float) -> float:
    return part / whole if whole else empty
