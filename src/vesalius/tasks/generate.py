"""Making images of the user's own domain: a model that draws new ones, judged beside real ones that it has not seen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vesalius.core.card import Card
from vesalius.tasks import Images, ImageTask, Index, Judged, Learned, Table

CARD = Card(entry="Generate", title="Image generation", summary="Learn to make images like those of a data set.", tasks=("generate",))
MOST = 256  # images that are made to be judged


@runtime_checkable
class Maker(Protocol):
    """A method that makes images."""

    def samples(self, number: int, *, seed: int = 0) -> Tensor:
        """(number, C, *S)."""


class Generate(ImageTask):
    """Rows are images of the part; the nearest made image of each says how much of what is real is covered."""

    leading = ("distance",)
    serves = ("synthesise", "generate")
    method = "dcgan"

    def definitions(self, unit: str) -> dict[str, str]:
        return {"distance": "Mean squared difference between a real image, scaled to 0..1, and the nearest of the images beside it."}

    def look(self, method: Learned, images: Images) -> float | None:
        """None: no number during training says how good made images are."""
        return None

    def judge(self, method: Learned, seen: Images, *, trained: Images, calibration: Mapping[str, Any], folder: Path) -> Judged:
        made = np.concatenate([part.cpu().numpy() for part in [cast(Maker, method).samples(min(MOST, max(2, len(seen))))]])
        mean = np.mean([np.asarray(one, np.float32) for one in trained.pixels], 0)[None]
        found = {"model": nearest(seen, made), "baseline": nearest(seen, mean)}
        rows = {who: [{"case": case.name, "patient": case.patient, "label": "all", "distance": float(one)}
                      for case, one in zip(seen.cases, values, strict=True)] for who, values in found.items()}  # fmt: skip

        def measure(who: str, index: Index) -> Table:
            return {"all": {"distance": float(found[who][index].mean())}}

        return Judged(rows, measure)


def nearest(images: Images, made: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N,) mean squared differences between images and the nearest of those `made` (M, C, *S)."""
    flat = made.reshape(len(made), -1).astype(np.float64)
    parts = []
    for batch in images.batches():
        real = batch.flatten(1).double().cpu().numpy()
        squares = (real**2).sum(1)[:, None] - 2 * real @ flat.T + (flat**2).sum(1)[None]
        parts.append(squares.clip(0).min(1) / flat.shape[1])
    return np.concatenate(parts)
