"""A case: an id, a patient, images by channel, masks by rater, and metadata. Lazy: paths, no pixels."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """`images` maps channel name -> path (a file, a DICOM folder or a zip); a missing channel is absent from the map.
    `masks` maps rater -> path; the first is the reference. `split` is "train", "val", "test" or "" (not given).
    `patient` groups cases that must never be on two sides of a split."""

    name: str
    patient: str
    images: dict[str, Path]
    masks: dict[str, Path] = field(default_factory=dict)
    split: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def mask(self) -> Path | None:
        """The reference rater's mask."""
        return next(iter(self.masks.values()), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "patient": self.patient, "images": {k: str(v) for k, v in self.images.items()},
            "masks": {k: str(v) for k, v in self.masks.items()}, "split": self.split, "metadata": self.metadata,
        }  # fmt: skip

    @classmethod
    def from_json(cls, text: dict[str, Any]) -> "Case":
        return cls(**{**text, "images": {k: Path(v) for k, v in text["images"].items()},
                      "masks": {k: Path(v) for k, v in text["masks"].items()}})  # fmt: skip
