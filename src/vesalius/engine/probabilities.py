"""Probabilities of a scan in a .npy file: half precision, (K, *S), never whole in memory; whatever computes them (without torch)."""

import math
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from vesalius.core.errors import UsageError
from vesalius.core.files import write_beside
from vesalius.core.space import Array
from vesalius.data.prepare import Prepared

T = TypeVar("T")
TOGETHER = 2**24  # probabilities that are held at once on the way to their file
LEAST = np.float32(2**-14)  # that half precision has all its bits for; below they are multiples of 2**-24


class Probabilities:
    """A .npy file (K, *S) of float16 that is filled in any order; pages leave the memory of the process as they are written."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape = path, shape
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape).flush()
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a signal in the middle of a mapped page
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)

    def rows(self, axis: int) -> int:
        """How many rows along an axis of the scan are worth having at once, of every class."""
        return max(1, TOGETHER * self.shape[1 + axis] // math.prod(self.shape))

    def write(self, values: Array, place: tuple[slice, ...]) -> None:
        """`values` are what belongs in `place`, a slice for the classes and for each axis of the scan."""
        size = math.prod(self.shape) * 2
        with open(self.path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            array = np.ndarray(self.shape, np.float16, memory, offset=len(memory) - size)
            array[place] = halved(values) if values.dtype == np.float32 else values
            del array


def halved(values: Array) -> Array:
    """Probabilities (K, *S) as float16, as numpy rounds them. Those for which it has few bits left are made of whole numbers: numpy takes a
    fifth of a microsecond for each."""
    out = np.empty(values.shape, np.float16)
    for half, value in zip(out, values, strict=True):
        few = value < LEAST
        half[...] = np.where(few, np.float32(0), value)
        np.copyto(half.view(np.uint16), np.rint(np.minimum(value, LEAST) * 2**24).astype(np.uint16), where=few)
    return out


def filled(path: Path | None, work: Callable[[Path | None], T]) -> T:
    """What `work` gives. The file that it fills meanwhile, if one is wanted, stands at `path` once all is done, and not before."""
    if path is None:
        return work(None)
    given: list[T] = []
    write_beside(_npy(path), lambda beside: given.append(work(beside)))
    return given[0]


@contextmanager
def on_scan(path: Path | None, prepared: Prepared, *, exclusive: bool) -> Iterator[Path | None]:
    """Where probabilities on the grid of `prepared.native` are to be put, if any are wanted; on the scan's own grid they stand at `path`
    once all has ended well. Beyond the crop there is background."""
    if path is None:
        yield None
        return
    native = path.with_name(f".{os.getpid()}.native.{_npy(path).name}")
    try:
        yield native
        write_beside(path, lambda beside: _restore(native, beside, prepared, exclusive=exclusive))
    finally:
        native.unlink(missing_ok=True)


def _npy(path: Path) -> Path:
    if path.suffix != ".npy":
        raise UsageError(f"Probabilities are written as .npy; got {path}.")
    return path


def _restore(native: Path, out: Path, prepared: Prepared, *, exclusive: bool) -> None:
    """Class by class; what is read of one leaves the memory before the next."""

    def opened() -> Array:
        return np.asarray(np.load(native, mmap_mode="r", allow_pickle=False))

    file = Probabilities(out, (len(opened()), *prepared.full.shape))
    for number in range(file.shape[0]):
        values = prepared.restore(opened()[number : number + 1])
        if exclusive and number == 0:
            values[prepared.restore(np.ones((1, *prepared.native.shape), np.uint8)) == 0] = 1
        file.write(values, (slice(number, number + 1),))
