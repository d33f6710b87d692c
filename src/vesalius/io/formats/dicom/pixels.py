"""From stored bytes to real values: native pixels straight from the file, compressed ones through pydicom's decoders.

Grey is inverted where it was stored inverted (MONOCHROME1), so that more always means brighter; palettes and the
YBR colour models become RGB; the modality table, or slope and intercept of every frame, is applied.
"""

from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import FormatError
from vesalius.core.space import Array
from vesalius.io.formats._values import real_dtype, to_real
from vesalius.io.formats.dicom.frames import Frame
from vesalius.io.formats.dicom.heads import Head, spot
from vesalius.io.guard import REMEDY, check_size

_COMPRESSION = 5000  # no honest image shrinks more than this; below the floor no harm is done
_FLOOR = 1 << 26


def stored_dtype(head: Head) -> np.dtype[Any]:
    """Kind of the stored numbers, in native byte order."""
    if head.pixels == "FloatPixelData":
        return np.dtype(np.float32)
    if head.pixels == "DoubleFloatPixelData":
        return np.dtype(np.float64)
    bits = max(8, head.whole("BitsAllocated", 16))
    if bits not in (8, 16, 32, 64):
        raise FormatError(f"{head.part.name} stores {bits} bits per pixel, which is not read. Convert it with dcmtk or gdcmconv first.")
    return np.dtype(f"{'i' if head.whole('PixelRepresentation', 0) else 'u'}{bits // 8}")


def samples(head: Head) -> int:
    """Channels of one frame after colour conversion."""
    return 3 if head.photometric == "PALETTE COLOR" else head.samples


def real_kind(frames: list[Frame]) -> np.dtype[Any]:
    """Kind of the real values of all `frames` of one series."""
    kinds = {_kind(frame) for frame in frames}
    scales = {(frame.slope, frame.intercept) for frame in frames}
    if len(kinds) == 1 and (len(scales) == 1 or next(iter(kinds)).kind == "f"):
        return next(iter(kinds))
    return np.dtype(np.float64 if any(kind.itemsize > 4 for kind in kinds) else np.float32)


def _kind(frame: Frame) -> np.dtype[Any]:
    head = frame.head
    if head.photometric == "PALETTE COLOR":
        table = head.numbers("RedPaletteColorLookupTableDescriptor")
        return np.dtype(np.uint8 if table and table[-1] == 8 else np.uint16)
    if _modality_table(head):
        return np.dtype(np.uint8 if _table_bits(head) == 8 else np.uint16)
    return real_dtype(stored_dtype(head), frame.slope, frame.intercept, bits=_bits(head))


def _bits(head: Head) -> int | None:
    return None if head.pixels != "PixelData" else head.whole("BitsStored", head.whole("BitsAllocated", 16))


def _modality_table(head: Head) -> bool:
    return "ModalityLUTSequence" in head.data and bool(head.dataset.ModalityLUTSequence)


def _table_bits(head: Head) -> int:
    return int(head.dataset.ModalityLUTSequence[0].LUTDescriptor[2])


def stored(place: Path, head: Head) -> Array:
    """Stored numbers of every frame: (frames, samples, rows, columns)."""
    return _straight(head) if _simple(head) else _decoded(place, head)


def check_length(place: Path, head: Head) -> None:
    """Declared size against what the file can hold, before frames are listed or memory is asked for."""
    rows, columns = head.whole("Rows", 0), head.whole("Columns", 0)
    bits = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(head.pixels, head.whole("BitsAllocated", 16))
    if rows < 1 or columns < 1:
        raise FormatError(f"{place}: {head.part.name} declares {rows} rows and {columns} columns. {REMEDY}")
    needed = (rows * columns * head.samples * head.frames * bits + 7) // 8
    if head.native and head.photometric == "YBR_FULL_422":
        needed = needed // 3 * 2
    where = spot(place, head.part)
    check_size(where, head.frames, head.part.size)  # one byte per frame is the least
    if head.native:
        left = head.part.size - head.offset
        check_size(where, needed, min(head.length, left) if head.length >= 0 else left)
    else:
        check_size(where, needed, max(_FLOOR, _COMPRESSION * head.part.size))


def _simple(head: Head) -> bool:
    """Whether the bytes in the file are the numbers."""
    bits = head.whole("BitsAllocated", 16)
    grey = head.photometric.startswith("MONOCHROME") or head.photometric == "PALETTE COLOR"
    little = head.syntax != "1.2.840.10008.1.2.2"
    return head.native and head.offset >= 0 and (grey or head.photometric == "RGB") and (little or bits > 8) and bits % 8 == 0


def _straight(head: Head) -> Array:
    rows, columns, planes = head.whole("Rows", 0), head.whole("Columns", 0), head.samples
    kind = stored_dtype(head).newbyteorder(">" if head.syntax == "1.2.840.10008.1.2.2" else "<")
    count = rows * columns * planes * head.frames
    with head.part.open() as file:
        file.seek(head.offset)
        raw = file.read(count * kind.itemsize)
    flat = np.frombuffer(raw, kind, count).astype(kind.newbyteorder("="), copy=False)
    if planes == 1 or head.whole("PlanarConfiguration", 0) == 1:
        array = flat.reshape(head.frames, planes, rows, columns)
    else:
        array = np.moveaxis(flat.reshape(head.frames, rows, columns, planes), -1, 1)
    return _meaningful(array, head)


def _meaningful(array: Array, head: Head) -> Array:
    """Bits above BitsStored cleared (old overlays lie there) and the sign carried up (PS3.5 section 8.1.1)."""
    allocated, kept = 8 * array.itemsize, head.whole("BitsStored", 8 * array.itemsize)
    high = head.whole("HighBit", kept - 1)
    if array.dtype.kind == "f" or kept >= allocated or kept < 1:
        return array
    up = allocated - 1 - high if high >= kept - 1 else allocated - kept
    shifted = array << up
    shifted >>= allocated - kept
    return shifted


def _decoded(place: Path, head: Head) -> Array:
    """Through pydicom and its plug-ins (gdcm, pylibjpeg); colour comes back as RGB."""
    import pydicom

    where = spot(place, head.part)
    try:
        with head.part.open() as file:
            data = pydicom.dcmread(file, force=True)
            data.file_meta.TransferSyntaxUID = head.dataset.file_meta.TransferSyntaxUID
            array = np.asarray(data.pixel_array)
    except (RuntimeError, ValueError, AttributeError, NotImplementedError, EOFError, OSError, KeyError, IndexError) as problem:
        lines = [line.strip() for line in str(problem).strip().splitlines()[:4]]
        cause = "; ".join(lines[1:] or lines).rstrip(".")
        unknown = "support" in cause or "1 bits" in cause
        remedy = "Decompress it first (gdcmconv --raw, or dcmdjpeg of dcmtk)." if unknown else REMEDY
        name = head.dataset.file_meta.TransferSyntaxUID.name
        raise FormatError(f"{where}: its pixels ({name}) cannot be decoded: {cause}. {remedy}") from problem
    array = array if head.frames > 1 and array.ndim == (3 if head.samples == 1 else 4) else array[None]
    return array[:, None] if head.samples == 1 else np.moveaxis(array, -1, 1)


def real(array: Array, frame: Frame, kind: np.dtype[Any]) -> Array:
    """Real values of one frame (samples, rows, columns) of stored numbers (samples, rows, columns), as `kind`."""
    head = frame.head
    if head.photometric == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        return np.moveaxis(np.asarray(apply_color_lut(array[0], head.dataset))[..., :3], -1, 0).astype(kind, copy=False)
    if head.photometric == "MONOCHROME1":
        array = _inverted(array, head)
    if _modality_table(head):
        from pydicom.pixels.processing import apply_modality_lut

        return np.asarray(apply_modality_lut(array, head.dataset)).astype(kind, copy=False)
    return to_real(array, frame.slope, frame.intercept, bits=_bits(head)).astype(kind, copy=False)


def fill(out: Array, array: Array, frame: Frame) -> None:
    """Write what `real` gives into `out`; whole numbers of a plain picture are scaled in place, without a copy of their own."""
    plain = frame.head.photometric == "MONOCHROME2" and not _modality_table(frame.head)
    if not (plain and out.dtype.kind in "iu"):
        out[...] = real(array, frame, out.dtype)
        return
    out[...] = array
    if frame.slope != 1:
        out *= out.dtype.type(frame.slope)
    if frame.intercept != 0:
        out += out.dtype.type(frame.intercept)


def _inverted(array: Array, head: Head) -> Array:
    """Bright where it was dark, within the range of the stored bits."""
    if array.dtype.kind == "f":
        return np.asarray(np.nanmax(array) + np.nanmin(array) - array)
    top = (1 << (_bits(head) or 16)) - 1
    return np.asarray(-1 - array if array.dtype.kind == "i" else array.dtype.type(top) - array)
