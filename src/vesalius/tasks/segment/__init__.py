"""Segmentation: every voxel gets a class, or a yes or no per overlapping label."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from vesalius.core.card import Card
from vesalius.core.space import Array, Space
from vesalius.data.labels import IGNORE, Labels
from vesalius.io.image import Image
from vesalius.tasks import Prior, Shallow, VoxelTask
from vesalius.tasks.segment.loss import named
from vesalius.tasks.segment.scores import definitions, score_coded

CARD = Card(entry="Segment", title="Segmentation", summary="Outline organs, lesions and vessels, voxel by voxel.", tasks=("segment",))

TOLERANCE = 1.0  # of the surface Dice, in the unit of the scan


class Segment(VoxelTask):
    """Softmax over exclusive classes or a sigmoid per overlapping label; soft Dice plus cross entropy at every scale."""

    nets = ("unet", "residual_unet")
    foreground = 0.5
    leading = ("dice", "hd95", "nsd")

    def out_channels(self, labels: Labels) -> int:
        return labels.out_channels

    def loss(self, labels: Labels, settings: Mapping[str, Any] | None = None, *, counts: Sequence[int] | None = None) -> nn.Module:
        return named(labels, settings or {})

    def baseline(self, labels: Labels) -> Shallow:
        from vesalius.tasks.segment.baseline import Baseline

        made: Shallow = Baseline()
        return made

    def prior(self, labels: Labels, path: Path | None) -> Prior:
        from vesalius.tasks.segment.baseline import Baseline

        made: Prior = Baseline.load(path) if path else Baseline()
        return made

    def quick_score(self, answer: Array, truth: Array, labels: Labels) -> float:
        """Mean Dice over the labels that are there (1 where neither has any)."""
        valid = truth[0] != IGNORE
        scores = []
        for a, b in zip(labels.masks(answer), labels.masks(truth), strict=True):
            total = (a & valid).sum() + b.sum()
            scores.append(2 * (a & b).sum() / total if total else 1.0)
        return float(np.mean(scores))

    def score(self, answer: Array, truth: Array, *, space: Space, labels: Labels) -> list[dict[str, Any]]:
        rows = score_coded(answer, truth, space, labels=labels, case="", patient="", tolerance=TOLERANCE)
        return [{key: value for key, value in row.items() if key not in ("case", "patient")} for row in rows]

    def definitions(self, unit: str) -> dict[str, str]:
        return definitions(tolerance=TOLERANCE, unit=unit)

    def written(self, answer: Array, like: Image, labels: Labels) -> Image:
        return Image(labels.decode(answer)[None], like.space, like.source)
