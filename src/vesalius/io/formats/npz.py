"""NumPy's .npz and .npy. Ours: keys `array` (C, *S), `affine`, `physical` and `words` (JSON); nothing is ever unpickled.

Of others' arrays: two axes are a grey picture, (rows, columns, 3 or 4) of uint8 is colour, three axes a volume, and four a volume
with channels first. `file.npz#key` chooses one of several arrays, `file.npz#key[12]` an image of a stack of them (images first;
the last few stacks that were asked for are kept unpacked in memory). Without an affine the space is in voxels.
"""

import json
import re
import zipfile
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, cast

import numpy as np

from vesalius.core.card import Card
from vesalius.core.errors import FormatError
from vesalius.core.files import write_beside
from vesalius.core.space import Array, Space
from vesalius.io.formats import Format, Header
from vesalius.io.guard import DEFLATE_RATIO, check_size
from vesalius.io.image import Image, Source

CARD = Card(
    entry="NumPy",
    title="NumPy",
    summary="Arrays of NumPy, .npz with geometry and .npy without.",
    paper="NumPy Enhancement Proposal 1, 2007",
    tags=(".npz", ".npy"),
)

ITEM = re.compile(r"(?P<key>.+)\[(?P<number>\d+)\]")
KEPT = 3  # stacks in memory: train, validation and test of a data set
UNPACKING = Lock()  # threads that want the same stack wait for the one that unpacks it


class NumPy(Format):
    """Any kind of number; .npy is written only where reading gives the same image back."""

    suffixes = CARD.tags
    dtypes = ("bool", "uint8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64", "complex64")

    def claims(self, path: Path) -> bool:
        file, _ = _place(path)
        return file.is_file() and file.name.lower().endswith(self.suffixes)

    def header(self, path: Path) -> Header:
        file, key = _place(path)
        if ITEM.fullmatch(key):
            found = self.read(path)
            return Header(found.space, found.channels, found.array.dtype.name, found.source.words)
        if file.name.lower().endswith(".npy"):
            with open(file, "rb") as stream:
                shape, dtype = _declared(file, stream, file.stat().st_size)
            channels, sides = _split(file, shape, dtype)
            return Header(Space.of(sides, physical=False), channels, dtype.name, {})
        with zipfile.ZipFile(file) as box:
            key = _choose(file, box, key)
            with box.open(key + ".npy") as stream:
                shape, dtype = _declared(file, cast(BinaryIO, stream), _inflated(file, box, key))
            if _ours(box, key):
                return Header(_told(file, box, shape), shape[0], dtype.name, _words(file, box))
        channels, sides = _split(file, shape, dtype)
        return Header(Space.of(sides, physical=False), channels, dtype.name, {"key": key})

    def read(self, path: Path) -> Image:
        file, key = _place(path)
        if item := ITEM.fullmatch(key):
            return _plain(path, _of_stack(file, item["key"], int(item["number"])), {"key": key})
        if file.name.lower().endswith(".npy"):
            return _plain(path, _array(file, file.read_bytes()), {})
        with zipfile.ZipFile(file) as box:
            key = _choose(file, box, key)
            array = _member(file, box, key)
            if _ours(box, key):
                return Image(array, _told(file, box, array.shape), Source(str(path), "npz", _words(file, box)))
        return _plain(path, array, {"key": key})

    def write(self, image: Image, path: Path) -> None:
        array = np.ascontiguousarray(image.array)
        if array.dtype.kind not in "biufc":
            raise FormatError(f"{path.name} holds numbers; these pixels are {array.dtype}. Make them numbers first.")
        if path.name.lower().endswith(".npy"):
            bare = _bare(image, path)
            write_beside(path, lambda beside: np.save(beside, bare, allow_pickle=False))
            return
        words = json.dumps(image.source.words if image.source.format == "npz" else {})
        parts = {"array": array, "affine": image.space.affine, "physical": np.array(image.space.physical), "words": np.array(words)}
        write_beside(path, lambda beside: np.savez(beside, allow_pickle=False, **parts))


def _place(path: Path) -> tuple[Path, str]:
    """(file, key) of `file.npz#key`."""
    if path.exists() or "#" not in path.name:
        return path, ""
    file, _, key = str(path).rpartition("#")
    return Path(file), key


def _of_stack(file: Path, key: str, number: int) -> Array:
    """Image `number` of the stack `key`: (rows, columns) or (rows, columns, 3), or (X, Y, Z)."""
    stat = file.stat()
    with UNPACKING:
        stack = _stack(file, key, (stat.st_mtime_ns, stat.st_size))
    if not number < len(stack):
        raise FormatError(f"{file}#{key} holds {len(stack)} images; there is no number {number}, counted from 0.")
    return np.asarray(stack[number])


@lru_cache(KEPT)
def _stack(file: Path, key: str, version: tuple[int, int]) -> Array:
    """All of a member, of the file as it was at `version`."""
    with zipfile.ZipFile(file) as box:
        return _member(file, box, _choose(file, box, key))


def _declared(path: Path, stream: BinaryIO, size: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """(shape, kind) from an .npy header, checked against `size`, the bytes that the stream holds."""
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    shape, _, dtype = npy.read_array_header_1_0(stream) if version == (1, 0) else npy.read_array_header_2_0(stream)
    if dtype.hasobject or dtype.kind not in "biufcU":
        raise FormatError(f"{path} holds {dtype} and not numbers: pickled objects are never loaded. Save a plain numeric array instead.")
    check_size(path, int(np.prod(shape, dtype=object)) * dtype.itemsize + stream.tell(), size)
    return tuple(int(side) for side in shape), dtype


def _array(path: Path, data: bytes) -> Array:
    _declared(path, BytesIO(data), len(data))
    array = np.lib.format.read_array(BytesIO(data), allow_pickle=False)
    return np.asarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def _inflated(path: Path, box: zipfile.ZipFile, key: str) -> int:
    """Length of a member in bytes, refused where no honest deflate stream of its size could hold it."""
    member = box.getinfo(key + ".npy")
    check_size(path, member.file_size, DEFLATE_RATIO * max(member.compress_size, 1))
    return member.file_size


def _member(path: Path, box: zipfile.ZipFile, key: str) -> Array:
    _inflated(path, box, key)
    return _array(path, box.read(key + ".npy"))


def _choose(path: Path, box: zipfile.ZipFile, key: str) -> str:
    """The key asked for, `array`, or the only one."""
    keys = [name.removesuffix(".npy") for name in box.namelist() if name.endswith(".npy")]
    if key in keys:
        return key
    if not key and "array" in keys:
        return "array"
    if not key and len(keys) == 1:
        return keys[0]
    held = ", ".join(keys) or "no arrays"
    raise FormatError(f"{path} holds {held}{f', not {key}' if key else ''}. Choose one: {path.name}#{keys[0] if keys else 'KEY'}.")


def _ours(box: zipfile.ZipFile, key: str) -> bool:
    return key == "array" and {"affine.npy", "physical.npy"} <= set(box.namelist())


def _told(path: Path, box: zipfile.ZipFile, shape: tuple[int, ...]) -> Space:
    return Space(shape[1:], _member(path, box, "affine"), bool(_member(path, box, "physical")))


def _words(path: Path, box: zipfile.ZipFile) -> dict[str, Any]:
    words = json.loads(str(_member(path, box, "words"))) if "words.npy" in box.namelist() else {}
    return words if isinstance(words, dict) else {}


def _split(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, tuple[int, ...]]:
    """(channels, sides) of an array whose meaning is nowhere written."""
    if _colour(shape, dtype):
        return shape[2], shape[:2]
    if len(shape) in (2, 3):
        return 1, shape
    if len(shape) == 4:
        return shape[0], shape[1:]
    raise FormatError(f"{path} holds an array of shape {shape}; an image has 2 or 3 axes, or 4 with channels first. Split it.")


def _colour(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return len(shape) == 3 and shape[2] in (3, 4) and dtype == np.uint8


def _plain(path: Path, array: Array, words: dict[str, Any]) -> Image:
    channels, sides = _split(path, array.shape, array.dtype)
    array = np.moveaxis(array, -1, 0) if _colour(array.shape, array.dtype) else array.reshape(channels, *sides)
    return Image(array, Space.of(sides, physical=False), Source(str(path), "npz", words))


def _bare(image: Image, path: Path) -> Array:
    """The array for .npy, which has no place for geometry or a channel axis that is not understood on reading."""
    n = image.space.ndim
    if image.space.physical or not np.array_equal(image.space.affine, np.eye(n + 1)):
        raise FormatError(f"{path.name} holds no geometry (this image has {image.space.spacing} {image.space.unit} voxels). Write .npz.")
    bare = image.array[0] if image.channels == 1 else image.array if n == 3 else np.moveaxis(image.array, 0, -1)
    channels, sides = _split(path, bare.shape, bare.dtype)
    if (channels, sides) != (image.channels, image.space.shape):
        raise FormatError(f"{path.name} could not be told from another shape on reading. Write .npz, which keeps channels apart.")
    return np.ascontiguousarray(bare)
