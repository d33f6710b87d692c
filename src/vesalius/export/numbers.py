"""Two kinds of numbers in maps: float32, and bf16, which numpy does not know: its 16 bits are kept as uint16."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vesalius.core.space import Array

Singles = NDArray[np.float32]
Halves = NDArray[np.uint16]
LINE = 64  # bytes: of a line of the cache, and of the widest register


def halves(array: Singles) -> Halves:
    """`array` rounded to bf16, to the nearest and halfway to even; what is no number stays none."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def singles(array: Array) -> Singles:
    """A map as float32: of bf16 every value exactly."""
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else np.asarray(array, np.float32)


def alike(array: Singles, map_: Array) -> Array:
    """`array` in the kind of numbers of `map_`."""
    return halves(array) if map_.dtype == np.uint16 else array


def room(shape: Sequence[int], kind: DTypeLike) -> NDArray[Any]:
    """An array of any values that begins where a line of the cache does, as kernels want it."""
    size = prod(shape) * np.dtype(kind).itemsize
    memory = np.empty(size + LINE, np.uint8)
    first = -memory.ctypes.data % LINE
    return memory[first : first + size].view(kind).reshape(shape)


def whole(x: Array) -> Array:
    """`x` in memory of its own, channels together, as kernels want it; itself where it is that already."""
    if x.flags.c_contiguous and x.ctypes.data % LINE == 0:
        return x
    out = room(x.shape, x.dtype)
    out[...] = x
    return out
