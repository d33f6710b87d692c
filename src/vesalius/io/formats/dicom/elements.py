"""The elements of a plain header, read without pydicom, whose generality takes a millisecond an object, as long as all of its pixels.

Plain is a part 10 file in implicit or explicit VR little endian through which one gets from element to element, up to the pixels, by
their lengths (PS3.5 sections 7.1 and 7.5). All else (other encodings, bytes that run out, an unknown VR), and every value that is
neither printable ASCII nor a number, is left to pydicom, so that what is odd or broken has one judge.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from struct import Struct, calcsize, error, unpack
from typing import Any, BinaryIO

PIXELS = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
UNDEFINED = 0xFFFFFFFF

_SYNTAX, _CHARACTERS, _ITEM, _ITEM_END, _SEQUENCE_END = 0x00020010, 0x00080005, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_CHUNKS = (1 << 14, 1 << 20)  # bytes in which the pixels should begin; a longer header is left to pydicom
_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())  # lengths of two bytes
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # of four, after two that are reserved
_WITH_VR, _WITHOUT, _LENGTH = Struct("<HH2sH"), Struct("<HHL"), Struct("<L")

_TEXT, _PRINTED = (b"LO", b"SH"), re.compile(rb"[ -~]*\0*")
_WORDS = {**dict.fromkeys((*_TEXT, b"AS", b"CS", b"DA", b"TM"), _PRINTED), b"UI": re.compile(rb"[\d.\\]*\0*")}
_ASCII = (b"", b"ISO_IR 6", b"ISO_IR 100", b"ISO_IR 192")  # character sets of which ASCII is a part, whatever stands before
_WRITTEN = {b"DS": (re.compile(rb"[-+.eE\d \\]+"), float), b"IS": (re.compile(rb"[-+\d \\]+"), int)}
_BINARY = {b"US": "<H", b"SS": "<h", b"UL": "<L", b"SL": "<l", b"FL": "<f", b"FD": "<d"}
_ODD = object()

Tags = Mapping[int, tuple[str, bytes]]  # of what is wanted: keyword, and VR where the file does not state it


class Unusual(Exception):
    """Left to pydicom."""


@dataclass(frozen=True)
class Elements:
    """What stands in a header, with `get` and `in` as pydicom's dataset has them; `raw` is keyword -> (VR, bytes)."""

    raw: Mapping[str, tuple[bytes, bytes]]
    syntax: str
    pixels: tuple[str, int, int]  # keyword of the pixel element, its first byte in the file and its length (-1, -1 if undefined)
    parsed: Callable[[], Any]

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.raw

    def get(self, keyword: str, default: Any = None) -> Any:
        if keyword not in self.raw:
            return default
        value = _value(*self.raw[keyword])
        return self.dataset.get(keyword, default) if value is _ODD else value

    @cached_property
    def dataset(self) -> Any:
        """All of it, as pydicom reads it."""
        return self.parsed()


def read(file: BinaryIO, tags: Tags, parsed: Callable[[], Any]) -> Elements | None:
    """What stands at `tags` in the header of `file`, from its first byte; None where the object is not plain."""
    for size in _CHUNKS:
        try:
            file.seek(0)
            content = file.read(size)
            return _header(content, tags, parsed)
        except error:  # the bytes ran out
            if len(content) < size:
                return None
        except (Unusual, OSError, RecursionError):  # the last where items nest without end
            return None
    return None


def _header(content: bytes, tags: Tags, parsed: Callable[[], Any]) -> Elements:
    syntax, at = _meta(content)
    raw: dict[str, tuple[bytes, bytes]] = {}
    ascii_text = True
    for tag, vr, first, length in _walk(content, at, explicit=syntax == EXPLICIT):
        if tag in PIXELS:
            where = (PIXELS[tag], -1, -1) if length == UNDEFINED else (PIXELS[tag], first, length)
            return Elements(raw if ascii_text else _without_text(raw), syntax, where, parsed)
        if tag < _CHARACTERS or tag >= _ITEM:
            raise Unusual
        if tag == _CHARACTERS:
            named = content[first : first + length]
            if not _PRINTED.fullmatch(named):
                raise Unusual
            ascii_text = named.rstrip(b" \0") in _ASCII
        elif tag in tags:
            keyword, usual = tags[tag]
            raw[keyword] = (vr or usual, b"" if length == UNDEFINED else content[first : first + length])
    raise Unusual


def _meta(content: bytes) -> tuple[str, int]:
    """(transfer syntax, where group 2 ends)."""
    if content[128:132] != b"DICM":
        raise Unusual
    syntax, end = "", 132
    for tag, _, first, length in _walk(content, end, explicit=True, group=2):
        syntax = content[first : first + length].rstrip(b" \0").decode("latin-1") if tag == _SYNTAX else syntax
        end = first + length
    if syntax not in (IMPLICIT, EXPLICIT):
        raise Unusual
    return syntax, end


def _walk(content: bytes, at: int, *, explicit: bool, group: int = 0) -> Iterator[tuple[int, bytes, int, int]]:
    """(tag, VR, first byte of the value, length) of one element after another, those of one `group` alone where it is given."""
    while True:
        of, element, vr, length = _WITH_VR.unpack_from(content, at)
        if group and of != group:
            return
        first = at + 8
        if of == 0xFFFE:  # the end of an item, which has no VR
            vr = b""
        elif not explicit:
            if vr.isalpha() and vr.isupper():  # it is explicit after all
                raise Unusual
            vr, (length,) = b"", _LENGTH.unpack_from(content, at + 4)
        elif vr in _LONG:
            (length,), first = _LENGTH.unpack_from(content, first), at + 12
        elif vr not in _SHORT:
            raise Unusual
        yield of << 16 | element, vr, first, length
        at = first + length if length != UNDEFINED else _past_sequence(content, first, explicit=explicit, vr=vr)


def _past_sequence(content: bytes, at: int, *, explicit: bool, vr: bytes) -> int:
    """Where a sequence of undefined length ends, whose items begin at `at`."""
    if explicit and vr != b"SQ":
        raise Unusual
    while True:
        group, element, length = _WITHOUT.unpack_from(content, at)
        at += 8
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise Unusual
        at = at + length if length != UNDEFINED else _past_item(content, at, explicit=explicit)


def _past_item(content: bytes, at: int, *, explicit: bool) -> int:
    for tag, _, first, _ in _walk(content, at, explicit=explicit):
        if tag == _ITEM_END:
            return first
        if tag in PIXELS or tag >= _ITEM:
            raise Unusual
    raise Unusual


def _without_text(raw: Mapping[str, tuple[bytes, bytes]]) -> dict[str, tuple[bytes, bytes]]:
    """Text whose characters pydicom has to decode."""
    return {keyword: (b"" if vr in _TEXT else vr, value) for keyword, (vr, value) in raw.items()}


def _value(vr: bytes, value: bytes) -> Any:
    """As pydicom gives it: text, a number, or a list of them; `_ODD` where that is not plain."""
    if vr in _WORDS:
        return _words(value, each=vr in _TEXT) if _WORDS[vr].fullmatch(value) else _ODD
    if vr not in _BINARY and vr not in _WRITTEN:
        return _ODD
    if not value:
        return None
    try:
        found = _numbers(vr, value)
    except (ValueError, error):
        return _ODD
    return found[0] if len(found) == 1 else found


def _numbers(vr: bytes, value: bytes) -> list[Any]:
    if vr in _BINARY:
        return list(unpack(f"<{len(value) // calcsize(_BINARY[vr])}{_BINARY[vr][1:]}", value))
    allowed, kind = _WRITTEN[vr]
    if not allowed.fullmatch(value):
        raise ValueError
    return list(map(kind, value.split(b"\\")))


def _words(value: bytes, *, each: bool) -> str | list[str]:
    """Padding is taken from the end of every text, of a list of codes from its own end alone."""
    found = value.decode("ascii").rstrip(" \0").split("\\")
    return found[0] if len(found) == 1 else [text.rstrip(" \0") if each else text for text in found]
