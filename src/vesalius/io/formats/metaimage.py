"""MetaImage, one file (.mha) or a header with pixels beside (.mhd with .raw or .zraw), as ITK and elastix write it.

World coordinates are LPS and become RAS here. Channels vary fastest. In 2D the world is (right, down) in millimetres
and becomes (down, right). `ElementSpacing` and `TransformMatrix` hold one axis per row.
"""

import zlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

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
    entry="MetaImage",
    title="MetaImage",
    summary="MHA and MHD of the Insight Toolkit.",
    paper="Insight Software Consortium, MetaIO documentation",
    tags=(".mha", ".mhd"),
)

_TYPES = {
    "MET_CHAR": "int8", "MET_UCHAR": "uint8", "MET_SHORT": "int16", "MET_USHORT": "uint16", "MET_INT": "int32",
    "MET_UINT": "uint32", "MET_LONG": "int32", "MET_ULONG": "uint32", "MET_LONG_LONG": "int64", "MET_ULONG_LONG": "uint64",
    "MET_FLOAT": "float32", "MET_DOUBLE": "float64",
}  # fmt: skip
_NAMES = {kind: name for name, kind in reversed(_TYPES.items()) if name not in ("MET_LONG", "MET_ULONG")}
_LARGEST_HEADER = 1 << 16


@dataclass(frozen=True)
class _Parsed:
    fields: dict[str, str]
    data: Path
    offset: int
    dtype: np.dtype[Any]
    sizes: tuple[int, ...]
    channels: int
    time: int  # 1 unless a fourth axis holds time points
    space: Space


class MetaImage(Format):
    """A fourth axis becomes channels, as the channels of ITK's vector images do."""

    suffixes = CARD.tags
    dtypes = ("uint8", "int16", "uint16", "int32", "float32", "float64")

    def claims(self, path: Path) -> bool:
        if not path.is_file() or not path.name.lower().endswith(self.suffixes):
            return False
        with open(path, "rb") as file:
            return b"NDims" in file.read(4096)

    def header(self, path: Path) -> Header:
        parsed = _parse(path)
        return Header(parsed.space, parsed.channels * parsed.time, parsed.dtype.newbyteorder("=").name, {})

    def read(self, path: Path) -> Image:
        parsed = _parse(path)
        flat = _bytes(path, parsed).view(parsed.dtype)
        flat = flat.astype(parsed.dtype.newbyteorder("="), copy=False)
        spatial = parsed.sizes[: parsed.space.ndim][::-1]
        array = np.moveaxis(flat.reshape(parsed.time, *spatial, parsed.channels), -1, 1).reshape(-1, *spatial)
        array = array if len(spatial) == 2 else array.transpose(0, 3, 2, 1)
        return Image(array, parsed.space, Source(str(path), "metaimage", {}))

    def write(self, image: Image, path: Path) -> None:
        if path.name.lower().endswith(".mhd"):
            raise FormatError(f"A header beside its pixels is read, not written ({path}). Write .mha.")
        array = storable(image.array, path, tuple(_NAMES))
        write_beside(path, lambda beside: _store(beside, image.space, array))


def _parse(path: Path) -> _Parsed:
    fields, offset = _fields(path)
    kind = fields.get("ElementType", "")
    if kind not in _TYPES:
        raise FormatError(f"{path} holds {kind or 'pixels of no stated type'}, which is not known. Save it again as numbers.")
    sizes = tuple(int(word) for word in fields.get("DimSize", "").split())
    if len(sizes) not in (2, 3, 4) or len(sizes) != int(fields.get("NDims", 0)) or min(sizes) < 1:
        raise FormatError(f"{path} has the sizes {sizes}; an image has two or three axes, and one of time. {REMEDY}")
    big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")).lower() == "true"
    dtype = np.dtype(_TYPES[kind]).newbyteorder(">" if big else "<")
    name = fields["ElementDataFile"]
    data = path if name.upper() == "LOCAL" else path.parent / name
    if name.upper().startswith("LIST") or "%" in name:
        raise FormatError(f"{path} spreads its pixels over many files, which is not read. Save it as one .mha.")
    if not data.resolve().is_relative_to(path.resolve().parent):
        raise FormatError(f"{path} points to {name}, outside its own folder: refused. Put the pixels beside it.")
    channels, time = int(fields.get("ElementNumberOfChannels", 1)), sizes[3] if len(sizes) == 4 else 1
    return _Parsed(fields, data, offset if data == path else 0, dtype, sizes, channels, time, _space(fields, sizes))


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """(fields, byte after the header, which ends with the line ElementDataFile)."""
    fields: dict[str, str] = {}
    with open(path, "rb") as file:
        while file.tell() < _LARGEST_HEADER:
            name, found, value = file.readline(4096).decode("latin-1").partition("=")
            if not found:
                break
            fields[name.strip()] = value.strip()
            if name.strip() == "ElementDataFile":
                return fields, file.tell()
    raise FormatError(f"{path} has no ElementDataFile in its header. {REMEDY}")


def _space(fields: dict[str, str], sizes: tuple[int, ...]) -> Space:
    given = len(sizes)
    n = min(given, 3)

    def numbers(*names: str) -> list[float] | None:
        text = next((fields[name] for name in names if name in fields), None)
        return None if text is None else [float(word) for word in text.split()]

    spacing = numbers("ElementSpacing", "ElementSize")
    rows = numbers("TransformMatrix", "Rotation", "Orientation")
    origin = numbers("Offset", "Position", "Origin")
    direction = np.eye(given) if rows is None else np.asarray(rows).reshape(given, given).T
    affine = np.eye(n + 1)
    affine[:n, :n] = direction[:n, :n] * np.asarray([1.0] * given if spacing is None else spacing)[:n]
    affine[:n, n] = 0 if origin is None else origin[:n]
    if n == 2:
        return Space(sizes[1::-1], affine[np.ix_([1, 0, 2], [1, 0, 2])], physical=spacing is not None)
    affine[:2] *= -1
    return Space(sizes[:3], affine, physical=spacing is not None)


def _bytes(path: Path, parsed: _Parsed) -> Array:
    needed = int(np.prod(parsed.sizes, dtype=object)) * parsed.channels * parsed.dtype.itemsize
    packed = parsed.fields.get("CompressedData", "False").lower() == "true"
    size = parsed.data.stat().st_size - parsed.offset
    check_size(path, needed, size * DEFLATE_RATIO if packed else size)
    with open(parsed.data, "rb") as file:
        skip = int(parsed.fields.get("HeaderSize", 0))
        file.seek(parsed.offset + skip if skip >= 0 else parsed.data.stat().st_size - needed)
        raw = file.read() if packed else file.read(needed)
    if packed:
        isal: Any = import_module("isal.isal_zlib")
        raw = isal.decompressobj(15).decompress(raw, needed)
    return whole_of(raw, needed, path)


def _store(beside: Path, space: Space, array: Array) -> None:
    n = space.ndim
    affine = space.affine.copy()
    if n == 2:
        affine = affine[np.ix_([1, 0, 2], [1, 0, 2])]
    else:
        affine[:2] *= -1
    pixels = np.moveaxis(array if n == 2 else array.transpose(0, 3, 2, 1), 0, -1)
    spacing = np.linalg.norm(affine[:n, :n], axis=0)
    direction = affine[:n, :n] / spacing
    packed = zlib.compress(np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)).tobytes(), 4)

    def numbers(values: Any) -> str:
        return " ".join(repr(float(v)) for v in np.asarray(values).ravel())

    lines = ["ObjectType = Image", f"NDims = {n}", "BinaryData = True", "BinaryDataByteOrderMSB = False", "CompressedData = True"]
    lines += [f"CompressedDataSize = {len(packed)}", f"TransformMatrix = {numbers(direction.T)}", f"Offset = {numbers(affine[:n, n])}"]
    lines += [f"ElementSpacing = {numbers(spacing)}"] if space.physical else []
    lines += [f"DimSize = {' '.join(str(s) for s in pixels.shape[:-1][::-1])}"]
    lines += [f"ElementNumberOfChannels = {len(array)}"] if len(array) > 1 else []
    lines += [f"ElementType = {_NAMES[array.dtype.name]}", "ElementDataFile = LOCAL", ""]
    with open(beside, "wb") as file:
        file.write("\n".join(lines).encode("latin-1"))
        file.write(packed)
