"""TIFF: grey, RGB, any number of samples, 8 to 64 bits, whole and real, stacks of pages; strips and tiles.

Uncompressed and deflated pixels are read here, because Pillow cuts 16-bit colour down; other compressions go
through Pillow. Several pages are a volume, index (column, row, page); ImageJ and OME-TIFF say which pages are channels.
TIFF 6.0, Adobe 1992.
"""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.card import Card
from vesalius.core.errors import FormatError
from vesalius.core.files import write_beside
from vesalius.core.space import Array, Space
from vesalius.io.formats import Format, Header
from vesalius.io.formats._ifd import Page, packed, pages
from vesalius.io.formats._picture import MARK, place, place_text
from vesalius.io.formats._values import storable
from vesalius.io.guard import DEFLATE_RATIO, REMEDY, check_size
from vesalius.io.image import Image, Source

CARD = Card(
    entry="TIFF",
    title="TIFF",
    summary="TIFF pictures and stacks, of ImageJ and OME too.",
    paper="Adobe, TIFF 6.0, 1992",
    tags=(".tif", ".tiff", ".ome.tif", ".ome.tiff"),
)

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, TEXT, OFFSETS, SAMPLES = 256, 257, 258, 259, 262, 270, 273, 277
STRIP_ROWS, COUNTS, PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 278, 279, 284, 317, 322, 323, 324, 325
EXTRA, FORMAT, REDUCED = 338, 339, 254
_DEFLATE = (8, 32946)
_MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "nm": 1e-6, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "\\u00b5m": 1e-3}


@dataclass(frozen=True)
class _Stack:
    """Pages of one size; `groups[c][z]` are those of channel c at height z."""

    pages: list[Page]
    groups: list[list[int]]
    dtype: np.dtype[Any]
    samples: int
    space: Space
    words: dict[str, Any]


class TIFF(Format):
    """Any kind of number; geometry is kept in the image description."""

    suffixes = CARD.tags
    dtypes = ("uint8", "int16", "uint16", "int32", "float32", "float64")

    def claims(self, path: Path) -> bool:
        if not path.is_file() or not path.name.lower().endswith((*self.suffixes, ".lsm", ".svs")):
            return False
        with open(path, "rb") as file:
            return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

    def header(self, path: Path) -> Header:
        stack = _stack(path)
        return Header(stack.space, len(stack.groups) * stack.samples, stack.dtype.name, stack.words)

    def read(self, path: Path) -> Image:
        stack = _stack(path)
        array = np.stack([np.stack([_pixels(path, stack, z) for z in group], 1) for group in stack.groups])
        array = array.reshape(-1, *array.shape[2:])  # (channels, pages, rows, columns)
        array = array[:, 0] if stack.space.ndim == 2 else array.transpose(0, 3, 2, 1)
        return Image(array, stack.space, Source(str(path), "tiff", stack.words))

    def write(self, image: Image, path: Path) -> None:
        array = storable(image.array, path, ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64"))
        if array.nbytes > 4_000_000_000:
            raise FormatError(f"{path.name} would grow beyond the 4 GB that TIFF can hold. Write .nii.gz.")
        layers = array[:, None] if image.space.ndim == 2 else array.transpose(0, 3, 2, 1)
        write_beside(path, lambda beside: _store(beside, layers, place_text(image.space)))


def _stack(path: Path) -> _Stack:
    """Pages of full size understood as one image."""
    every = pages(path)
    whole = [page for page in every if not page.one(REDUCED, 0) & 1] or every
    first = whole[0]
    sizes = {(page.one(WIDTH, 0), page.one(HEIGHT, 0), page.one(SAMPLES, 1), page.all(BITS)) for page in whole}
    if len(sizes) > 1:
        told = ", ".join(sorted(f"{w} x {h}" for w, h, _, _ in sizes))
        raise FormatError(f"{path} holds pages of unlike kinds ({told}): not one image. Split it into one file per image.")
    rows, columns = first.one(HEIGHT, 0), first.one(WIDTH, 0)
    dtype, samples, words = _kind(path, first)
    text = first.text(TEXT)
    groups, spacing = _order(path, text, len(whole))
    depth = len(groups[0])
    shape = (rows, columns) if depth == 1 and not _is_volume(text) else (columns, rows, depth)
    if text.startswith(MARK):
        space = place(shape, text)
    elif spacing:
        space = Space.of(shape, (spacing[1], spacing[0]) if len(shape) == 2 else spacing)
    else:
        space = Space.of(shape, physical=False)
    return _Stack(whole, groups, dtype, samples, space, words)


def _is_volume(text: str) -> bool:
    """Whether our own note has three axes (a volume of one slice)."""
    return text.startswith(MARK) and text.count("[") == 5


def _kind(path: Path, page: Page) -> tuple[np.dtype[Any], int, dict[str, Any]]:
    """(kind of number, samples that are kept, notes)."""
    bits, kinds = page.all(BITS) or (1,), page.all(FORMAT) or (1,)
    if len(set(bits)) > 1 or len(set(kinds)) > 1:
        raise FormatError(f"{path} has samples of unlike kinds ({bits} bits). Save it again with one kind.")
    if _by_pillow(page):
        colour = page.one(PHOTOMETRIC, 1) in (2, 3, 5, 6, 8)
        return np.dtype(np.uint16 if bits[0] == 16 and not colour else np.uint8), 3 if colour else 1, {}
    letter = {1: "u", 2: "i", 3: "f"}.get(kinds[0], "")
    if (letter, bits[0]) not in {("u", 8), ("u", 16), ("u", 32), ("i", 8), ("i", 16), ("i", 32), ("f", 16), ("f", 32), ("f", 64)}:
        raise FormatError(f"{path} has samples of {bits[0]} bits, kind {kinds[0]}, which are not read. Save it with 8, 16 or 32 bits.")
    samples = page.one(SAMPLES, 1)
    extra = sum(kind in (1, 2) for kind in page.all(EXTRA))
    kept = samples - extra
    return np.dtype(f"{letter}{bits[0] // 8}"), kept, {"notes": ["The alpha channel is left out."]} if extra else {}


def _by_pillow(page: Page) -> bool:
    """Compressions and colour models that are left to Pillow."""
    odd = page.one(COMPRESSION, 1) not in (1, *_DEFLATE) or page.one(PHOTOMETRIC, 1) not in (0, 1, 2)
    return odd or (page.all(BITS) or (1,))[0] < 8 or page.one(PREDICTOR, 1) not in (1, 2)


def _order(path: Path, text: str, count: int) -> tuple[list[list[int]], tuple[float, float, float] | None]:
    """(pages by channel and height, spacing in mm) as OME or ImageJ state them; otherwise every page is a height."""
    if "<OME" in text and "SizeZ" in text:
        found = {key: int(value) for key, value in re.findall(r'Size([ZCT])="(\d+)"', text)[:3]}
        dimensions = re.search(r'DimensionOrder="XY([ZCT]{3})"', text)
        order = dimensions[1] if dimensions else "ZCT"
        spacing = _ome_spacing(text)
    elif text.startswith("ImageJ="):
        stated = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        found = {"C": int(stated.get("channels", 1)), "Z": int(stated.get("slices", 1)), "T": int(stated.get("frames", 1))}
        order, spacing = "CZT", None
    else:
        return [list(range(count))], None
    samples = next((int(v) for v in re.findall(r'SamplesPerPixel="(\d+)"', text)), 1)
    found["C"] = max(1, found.get("C", 1) // samples)
    if found["Z"] * found["C"] * found["T"] != count:
        raise FormatError(f"{path} holds {count} pages and describes {found}. {REMEDY}")
    grid = np.arange(count).reshape([found[axis] for axis in reversed(order)])
    grid = grid.transpose([order[::-1].index(axis) for axis in "TCZ"]).reshape(-1, found["Z"])
    return [[int(page) for page in row] for row in grid], spacing


def _ome_spacing(text: str) -> tuple[float, float, float] | None:
    """(x, y, z) in millimetres; z is 1 where it is not stated."""
    found = {axis: float(value) for axis, value in re.findall(r'PhysicalSize([XYZ])="([0-9.eE+-]+)"', text)[:3]}
    units = dict(re.findall(r'PhysicalSize([XYZ])Unit="([^"]+)"', text)[:3])
    if "X" not in found or "Y" not in found:
        return None
    x, y, z = (found.get(axis, 1.0) * _MILLIMETRES.get(units.get(axis, "µm"), 1e-3) for axis in "XYZ")
    return x, y, z


def _pixels(path: Path, stack: _Stack, number: int) -> Array:
    """(samples, rows, columns) of one page."""
    page = stack.pages[number]
    if _by_pillow(page):
        return _foreign(path, stack, page)
    rows, columns, total = page.one(HEIGHT, 0), page.one(WIDTH, 0), page.one(SAMPLES, 1)
    tiled = TILE_OFFSETS in page.tags
    height = page.one(TILE_HEIGHT, 0) if tiled else min(page.one(STRIP_ROWS, rows), rows)
    width = page.one(TILE_WIDTH, 0) if tiled else columns
    offsets, counts = page.all(TILE_OFFSETS if tiled else OFFSETS), page.all(TILE_COUNTS if tiled else COUNTS)
    apart = page.one(PLANAR, 1) == 2
    planes, depth = (total, 1) if apart else (1, total)
    across, down = -(-columns // max(width, 1)), -(-rows // max(height, 1))
    if len(offsets) != planes * across * down or len(counts) != len(offsets):
        raise FormatError(f"{path} has {len(offsets)} strips or tiles where {planes * across * down} are needed. {REMEDY}")
    size = path.stat().st_size
    ratio = DEFLATE_RATIO if page.one(COMPRESSION, 1) in _DEFLATE else 1
    check_size(path, rows * columns * total * stack.dtype.itemsize, min(sum(counts), size) * ratio)
    out = np.zeros((total, rows, columns), stack.dtype)
    with open(path, "rb") as file:
        for index, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
            plane, spot = divmod(index, across * down)
            top, left = (spot // across) * height, (spot % across) * width
            file.seek(offset)
            lines = height if tiled else min(height, rows - top)
            part = _block(path, page, file.read(min(count, size)), shape=(lines, width, depth), dtype=stack.dtype)
            part = part[: rows - top, : columns - left]
            out[plane : plane + depth, top : top + part.shape[0], left : left + part.shape[1]] = np.moveaxis(part, -1, 0)
    if page.one(PHOTOMETRIC, 1) == 0 and stack.dtype.kind == "u":
        out = np.iinfo(stack.dtype).max - out  # white is zero
    return out[: stack.samples]


def _block(path: Path, page: Page, raw: bytes, *, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Array:
    """One strip or tile (rows, columns, samples), inflated, its horizontal differences summed."""
    needed = int(np.prod(shape)) * dtype.itemsize
    if page.one(COMPRESSION, 1) in _DEFLATE:
        raw = zlib.decompressobj().decompress(raw, needed)
    if len(raw) < needed:
        raise FormatError(f"{path} ends after {len(raw):,} of {needed:,} bytes of a strip. {REMEDY}")
    stored = dtype.newbyteorder("<" if page.order == "<" else ">")
    part = np.frombuffer(raw, stored, int(np.prod(shape))).reshape(shape).astype(dtype)
    return np.cumsum(part, axis=1, dtype=dtype) if page.one(PREDICTOR, 1) == 2 else part


def _foreign(path: Path, stack: _Stack, page: Page) -> Array:
    from PIL import Image as Pillow

    with Pillow.open(path, formats=["TIFF"]) as picture:
        offsets = page.tags.get(OFFSETS) or page.tags.get(TILE_OFFSETS)
        for number in range(getattr(picture, "n_frames", 1)):
            picture.seek(number)
            tags: Any = picture.tag_v2  # type: ignore[attr-defined]
            if tuple(np.ravel(tags.get(OFFSETS, tags.get(TILE_OFFSETS)))) == offsets:
                break
        if stack.dtype == np.uint16 and picture.mode not in ("I;16", "I;16B"):
            raise FormatError(f"{path} is compressed in a way that is not read for {picture.mode}. Save it with deflate or uncompressed.")
        array = np.asarray(picture if stack.dtype == np.uint16 else picture.convert("RGB" if stack.samples == 3 else "L"))
    array = array.astype(stack.dtype)
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def _store(beside: Path, layers: Array, text: str) -> None:
    """One deflated strip per page, samples side by side, directories at the end."""
    channels, depth, rows, columns = layers.shape
    kind = {"u": 1, "i": 2, "f": 3}[layers.dtype.kind]
    colour = channels == 3 and layers.dtype.kind == "u"
    tags = {WIDTH: (columns,), HEIGHT: (rows,), BITS: (8 * layers.dtype.itemsize,) * channels, COMPRESSION: (8,), SAMPLES: (channels,),
            PHOTOMETRIC: (2 if colour else 1,), STRIP_ROWS: (rows,), PLANAR: (1,), FORMAT: (kind,) * channels}  # fmt: skip
    if channels > 1 and not colour:
        tags[EXTRA] = (0,) * (channels - 1)
    spots = []
    with open(beside, "wb") as file:
        file.write(b"II*\0\0\0\0\0")
        for k in range(depth):
            body = np.ascontiguousarray(np.moveaxis(layers[:, k], 0, -1)).astype(layers.dtype.newbyteorder("<"), copy=False)
            strip = zlib.compress(body.tobytes(), 4)
            spots.append((file.tell(), len(strip)))
            file.write(strip + b"\0" * (len(strip) % 2))
        start = file.tell()
        for k, (offset, count) in enumerate(spots):
            own: dict[int, Any] = {**tags, OFFSETS: (offset,), COUNTS: (count,)}
            if text and k == 0:
                own[TEXT] = text.encode("utf-8") + b"\0"
            file.write(packed(own, file.tell(), k + 1 < depth))
        file.seek(4)
        file.write(start.to_bytes(4, "little"))
