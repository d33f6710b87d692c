"""A case: an id, a patient, images by channel, masks by rater or classes, and metadata. Lazy: paths, no pixels."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """`images` maps channel name -> path (a file, a DICOM folder or a zip); a missing channel is absent from the map.
    `masks` maps rater -> path; the first is the reference. `classes` maps a class or finding -> 1 or 0 (one that is absent is
    unknown); None where the case as a whole is not labelled. `split` is "train", "val", "test" or "" (not given).
    `patient` groups cases that must never be on two sides of a split."""

    name: str
    patient: str
    images: dict[str, Path]
    masks: dict[str, Path] = field(default_factory=dict)
    split: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, int] | None = None

    @property
    def mask(self) -> Path | None:
        """The reference rater's mask."""
        return next(iter(self.masks.values()), None)

    @property
    def labelled(self) -> bool:
        """Whether there is something to be learned from it: a mask, or classes."""
        return self.mask is not None or self.classes is not None

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": self.name, "patient": self.patient, "images": {k: str(v) for k, v in self.images.items()},
            "masks": {k: str(v) for k, v in self.masks.items()}, "split": self.split, "metadata": self.metadata,
        }  # fmt: skip
        return found if self.classes is None else {**found, "classes": self.classes}

    @classmethod
    def from_json(cls, text: dict[str, Any]) -> "Case":
        return cls(**{**text, "images": {k: Path(v) for k, v in text["images"].items()},
                      "masks": {k: Path(v) for k, v in text["masks"].items()}})  # fmt: skip
