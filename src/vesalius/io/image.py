"""An image: pixels `(C, *S)`, the space that they lie in, and where they came from."""

from dataclasses import dataclass, field, replace
from typing import Any

from vesalius.core.errors import GeometryError
from vesalius.core.order import contiguous
from vesalius.core.space import Array, Space

MADE = "made"  # the format of an image that no file held: its `description` is written into the file, so that nobody takes it for a scan


@dataclass(frozen=True)
class Source:
    """Where an image came from: the `path` given, the `format` that read it (name on the shelf), and header words
    (`modality`, `patient`, `series`, `description` ... as far as the file states them, plus what the format needs to
    write the same header again under `header`)."""

    path: str = ""
    format: str = ""
    words: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Image:
    """`array` is (C, *S) with S = `space.shape`; C counts channels (3 for RGB) or time points, 1 for most scans."""

    array: Array
    space: Space
    source: Source = Source()

    def __post_init__(self) -> None:
        if self.array.shape[1:] != self.space.shape:
            raise GeometryError(f"Pixels of shape (C, *{self.array.shape[1:]}) do not fit a space of {self.space.shape}.")

    @property
    def channels(self) -> int:
        return int(self.array.shape[0])

    def with_array(self, array: Array) -> "Image":
        """The same place and source with other pixels (C', *S)."""
        return replace(self, array=array)

    def canonical(self) -> "Image":
        """Axes re-ordered and flipped (lossless) to lie closest to RAS+."""
        turn = self.space.canonical_turn()
        return replace(self, array=contiguous(turn.apply(self.array)), space=self.space.turned(turn))
