"""File formats, one per file: each reads and writes one kind of file, and passes the round trip with oblique affines."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vesalius.core.shelf import Shelf
from vesalius.core.space import Space
from vesalius.io.image import Image

FORMATS = Shelf("io.formats")


@dataclass(frozen=True)
class Header:
    """What a file says of itself without its pixels being read."""

    space: Space
    channels: int
    dtype: str
    words: dict[str, Any] = field(default_factory=dict)


class Format(ABC):
    """One kind of file. Problems are FormatErrors that name the file, the cause and the remedy.

    `suffixes` are repeated as `tags` on the card, where they are found without importing. `dtypes` are the kinds of
    pixels that survive the round trip, `channels` the numbers of them (empty for any), exactly where `lossless`.
    """

    suffixes: tuple[str, ...] = ()
    writable: bool = True
    lossless: bool = True
    dtypes: tuple[str, ...] = ("uint8", "int16", "float32")
    channels: tuple[int, ...] = ()

    @abstractmethod
    def claims(self, path: Path) -> bool:
        """Whether this format should read `path` (by suffix, and by magic bytes or folder content where names lie)."""

    @abstractmethod
    def header(self, path: Path) -> Header:
        """Shape, geometry and words, without reading pixels where the format allows."""

    @abstractmethod
    def read(self, path: Path) -> Image:
        """Pixels in real units (slope and intercept applied), RAS+ affine."""

    def write(self, image: Image, path: Path) -> None:
        """Write beside, then rename."""
        raise NotImplementedError
