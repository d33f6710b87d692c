"""Learning features of the user's own domain from images alone: judged by how well images are given back, the mean image beside."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vesalius.core.card import Card
from vesalius.tasks import Images, ImageTask, Index, Judged, Learned, Table

CARD = Card(entry="Pretrain", title="Pre-training", tasks=("pretrain",),
            summary="Learn what images of a domain have in common, without labels, and begin from it.")  # fmt: skip

Floats = NDArray[np.float64]


class Pretrain(ImageTask):
    """Rows are images; what they have in common is measured against the mean of the training images."""

    leading = ("explained", "error")
    serves = ("pretrain",)
    method = "vae"

    def definitions(self, unit: str) -> dict[str, str]:
        return {
            "explained": "1 less the squared error of the images given back over that of the mean training image, all pixels together.",
            "error": "Mean squared difference between an image, scaled to 0..1, and what is given back.",
        }

    def judge(self, method: Learned, seen: Images, *, trained: Images, calibration: Mapping[str, Any], folder: Path) -> Judged:
        errors = {"model": given_back(method, seen), "baseline": from_mean(seen, trained)}
        rows = {who: [{"case": case.name, "patient": case.patient, "label": "all", "error": float(error)}
                      for case, error in zip(seen.cases, found, strict=True)] for who, found in errors.items()}  # fmt: skip

        def measure(who: str, index: Index) -> Table:
            mine, mean = errors[who][index], errors["baseline"][index]
            return {"all": {"explained": 1 - float(mine.sum() / mean.sum()), "error": float(mine.mean())}}

        return Judged(rows, measure)

    def answers(self, method: Learned, images: Images, calibration: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A row of features for each image."""
        found = images.told(method.features)
        return [{"case": name, **{f"feature_{k}": float(value) for k, value in enumerate(row)}}
                for name, row in zip(images.names, found, strict=True)]  # fmt: skip


def given_back(method: Learned, images: Images) -> Floats:
    """(N,) mean squared differences between images and what the method gives back; NaN where it gives no images back."""

    def error(image: Tensor) -> Tensor:
        back = method.infer(image)
        return (back - image).square().flatten(1).mean(1) if back.shape == image.shape else torch.full((len(image),), torch.nan)

    return np.asarray(images.told(error), np.float64)


def from_mean(images: Images, trained: Images) -> Floats:
    """(N,) mean squared differences between images and the mean of the training images."""
    mean = sum(batch.double().sum(0) for batch in trained.batches()) / max(1, len(trained))
    return np.concatenate([((batch.double() - mean) ** 2).flatten(1).mean(1).cpu().numpy() for batch in images.batches()])
