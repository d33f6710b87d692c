"""PNG, grey or RGB, 8 or 16 bit, without loss.

Pillow reads it, except for 16-bit colour, which Pillow cuts down to 8 bits: `_png16.py` reads and writes that.
"""

from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.card import Card
from vesalius.core.files import write_beside
from vesalius.io.formats import Format, Header, _png16
from vesalius.io.formats._picture import KINDS, flat, mode_of, pixels_of, place, place_text, rows_of, words_of
from vesalius.io.formats._values import storable
from vesalius.io.guard import DEFLATE_RATIO, check_size
from vesalius.io.image import MADE, Image, Source

CARD = Card(
    entry="PNG",
    title="PNG",
    summary="PNG pictures and masks, 8 and 16 bit.",
    paper="W3C, Portable Network Graphics, third edition",
    ndim=(2,),
    tags=(".png",),
)

_KEY = "space"


class PNG(Format):
    """Signed pixels are written where none is negative; real numbers are refused."""

    suffixes = CARD.tags
    dtypes = ("uint8", "uint16")
    channels = (1, 3)

    def claims(self, path: Path) -> bool:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return file.read(8) == _png16.SIGNATURE

    def header(self, path: Path) -> Header:
        from PIL import Image as Pillow

        with Pillow.open(path, formats=["PNG"]) as picture:
            deep = _deep(picture, path)
            mode = mode_of(picture, path)
            kind = "uint16" if deep or mode == "I" else KINDS[mode]
            return Header(place(picture.size[::-1], _text(picture)), 3 if mode == "RGB" else 1, kind, words_of(picture, mode))

    def read(self, path: Path) -> Image:
        from PIL import Image as Pillow

        with Pillow.open(path, formats=["PNG"]) as picture:
            mode = mode_of(picture, path)
            words, deep = words_of(picture, mode), _deep(picture, path)
            array = _png16.read(path)[:3] if deep else pixels_of(picture, mode)
            space = place(array.shape[1:], _text(picture))
        return Image(array.astype(np.uint16) if array.dtype == np.int32 else array, space, Source(str(path), "png", words))

    def write(self, image: Image, path: Path) -> None:
        from PIL import Image as Pillow
        from PIL.PngImagePlugin import PngInfo

        flat(image, path)
        array = storable(image.array, path, self.dtypes)
        text = place_text(image.space)
        if array.dtype == np.uint16 and len(array) == 3:
            write_beside(path, lambda beside: _png16.write(array, beside, {_KEY: text} if text else {}))
            return
        notes = PngInfo()
        if image.source.format == MADE:
            notes.add_text("Description", str(image.source.words.get("description", "")))
        if text:
            notes.add_text(_KEY, text)
        picture = Pillow.fromarray(rows_of(array))
        write_beside(path, lambda beside: picture.save(beside, "PNG", pnginfo=notes, compress_level=3))


def _deep(picture: Any, path: Path) -> bool:
    """Whether the file holds 16-bit colour; and refuses sides that the length of the file cannot hold."""
    with open(path, "rb") as file:
        file.seek(24)
        depth, colour = file.read(2)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    check_size(path, picture.width * picture.height * bits // 8, path.stat().st_size * DEFLATE_RATIO)
    return depth == 16 and colour in (2, 6)


def _text(picture: Any) -> str | None:
    text = picture.info.get(_KEY)
    return text if isinstance(text, str) else None
