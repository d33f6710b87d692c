"""What PNG, JPEG and TIFF share: two axes of rows and columns, grey or colour, and a place written as a line of JSON.

Pictures state no size in millimetres that can be believed (a "dpi" is that of a screen), so that their space is in
pixels, unless vesalius wrote its own affine beside.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import FormatError
from vesalius.core.space import Array, Space
from vesalius.io.image import Image

MARK = "vesalius:"  # begins the text field that holds the affine
GREY = {"1": "L", "L": "L", "LA": "L", "La": "L", "I;16": "I;16", "I;16B": "I;16", "I;16L": "I;16", "I": "I", "F": "F"}
KINDS = {"L": "uint8", "I;16": "uint16", "I": "int32", "F": "float32", "RGB": "uint8"}


def mode_of(picture: Any, path: Path) -> str:
    """Pillow mode in which `picture` is read: grey where it is grey, RGB for every other colour model."""
    if picture.mode in GREY:
        return GREY[picture.mode]
    if picture.mode == "P":
        return "L" if _grey_palette(picture) else "RGB"
    if picture.mode in ("RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "PA"):
        return "RGB"
    raise FormatError(f"{path} has pixels of kind {picture.mode!r}, which is not known. Convert it to PNG, grey or RGB.")


def _grey_palette(picture: Any) -> bool:
    table = np.asarray(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    return bool((table == table[:, :1]).all())


def words_of(picture: Any, mode: str) -> dict[str, Any]:
    """What is said of the picture: alpha left out, and the palette so that colours can be taken back to indices."""
    words: dict[str, Any] = {}
    if picture.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in picture.info:
        words["notes"] = ["The alpha channel is left out."]
    if picture.mode == "P" and mode == "RGB":
        table = np.asarray(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        words["palette"] = table.tolist()
    return words


def pixels_of(picture: Any, mode: str) -> Array:
    """(C, rows, columns) of a Pillow picture."""
    array = np.array(picture if picture.mode == mode else picture.convert(mode))
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def rows_of(array: Array) -> Array:
    """(rows, columns) for one channel, (rows, columns, 3) for colour, as Pillow takes them."""
    return np.ascontiguousarray(array[0] if len(array) == 1 else np.moveaxis(array, 0, -1))


def place(shape: Sequence[int], text: str | bytes | None) -> Space:
    """The space of (rows, columns), from the text field where vesalius wrote it."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if text and text.startswith(MARK):
        told = json.loads(text[len(MARK) :].rstrip("\0"))
        return Space(tuple(shape), np.asarray(told["affine"], float), bool(told["physical"]))
    return Space.of(shape, physical=False)


def place_text(space: Space) -> str:
    """The text field for `space`; empty for plain pixels, which need none."""
    if not space.physical and np.array_equal(space.affine, np.eye(space.ndim + 1)):
        return ""
    return MARK + json.dumps({"affine": space.affine.tolist(), "physical": space.physical})


def flat(image: Image, path: Path) -> None:
    """Refuse what a picture cannot hold."""
    if image.space.ndim != 2:
        raise FormatError(f"{path.name} holds pictures of two axes; this image has {image.space.shape}. Write .nii.gz, or cut a slice.")
    if image.channels not in (1, 3):
        raise FormatError(f"{path.name} holds 1 channel (grey) or 3 (RGB); this image has {image.channels}. Write .nii.gz or .npz.")
