"""PNG with 16-bit colour, in numpy: the five filters of the W3C recommendation (section 9), undone along anti-diagonals.

A filtered byte depends on its neighbours to the left, above, and above left. All bytes on one anti-diagonal are
independent of each other, so that an image of H x W takes H + W vector steps rather than H x W scalar ones.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vesalius.core.errors import FormatError
from vesalius.core.space import Array

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read(path: Path) -> Array:
    """(3 or 4, rows, columns) uint16 of a PNG of colour type 2 or 6 and depth 16, not interlaced."""
    chunks = list(_chunks(path))
    width, height, _, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if interlaced:
        raise FormatError(f"{path} is an interlaced PNG of 16-bit colour, which is not read. Save it again without interlacing.")
    step = {2: 6, 6: 8}[colour]
    need = height * (1 + width * step)
    raw = zlib.decompressobj().decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"), need)
    if len(raw) < need:
        raise FormatError(f"{path} ends after {len(raw):,} of {need:,} bytes of pixels. Copy it again from where it came.")
    lines = np.frombuffer(raw, np.uint8).reshape(height, 1 + width * step)
    values = unfilter(lines[:, 0], lines[:, 1:].reshape(height, width, step))
    return np.moveaxis(values.view(">u2").astype(np.uint16), -1, 0)


def write(array: Array, path: Path, texts: dict[str, str]) -> None:
    """`array` (3, rows, columns) uint16; every row is filtered by the row above (filter 2)."""
    _, height, width = array.shape
    rows = np.ascontiguousarray(np.moveaxis(array, 0, -1).astype(">u2")).view(np.uint8).reshape(height, -1)
    lines = np.empty((height, 1 + rows.shape[1]), np.uint8)
    lines[:, 0] = 2
    lines[0, 1:] = rows[0]
    lines[1:, 1:] = rows[1:] - rows[:-1]
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))]
    parts += [(b"tEXt", key.encode("latin-1") + b"\0" + text.encode("latin-1")) for key, text in texts.items()]
    parts += [(b"IDAT", zlib.compress(lines.tobytes(), 4)), (b"IEND", b"")]
    packed = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in parts)
    path.write_bytes(SIGNATURE + b"".join(packed))


def unfilter(filters: Array, lines: Array) -> Array:
    """Bytes (rows, columns, bytes per pixel) before filtering; `filters` (rows,) are the filter numbers 0 to 4."""
    height, width, step = lines.shape
    if filters.max(initial=0) > 4:
        raise FormatError("The PNG names a filter that does not exist: the file is damaged.")
    done = np.zeros((height + 1, width + 1, step), np.int16)  # one row and column of zeros above and to the left
    source = lines.astype(np.int16)
    for diagonal in range(height + width - 1):
        rows = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        columns = diagonal - rows
        left, above, corner = done[rows + 1, columns], done[rows, columns + 1], done[rows, columns]
        guess = np.choose(filters[rows][:, None], [0, left, above, (left + above) >> 1, _paeth(left, above, corner)])
        done[rows + 1, columns + 1] = (source[rows, columns] + guess) & 255
    return done[1:, 1:].astype(np.uint8)


def _paeth(left: Array, above: Array, corner: Array) -> Array:
    """The neighbour closest to left + above - corner; ties go to left, then above."""
    to_left, to_above, to_corner = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
    best = np.where(to_above <= to_corner, above, corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left, best)


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    data = path.read_bytes()
    place = len(SIGNATURE)
    while place + 8 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += 12 + length
