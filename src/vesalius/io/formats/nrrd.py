"""NRRD, attached (.nrrd) or detached (.nhdr with .raw): raw, gzip, bzip2, ascii and hex encodings; written with gzip.

The format is that of Teem (teem.sourceforge.net/nrrd/format.html). A list axis becomes channels; `space` says
whether the world is RAS or LPS. Without a space the axes lie in voxels of the given spacing.
"""

import bz2
import zlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from vesalius.core.card import Card
from vesalius.core.errors import FormatError
from vesalius.core.files import write_beside
from vesalius.core.space import Array, Space
from vesalius.io.formats import Format, Header
from vesalius.io.formats._values import storable, whole_of
from vesalius.io.guard import DEFLATE_RATIO, REMEDY, check_size
from vesalius.io.image import Image, Source

CARD = Card(
    entry="NRRD",
    title="NRRD",
    summary="Nearly raw raster data, as 3D Slicer writes it.",
    paper="Kindlmann, Teem: nrrd format, 2005",
    tags=(".nrrd", ".nhdr"),
)

_TYPES = {
    "int8": ("signed char", "int8", "int8_t"), "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"), "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "int64": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "uint64": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "float32": ("float",), "float64": ("double",),
}  # fmt: skip
_KIND = {name: np.dtype(kind) for kind, names in _TYPES.items() for name in names}
# Signs that bring the first two world axes of a space to right and anterior.
_WORLDS = {"ras": (1, 1), "las": (-1, 1), "lps": (-1, -1), "rps": (1, -1)}
_LONG = {"right": "r", "left": "l", "anterior": "a", "posterior": "p", "superior": "s"}
_LARGEST_HEADER = 1 << 20


@dataclass(frozen=True)
class _Parsed:
    fields: dict[str, str]
    data: Path
    offset: int
    dtype: np.dtype[Any]
    sizes: tuple[int, ...]
    channel_axis: int  # -1 where there is none
    space: Space
    words: dict[str, Any]

    @property
    def channels(self) -> int:
        return self.sizes[self.channel_axis] if self.channel_axis >= 0 else 1


class NRRD(Format):
    """Signed, unsigned and real pixels of 8 to 64 bits."""

    suffixes = CARD.tags
    dtypes = ("uint8", "int16", "uint16", "int32", "float32", "float64")

    def claims(self, path: Path) -> bool:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return file.read(7) == b"NRRD000"

    def header(self, path: Path) -> Header:
        parsed = _parse(path)
        return Header(parsed.space, parsed.channels, parsed.dtype.newbyteorder("=").name, parsed.words)

    def read(self, path: Path) -> Image:
        parsed = _parse(path)
        flat = _bytes(path, parsed).view(parsed.dtype)
        array = flat.astype(parsed.dtype.newbyteorder("="), copy=False).reshape(parsed.sizes[::-1]).T
        array = np.moveaxis(array, parsed.channel_axis, 0) if parsed.channel_axis >= 0 else array[None]
        if parsed.space.ndim == 2:
            array = array.swapaxes(1, 2)
        return Image(array, parsed.space, Source(str(path), "nrrd", parsed.words))

    def write(self, image: Image, path: Path) -> None:
        if path.name.lower().endswith(".nhdr"):
            raise FormatError(f"Detached headers are read, not written ({path}). Write .nrrd.")
        array = storable(image.array, path, tuple(_TYPES))
        write_beside(path, lambda beside: _store(beside, image.space, array))


def _parse(path: Path) -> _Parsed:
    fields, offset = _fields(path)
    dimension, kind = int(fields["dimension"]), fields["type"].lower()
    if kind not in _KIND:
        raise FormatError(f"{path} holds {kind}, which are not numbers. Convert it with the tool that made it.")
    sizes = tuple(int(word) for word in fields["sizes"].split())
    if len(sizes) != dimension or not 2 <= dimension <= 4 or min(sizes) < 1:
        raise FormatError(f"{path} has the sizes {sizes} for {dimension} axes; an image has two or three and one of channels. {REMEDY}")
    vectors = _vectors(path, fields, dimension)
    channel_axis = _channel_axis(path, fields, vectors)
    order: Literal["<", ">"] = ">" if fields.get("endian", "little").lower() == "big" else "<"
    words = {key: fields[key] for key in ("content",) if key in fields}
    space = _space(fields, sizes, vectors, channel_axis=channel_axis)
    data = _data_file(path, fields)
    return _Parsed(fields, data, offset if data == path else 0, _KIND[kind].newbyteorder(order), sizes, channel_axis, space, words)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """(lower-case fields, byte after the blank line that ends the header)."""
    with open(path, "rb") as file:
        head = file.read(_LARGEST_HEADER)
    ends = [(head.find(mark), len(mark)) for mark in (b"\n\n", b"\r\n\r\n") if mark in head]
    end, length = min(ends) if ends else (len(head), 0)
    fields: dict[str, str] = {}
    for line in head[:end].decode("latin-1").splitlines()[1:]:
        name, found, value = line.partition(":")
        if found and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
    missing = [name for name in ("dimension", "type", "sizes", "encoding") if name not in fields]
    if missing:
        raise FormatError(f"{path} does not state its {', '.join(missing)}. {REMEDY}")
    return fields, end + length


def _vectors(path: Path, fields: dict[str, str], dimension: int) -> list[list[float] | None]:
    """Direction vector of each axis, None where there is none."""
    if "space directions" not in fields:
        return [None] * dimension
    found: list[list[float] | None] = []
    for word in fields["space directions"].replace(") (", ")|(").replace("none ", "none|").replace(") none", ")|none").split("|"):
        found.append(None if word.strip() == "none" else [float(v) for v in word.strip().strip("()").split(",")])
    if len(found) != dimension:
        raise FormatError(f"{path} has {len(found)} space directions for {dimension} axes. {REMEDY}")
    return [None if vector and not np.isfinite(vector).all() else vector for vector in found]


def _channel_axis(path: Path, fields: dict[str, str], vectors: list[list[float] | None]) -> int:
    """The axis without a direction, or of a kind that is no domain; in four dimensions there must be one."""
    kinds = [word.lower() for word in fields.get("kinds", "").split()] or ["?"] * len(vectors)
    spatial = [vector is not None or kind in ("domain", "space") for vector, kind in zip(vectors, kinds, strict=True)]
    if len(vectors) == 2 or (len(vectors) == 3 and not any(spatial) and kinds == ["?"] * 3):
        return -1
    rest = [axis for axis, is_spatial in enumerate(spatial) if not is_spatial]
    if len(rest) > 1 or (len(vectors) == 4 and len(rest) != 1):
        raise FormatError(f"{path} has {len(vectors)} axes and {len(rest)} of them without a place in space. State which in 'kinds'.")
    return rest[0] if rest else -1


def _space(fields: dict[str, str], sizes: tuple[int, ...], vectors: list[list[float] | None], *, channel_axis: int) -> Space:
    """RAS+ affine over the spatial axes; in 2D rows are the second axis."""
    axes = [axis for axis in range(len(sizes)) if axis != channel_axis]
    n = len(axes)
    shape = tuple(sizes[axis] for axis in axes)
    affine = np.eye(n + 1)
    placed = all(vectors[axis] is not None and len(vectors[axis] or []) == n for axis in axes)
    if placed:
        affine[:n, :n] = np.array([vectors[axis] for axis in axes]).T
        origin = fields.get("space origin", "").strip("()")
        affine[:n, n] = [float(v) for v in origin.split(",")] if origin else 0
    else:
        spacings = [float(word) for word in fields.get("spacings", "").split()]
        affine[:n, :n] = np.diag([spacings[axis] if spacings and np.isfinite(spacings[axis]) else 1.0 for axis in axes])
    if n == 2:
        flip = [1, 0, 2]
        return Space(shape[::-1], affine[np.ix_(flip, flip)], physical=placed or "spacings" in fields)
    world = fields.get("space", "").lower()
    letters = "".join(_LONG.get(word, "") for word in world.split("-")[:3]) or world[:3]
    signs = _WORLDS.get(letters, (1, 1))
    affine[0] *= signs[0]
    affine[1] *= signs[1]
    return Space(shape, affine, physical=placed or "spacings" in fields)


def _data_file(path: Path, fields: dict[str, str]) -> Path:
    name = fields.get("data file", fields.get("datafile", ""))
    if not name:
        return path
    if name.upper().startswith("LIST") or "%" in name:
        raise FormatError(f"{path} spreads its pixels over many files, which is not read. Save it as one .nrrd.")
    data = path.parent / name
    if data.resolve().parent != path.resolve().parent and not data.resolve().is_relative_to(path.resolve().parent):
        raise FormatError(f"{path} points to {name}, outside its own folder: refused. Put the pixels beside it.")
    return data


def _bytes(path: Path, parsed: _Parsed) -> Array:
    """The pixels, inflated, checked in length, writable."""
    needed = int(np.prod(parsed.sizes, dtype=object)) * parsed.dtype.itemsize
    encoding = parsed.fields["encoding"].lower()
    size = parsed.data.stat().st_size
    packed = encoding in ("gzip", "gz", "bzip2", "bz2")
    check_size(path, needed, (size - parsed.offset) * (DEFLATE_RATIO if encoding[0] == "g" else 45_000_000 if packed else 1))
    with open(parsed.data, "rb") as file:
        file.seek(parsed.offset)
        for _ in range(int(parsed.fields.get("line skip", parsed.fields.get("lineskip", 0)))):
            file.readline()
        skip = int(parsed.fields.get("byte skip", parsed.fields.get("byteskip", 0)))
        if skip > 0:
            file.seek(skip, 1)
        if skip == -1:
            file.seek(size - needed)
        raw = _inflated(path, file, encoding, needed=needed, dtype=parsed.dtype)
    return whole_of(raw, needed, path)


def _inflated(path: Path, file: BinaryIO, encoding: str, *, needed: int, dtype: np.dtype[Any]) -> bytes:
    if encoding in ("gzip", "gz"):
        isal: Any = import_module("isal.isal_zlib")
        return bytes(isal.decompressobj(31).decompress(file.read(), needed))
    if encoding in ("bzip2", "bz2"):
        return bz2.BZ2Decompressor().decompress(file.read(), needed)
    if encoding == "raw":
        return file.read(needed)
    if encoding in ("ascii", "text", "txt"):
        return np.array(file.read().split(), np.float64).astype(dtype).tobytes()
    if encoding == "hex":
        return bytes.fromhex(file.read().decode("ascii"))
    raise FormatError(f"{path} is encoded as {encoding!r}, which is not known. Save it as raw or gzip.")


def _store(beside: Path, space: Space, array: Array) -> None:
    """One list axis first (fastest) where there are several channels, then columns before rows as in every other tool."""
    many = len(array) > 1
    affine = space.affine
    if space.ndim == 2:
        affine = affine[np.ix_([1, 0, 2], [1, 0, 2])]
        pixels = array
    else:
        pixels = array.transpose(0, 3, 2, 1)
    pixels = np.moveaxis(pixels, 0, -1) if many else pixels[0]
    sizes = pixels.shape[::-1]
    n = space.ndim
    vectors = ["(" + ",".join(repr(float(v)) for v in affine[:n, axis]) + ")" for axis in range(n)]
    lines = ["NRRD0004", f"type: {_TYPES[array.dtype.name][-1]}", f"dimension: {len(sizes)}"]
    lines += ["space: right-anterior-superior"] if n == 3 else ["space dimension: 2"] if space.physical else []
    lines += [f"sizes: {' '.join(map(str, sizes))}", f"kinds: {'list ' * many}{' '.join(['domain'] * n)}"]
    if space.physical:
        origin = "(" + ",".join(repr(float(v)) for v in affine[:n, n]) + ")"
        lines += [f"space directions: {'none ' * many}{' '.join(vectors)}", f"space origin: {origin}"]
    lines += ["endian: little", "encoding: gzip", "", ""]
    packer = zlib.compressobj(4, zlib.DEFLATED, 31)
    body = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)).reshape(-1).view(np.uint8)
    with open(beside, "wb") as file:
        file.write("\n".join(lines).encode("latin-1"))
        file.write(packer.compress(body.data))
        file.write(packer.flush())
