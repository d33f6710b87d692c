"""Stored numbers to real ones and back: byte order, slope and intercept, and kinds of pixels that files can hold."""

from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import FormatError
from vesalius.core.space import Array
from vesalius.io.guard import REMEDY

_SIGNED = (np.int16, np.int32)


def real_dtype(stored: np.dtype[Any], slope: float, intercept: float, *, bits: int | None = None) -> np.dtype[Any]:
    """Kind of slope * stored + intercept: unchanged for the identity, the smallest signed integer that holds every value
    of `bits` stored bits where both are whole, otherwise float32 (float64 for 32-bit integers and doubles)."""
    native = stored.newbyteorder("=")
    if native.itemsize > 8 and native.kind in "fc":
        native = np.dtype(np.complex128 if native.kind == "c" else np.float64)
    if slope == 1 and intercept == 0:
        return native
    if native.kind in "iu" and float(slope).is_integer() and float(intercept).is_integer():
        bits = bits or 8 * native.itemsize
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if native.kind == "i" else (0, (1 << bits) - 1)
        ends = sorted((low * slope + intercept, high * slope + intercept))
        for kind in _SIGNED:
            if np.iinfo(kind).min <= ends[0] and ends[1] <= np.iinfo(kind).max:
                return np.dtype(kind)
    if native.kind == "c":
        return native
    return np.dtype(np.float64 if native.itemsize > 4 or (native.kind in "iu" and native.itemsize == 4) else np.float32)


def to_real(array: Array, slope: float, intercept: float, *, bits: int | None = None) -> Array:
    """slope * array + intercept in native byte order, as `real_dtype` says; not copied where nothing changes."""
    kind = real_dtype(array.dtype, slope, intercept, bits=bits)
    if slope == 1 and intercept == 0:
        return array.astype(kind, copy=False)
    if kind.kind in "iu":
        whole = array.astype(kind)
        if slope != 1:
            whole *= kind.type(slope)
        if intercept != 0:
            whole += kind.type(intercept)
        return whole
    return np.asarray((array.astype(np.float64) * slope + intercept).astype(kind, copy=False))


def storable(array: Array, path: Path, allowed: tuple[str, ...]) -> Array:
    """`array` as the nearest kind in `allowed` that holds each of its values exactly; otherwise a FormatError."""
    name = array.dtype.newbyteorder("=").name
    if name in allowed:
        return array
    wider = {"bool": ("uint8",), "float16": ("float32", "float64"), "float32": ("float64",)}.get(name)
    for kind in wider or (allowed if array.dtype.kind in "iu" else ()):
        if kind in allowed and (wider or _fits(array, kind)):
            return array.astype(kind)
    held = ", ".join(allowed)
    raise FormatError(f"{path.name} cannot hold pixels of {name}; this format holds {held}. Write .nii.gz or .npz, or convert them.")


def _fits(array: Array, kind: str) -> bool:
    if np.dtype(kind).kind not in "iu":
        return False
    limits = np.iinfo(kind)
    return bool(array.size == 0 or (array.min() >= limits.min and array.max() <= limits.max))


def whole_of(raw: bytes, needed: int, path: Path) -> Array:
    """The first `needed` bytes of `raw`, writable; refused where there are fewer."""
    if len(raw) < needed:
        raise FormatError(f"{path} ends after {len(raw):,} of {needed:,} bytes of pixels. {REMEDY}")
    return np.frombuffer(bytearray(raw[:needed]), np.uint8)
