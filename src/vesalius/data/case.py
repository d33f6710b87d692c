"""A case: an id, a patient, images by channel, masks by rater or classes, and metadata. Lazy: paths, no pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Parts:
    """A mask that lies in files of its labels, or in layers of one file: `files` maps label -> paths of masks whose pixels are 0 where the
    label is not (several together are the label), `layers` label -> channel of its file where it has several. A label without a file
    is absent."""

    files: dict[str, tuple[Path, ...]]
    layers: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file names, for messages."""
        shown = [path.name for path in files_of(self)]
        return " + ".join(shown[:3]) + (f" + {len(shown) - 3} more" if len(shown) > 3 else "")


Masked = Path | Parts  # where a mask lies: one file for all labels, or one for each


def files_of(mask: Masked | None) -> list[Path]:
    """The files of a mask; none of no mask."""
    if isinstance(mask, Parts):
        return list(dict.fromkeys(path for paths in mask.files.values() for path in paths))
    return [] if mask is None else [mask]


@dataclass(frozen=True)
class Case:
    """`images` maps channel name -> path (a file, a DICOM folder or a zip); a missing channel is absent from the map.
    `masks` maps rater -> path, or the paths of the labels; the first is the reference. `classes` maps a class or finding -> 1 or 0
    (one that is absent is unknown); None where the case as a whole is not labelled. `split` is "train", "val", "test" or "" (not
    given). `patient` groups cases that must never be on two sides of a split."""

    name: str
    patient: str
    images: dict[str, Path]
    masks: dict[str, Masked] = field(default_factory=dict)
    split: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, int] | None = None

    @property
    def mask(self) -> Masked | None:
        """The reference rater's mask."""
        return next(iter(self.masks.values()), None)

    @property
    def labelled(self) -> bool:
        """Whether there is something to be learned from it: a mask, or classes."""
        return self.mask is not None or self.classes is not None

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": self.name, "patient": self.patient, "images": {k: str(v) for k, v in self.images.items()},
            "masks": {k: _words(v) for k, v in self.masks.items()}, "split": self.split, "metadata": self.metadata,
        }  # fmt: skip
        return found if self.classes is None else {**found, "classes": self.classes}

    @classmethod
    def from_json(cls, text: dict[str, Any]) -> "Case":
        return cls(**{**text, "images": {k: Path(v) for k, v in text["images"].items()},
                      "masks": {k: _mask(v) for k, v in text["masks"].items()}})  # fmt: skip


class Listed:
    """Whatever holds `cases` in order: their names and patients."""

    cases: Sequence[Case]

    @property
    def names(self) -> list[str]:
        return [case.name for case in self.cases]

    @property
    def patients(self) -> list[str]:
        return [case.patient for case in self.cases]


def _words(mask: Masked) -> Any:
    """A path, or {label: [path, path ...]}, or {label: [path, layer]}."""
    if not isinstance(mask, Parts):
        return str(mask)
    return {label: [*map(str, paths), *([mask.layers[label]] if label in mask.layers else [])] for label, paths in mask.files.items()}


def _mask(words: str | Mapping[str, Any]) -> Masked:
    if isinstance(words, str):
        return Path(words)
    layers = {label: found[-1] for label, found in words.items() if isinstance(found[-1], int)}
    return Parts({label: tuple(Path(one) for one in found if isinstance(one, str)) for label, found in words.items()}, layers)
