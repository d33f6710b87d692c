"""Finding what is strange: learn from normal images alone, and say of others how unlike them they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vesalius.core.card import Card
from vesalius.tasks import Images, ImageTask, Judged, Learned

CARD = Card(entry="Anomaly", title="Anomaly detection", summary="Learn from normal images alone and find what is unlike them.",
            tasks=("anomaly",))  # fmt: skip


class Anomaly(ImageTask):
    """Scores of images, and where they come from."""

    leading = ("strangeness",)
    serves = ("anomaly", "pretrain")
    method = "autoencoder"

    def definitions(self, unit: str) -> dict[str, str]:
        return {"strangeness": "What the method says of an image; only differences mean something."}

    def judge(self, method: Learned, seen: Images, *, trained: Images, calibration: Mapping[str, Any], folder: Path) -> Judged:
        scores = seen.told(method.score)
        return Judged({"model": [{"case": case.name, "patient": case.patient, "label": "all", "strangeness": float(score)}
                                 for case, score in zip(seen.cases, scores, strict=True)]})  # fmt: skip
