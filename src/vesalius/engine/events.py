"""TensorBoard event files, written without TensorBoard: the curve of a run for people who look at runs there.

A file is a series of records (length, masked CRC-32C of it, data, masked CRC-32C of it: the TFRecord framing), each an
`Event` message of which four fields are written. The library itself takes seconds to import and pulls in a server; it
reads what is written here in the tests.
"""

import os
import struct
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from vesalius.core.errors import VesaliusError

POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reversed


class Events:
    """Appends scalars to `folder/events.out.tfevents.<time>.vesalius`; a record is written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"events.out.tfevents.{int(time.time())}.vesalius"
        self._append(_double(1, time.time()) + _bytes(3, b"brain.Event:2"))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One event with all `values` at `step`."""
        summary = b"".join(_bytes(1, _bytes(1, tag.encode()) + _float(2, value)) for tag, value in values.items())
        self._append(_double(1, time.time()) + _varint(2, step) + _bytes(5, summary))

    def _append(self, message: bytes) -> None:
        length = struct.pack("<Q", len(message))
        whole = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open(self.path, "ab") as file:
                file.write(length + _masked(length) + message + _masked(message))
        except OSError as problem:
            with suppress(OSError):  # a disk that is full takes back what it took
                os.truncate(self.path, whole)
            raise VesaliusError(f"Cannot write {self.path}: {problem.strerror}. Free some space.") from problem


def crc32c(data: bytes) -> int:
    """The CRC-32C checksum of `data` (RFC 3720, appendix B.4)."""
    total = 0xFFFFFFFF
    for byte in data:
        total = _table()[(total ^ byte) & 0xFF] ^ (total >> 8)
    return total ^ 0xFFFFFFFF


@cache
def _table() -> list[int]:
    entries = []
    for entry in range(256):
        for _ in range(8):
            entry = entry >> 1 ^ (POLYNOMIAL if entry & 1 else 0)
        entries.append(entry)
    return entries


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _varint(field: int, value: int) -> bytes:
    return _number(field << 3) + _number(value)


def _double(field: int, value: float) -> bytes:
    return _number(field << 3 | 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _number(field << 3 | 5) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _number(field << 3 | 2) + _number(len(value)) + value
