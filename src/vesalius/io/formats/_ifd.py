"""The directories of a TIFF file (TIFF 6.0 and BigTIFF): tags of every page, read with every offset checked."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vesalius.core.errors import FormatError
from vesalius.io.guard import REMEDY

_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I",
          16: "Q", 17: "q", 18: "Q"}  # fmt: skip
_SHORT = (258, 259, 262, 277, 284, 338, 339)  # tags that readers expect in 16 bits
_MOST_PAGES = 100_000


@dataclass(frozen=True)
class Page:
    """Tags of one page by number; values are tuples, text is bytes."""

    tags: dict[int, Any]
    order: str  # "<" or ">"

    def one(self, tag: int, default: int) -> int:
        """The first value of `tag`."""
        value = self.tags.get(tag)
        return int(value[0]) if value and not isinstance(value, bytes) else default

    def all(self, tag: int) -> tuple[int, ...]:
        """Every value of `tag`, empty where it is absent."""
        value = self.tags.get(tag, ())
        return tuple(int(v) for v in value)

    def text(self, tag: int) -> str:
        """`tag` as text up to its first zero byte."""
        value = self.tags.get(tag, b"")
        return value.split(b"\0")[0].decode("utf-8", "replace") if isinstance(value, bytes) else ""


def pages(path: Path) -> list[Page]:
    """Every page in order."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            raise FormatError(f"{path} does not begin as a TIFF file. {REMEDY}")
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        place = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0]
        found: list[Page] = []
        seen: set[int] = set()
        while place:
            if place in seen or place >= size or len(found) > _MOST_PAGES:
                raise FormatError(f"{path}: page {len(found) + 1} lies outside the file or in a circle. {REMEDY}")
            seen.add(place)
            page, place = _page(path, file, place, size=size, kind=order + ("Q" if big else "I"))
            found.append(page)
    return found


def _page(path: Path, file: BinaryIO, place: int, *, size: int, kind: str) -> tuple[Page, int]:
    """(tags of the page at `place`, place of the next)."""
    order, big = kind[0], kind[1] == "Q"
    width, entry = (8, 20) if big else (4, 12)
    file.seek(place)
    (count,) = struct.unpack(order + ("Q" if big else "H"), _read(path, file, 8 if big else 2))
    if count * entry > size:
        raise FormatError(f"{path} declares {count} tags on one page. {REMEDY}")
    raw = _read(path, file, count * entry + width)
    tags: dict[int, Any] = {}
    for number in range(count):
        tag, code = struct.unpack_from(order + "HH", raw, number * entry)
        (length,) = struct.unpack_from(kind, raw, number * entry + 4)
        letters = _TYPES.get(code)
        if letters is None:
            continue
        step = struct.calcsize("=" + letters)
        if step * length > size:
            raise FormatError(f"{path} declares {length:,} values of tag {tag}. {REMEDY}")
        body = raw[number * entry + 4 + width : number * entry + 4 + 2 * width]
        if step * length > width:
            file.seek(struct.unpack(kind, body)[0])
            body = _read(path, file, step * length)
        body = body[: step * length]
        tags[tag] = body if letters == "s" else struct.unpack(f"{order}{length * len(letters)}{letters[0]}", body)
    return Page(tags, order), int(struct.unpack(kind, raw[-width:])[0])


def _read(path: Path, file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise FormatError(f"{path} ends inside a page. {REMEDY}")
    return data


def packed(tags: dict[int, Any], place: int, following: bool) -> bytes:
    """One classic little-endian directory at `place` of the file, its longer values behind it; `following` says whether another
    directory comes right after. Values are bytes (text) or tuples of integers."""
    entries, tail = [], b""
    start = place + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        value = tags[tag]
        code = 2 if isinstance(value, bytes) else 3 if tag in _SHORT else 4
        body = value if isinstance(value, bytes) else struct.pack(f"<{len(value)}{'H' if code == 3 else 'I'}", *value)
        if len(body) <= 4:
            inline = body.ljust(4, b"\0")
        else:
            inline = struct.pack("<I", start + len(tail))
            tail += body + b"\0" * (len(body) % 2)
        entries.append(struct.pack("<HHI", tag, code, len(value)) + inline)
    end = start + len(tail)
    return struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", end if following else 0) + tail
