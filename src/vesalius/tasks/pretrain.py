"""Learning features of the user's own domain from images alone, to begin from with few labels.

Where images have classes, these are only looked at: how often the nearest training images by features have the class of a new one, beside
the same by pixels. Where the method gives images back, how well it does, beside the mean training image.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vesalius.core.card import Card
from vesalius.tasks import Images, ImageTask, Index, Judged, Learned, Table
from vesalius.tasks._neighbours import balanced, classes, pixels, votes

CARD = Card(entry="Pretrain", title="Pre-training", tasks=("pretrain",),
            summary="Learn what images of a domain have in common, without labels, and begin from it.")  # fmt: skip

Floats = NDArray[np.float64]
Row = dict[str, Any]


class Pretrain(ImageTask):
    """Rows are images; measures are those that the method and the labels allow."""

    leading = ("neighbours", "explained")
    serves = ("pretrain",)
    method = "simclr"

    def definitions(self, unit: str) -> dict[str, str]:
        return {
            "neighbours": "Balanced accuracy of the commonest class among the ten nearest training images: by features, beside by pixels.",
            "explained": "1 less the squared error of the images given back over that of the mean training image, all pixels together.",
            "error": "Mean squared difference between an image, as the method sees it, and what is given back.",
            "strange": "How strange the image is to the method: what it loses on it; where it asks itself a question, as rotation and "
                       "jigsaw do, minus the log of the probability that it gives the right answer.",
        }

    def look(self, method: Learned, images: Images) -> float | None:
        """Balanced accuracy among the neighbours of each image where there are classes, otherwise how well images are given back."""
        truth = classes(images)
        if truth is None or len(images) < 3:
            return super().look(method, images)
        there = truth >= 0
        rows = images.told(method.features)[there]
        return balanced(votes(rows, truth[there], rows, own=True).argmax(1), truth[there])

    def judge(self, method: Learned, seen: Images, *, trained: Images, calibration: Mapping[str, Any], folder: Path) -> Judged:
        strange = images_told(seen, method.score)
        errors = {"model": given_back(method, seen), "baseline": from_mean(seen, trained)}
        told, truth = neighbours_say(method, seen, trained), classes(seen)
        rows: dict[str, list[Row]] = {who: self._rows(seen, errors[who] if np.isfinite(errors["model"]).all() else None) for who in errors}
        for who, said in told.items():
            for row, k, right in zip(rows[who], said, truth if truth is not None else (), strict=True):
                row |= {"said": seen.labels.names[int(k)], "truth": seen.labels.names[int(right)] if right >= 0 else None}
        for row, value in zip(rows["model"], strange, strict=True):
            row["strange"] = float(value)

        def measure(who: str, index: Index) -> Table:
            found: dict[str, float] = {}
            if told and truth is not None:
                known = index[truth[index] >= 0]
                found["neighbours"] = balanced(told[who][known], truth[known])
            if np.isfinite(errors["model"]).all():
                mine, mean = errors[who][index], errors["baseline"][index]
                found |= {"explained": 1 - float(mine.sum() / mean.sum()), "error": float(mine.mean())}
            return {"all": found or {"strange": float(strange[index].mean()) if who == "model" else float("nan")}}

        return Judged(rows, measure)

    def _rows(self, seen: Images, errors: Floats | None) -> list[Row]:
        rows: list[Row] = [{"case": case.name, "patient": case.patient, "label": "all"} for case in seen.cases]
        for row, error in zip(rows, errors if errors is not None else (), strict=errors is not None):
            row["error"] = float(error)
        return rows

    def answers(self, method: Learned, images: Images, calibration: Mapping[str, Any]) -> list[Row]:
        """A row of features for each image."""
        found = images.told(method.features)
        return [{"case": name, **{f"feature_{k}": float(value) for k, value in enumerate(row)}}
                for name, row in zip(images.names, found, strict=True)]  # fmt: skip


def neighbours_say(method: Learned, seen: Images, trained: Images) -> dict[str, NDArray[np.int64]]:
    """The commonest class among the training images nearest to each of `seen`, by features ("model") and by pixels ("baseline");
    nothing where classes are not known."""
    known, asked = classes(trained), classes(seen)
    if known is None or asked is None:
        return {}
    there = np.flatnonzero(known >= 0)
    some = trained.chosen(there.tolist())
    by = {"model": (some.told(method.features), seen.told(method.features)), "baseline": (pixels(some), pixels(seen))}
    return {who: votes(rows, known[there], others).argmax(1) for who, (rows, others) in by.items()}


def images_told(images: Images, answer: Any) -> Floats:
    """(N,) what is said of every image."""
    return np.asarray(images.told(answer), np.float64)


def given_back(method: Learned, images: Images) -> Floats:
    """(N,) mean squared differences between images and what the method gives back; NaN where it gives no images back."""

    def error(image: Tensor) -> Tensor:
        back = method.infer(image)
        return (back - image).square().flatten(1).mean(1) if back.shape == image.shape else torch.full((len(image),), torch.nan)

    return images_told(images, error)


def from_mean(images: Images, trained: Images) -> Floats:
    """(N,) mean squared differences between images and the mean of the training images."""
    mean = sum(batch.double().sum(0) for batch in trained.batches()) / max(1, len(trained))
    return np.concatenate([((batch.double() - mean) ** 2).flatten(1).mean(1).cpu().numpy() for batch in images.batches()])
