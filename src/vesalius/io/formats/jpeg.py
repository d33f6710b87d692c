"""JPEG, grey or RGB, 8 bit: photographs. Lossy: good for looking, wrong for masks, which it therefore refuses to write.

The EXIF orientation is applied, so that rows and columns are what a viewer shows.
"""

from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.card import Card
from vesalius.core.errors import FormatError
from vesalius.core.files import write_beside
from vesalius.io.formats import Format, Header
from vesalius.io.formats._picture import KINDS, flat, mode_of, pixels_of, place, place_text, rows_of, words_of
from vesalius.io.formats._values import storable
from vesalius.io.image import Image, Source

CARD = Card(
    entry="JPEG",
    title="JPEG",
    summary="JPEG photographs and renderings; lossy.",
    paper="ITU-T T.81, 1992",
    ndim=(2,),
    tags=(".jpg", ".jpeg"),
)

_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 swap rows and columns


class JPEG(Format):
    """Written with quality 95 and full colour resolution."""

    suffixes = CARD.tags
    lossless = False
    dtypes = ("uint8",)
    channels = (1, 3)

    def claims(self, path: Path) -> bool:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return file.read(3) == b"\xff\xd8\xff"

    def header(self, path: Path) -> Header:
        from PIL import Image as Pillow

        with Pillow.open(path, formats=["JPEG"]) as picture:
            mode = mode_of(picture, path)
            swapped = picture.getexif().get(_ORIENTATION, 1) >= 5
            shape = picture.size if swapped else picture.size[::-1]
            return Header(place(shape, _text(picture)), 3 if mode == "RGB" else 1, KINDS[mode], words_of(picture, mode))

    def read(self, path: Path) -> Image:
        from PIL import Image as Pillow
        from PIL import ImageOps

        with Pillow.open(path, formats=["JPEG"]) as picture:
            mode = mode_of(picture, path)
            words, text = words_of(picture, mode), _text(picture)
            array = pixels_of(ImageOps.exif_transpose(picture), mode)
        return Image(array, place(array.shape[1:], text), Source(str(path), "jpeg", words))

    def write(self, image: Image, path: Path) -> None:
        from PIL import Image as Pillow

        flat(image, path)
        array = storable(image.array, path, self.dtypes)
        if len(np.unique(array[:, ::4, ::4])) < 3:
            raise FormatError(f"{path.name} would blur this mask: JPEG is lossy. Write .png or .nii.gz.")
        picture = Pillow.fromarray(rows_of(array))
        comment = place_text(image.space)
        write_beside(path, lambda beside: picture.save(beside, "JPEG", quality=95, subsampling=0, comment=comment))


def _text(picture: Any) -> bytes | None:
    comment = picture.info.get("comment")
    return comment if isinstance(comment, bytes) else None
