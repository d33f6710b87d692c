"""NIfTI-1 and -2, as one file or a header and image pair, and Analyze 7.5: the common tongue of neuro-imaging.

Bytes are read through isal, which inflates about four times faster than zlib; nibabel understands the headers that are not plain.
A fourth axis (time, echoes, components) becomes channels. A file of two axes is a 2D space: rows are its second axis, columns
its first, and the 2D world (down, right) is (posterior, left), so that a picture looks the same in every viewer.
"""

import io
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from vesalius.core.card import Card
from vesalius.core.errors import FormatError
from vesalius.core.files import write_beside
from vesalius.core.order import TILE, fill
from vesalius.core.space import Array, Space
from vesalius.io.formats import Format, Header, _nifti1
from vesalius.io.formats._nibabel import checked
from vesalius.io.formats._values import real_dtype, storable, to_real
from vesalius.io.guard import DEFLATE_RATIO, REMEDY, check_size, read_exactly, skip
from vesalius.io.image import MADE, Image, Source

CARD = Card(
    entry="NIfTI",
    title="NIfTI",
    summary="NIfTI-1 and -2 (.nii, .nii.gz, .hdr with .img) and Analyze 7.5.",
    paper="Cox et al., A (sort of) new image data format standard: NIfTI-1, 2004",
    tags=(".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz"),
)

FLAT = b"2D"  # intent name of a 2D image with channels, which NIfTI can only hold as one slice of four axes
_UNITS = {1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units: metre, millimetre, micrometre
_KEPT = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
_WRITTEN = 1 << 24  # bytes put into the file's order at a time
_DTYPES = ("uint8", "int16", "int32", "float32", "float64", "int8", "uint16", "uint32", "int64", "uint64", "complex64", "complex128")


@dataclass(frozen=True)
class _Parsed:
    """A header understood: nibabel's `fields`, where the pixels lie, and what they become."""

    fields: Any
    data: Path
    offset: int
    shape: tuple[int, ...]  # spatial, as in the file
    channels: int
    stored: np.dtype[Any]  # of one component
    components: int  # 3 or 4 for RGB and RGBA voxels, else 1
    slope: float
    intercept: float
    space: Space
    words: dict[str, Any]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.channels * self.stored.itemsize


class NIfTI(Format):
    """Slope and intercept are applied; sform before qform, as the standard advises."""

    suffixes = CARD.tags
    dtypes = ("uint8", "int16", "int32", "float32", "float64")

    def claims(self, path: Path) -> bool:
        return path.is_file() and path.name.lower().endswith(self.suffixes)

    def header(self, path: Path) -> Header:
        parsed = _parse(path)
        kind = real_dtype(parsed.stored, parsed.slope, parsed.intercept)
        return Header(parsed.space, parsed.channels, kind.name, parsed.words)

    def read(self, path: Path) -> Image:
        parsed = _parse(path)
        array = to_real(_pixels(parsed), parsed.slope, parsed.intercept)
        return Image(array, parsed.space, Source(str(path), "nifti", parsed.words))

    def write(self, image: Image, path: Path) -> None:
        fields, pixels = _compose(image, path)
        pair = path.name.lower().removesuffix(".gz").endswith((".hdr", ".img"))
        if pair:
            raise FormatError(f"Header and image pairs are read, not written ({path}). Write .nii or .nii.gz.")
        write_beside(path, lambda beside: _store(beside, fields, pixels))


def _open(path: Path) -> BinaryIO:
    """`path` for reading, inflated where its first bytes say gzip, whatever its name."""
    file = open(path, "rb")
    gzipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not gzipped:
        return file
    file.close()
    isal: Any = import_module("isal.igzip")
    return cast(BinaryIO, isal.open(path, "rb"))


def _pair(path: Path) -> tuple[Path, Path]:
    """(header, pixels): one file, or the two of a pair whichever is named."""
    name = path.name
    for ending in (".hdr", ".img", ".hdr.gz", ".img.gz"):
        if name.lower().endswith(ending):
            stem, gz = name[: -len(ending)], ".gz" if ending.endswith(".gz") else ""
            upper = name[-len(ending) :].isupper()
            ends = [e.upper() if upper else e for e in (".hdr" + gz, ".img" + gz)]
            return path.with_name(stem + ends[0]), path.with_name(stem + ends[1])
    return path, path


def _parse(path: Path) -> _Parsed:
    """Read and judge the header."""
    head, data = _pair(path)
    for part in (head, data):
        if not part.is_file():
            raise FormatError(f"{path} is half of a pair and {part.name} is missing. Put it beside.")
    with _open(head) as file:
        fields = _fields(head, file.read(540))
    said = [] if isinstance(fields, _nifti1.Plain) else checked(fields)
    if 3000 <= int(fields["intent_code"] if "intent_code" in fields else 0) < 3100:
        raise FormatError(f"{path} is CIFTI: values per surface vertex or parcel, not an image. Use nibabel or wb_command to get at it.")
    shape = tuple(int(side) for side in fields.get_data_shape())
    if len(shape) < 2 or min(shape) < 1:
        raise FormatError(f"{path} has shape {shape}: not an image of two or three axes. {REMEDY}")
    spatial, channels = _split(path, shape, fields)
    stored, components = _kind(path, fields.get_data_dtype())
    if components > 1 and channels > 1:
        raise FormatError(f"{path} holds {channels} time points of {components} colours: more than one channel axis. Split it in time.")
    slope, intercept = _scale(fields)
    words = _words(fields, said)
    space = _space(path, spatial, fields, words=words)
    offset = max(int(fields["vox_offset"]), int(fields["sizeof_hdr"]) + 4 if head == data else 0)
    parsed = _Parsed(fields, data, offset, spatial, channels * components, stored, components, slope, intercept, space, words)
    size = data.stat().st_size
    check_size(path, parsed.nbytes + offset, size * DEFLATE_RATIO if _gzipped(data) else size)
    return parsed


def _gzipped(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _fields(head: Path, raw: bytes) -> Any:
    """The header in `raw`, a plain one by itself, others as nibabel's object: NIfTI-1, NIfTI-2, or Analyze (with SPM's origin)."""
    if found := _nifti1.plain(raw):
        return found
    nibabel: Any = import_module("nibabel")
    sizes = {int.from_bytes(raw[:4], order) for order in ("little", "big")}
    if 540 in sizes and len(raw) == 540:
        return nibabel.Nifti2Header.from_fileobj(io.BytesIO(raw), check=False)
    if 348 not in sizes or len(raw) < 348:
        raise FormatError(f"{head} does not begin with a NIfTI or Analyze header. {REMEDY}")
    if raw[344:347] in (b"n+1", b"ni1"):
        return nibabel.Nifti1Header.from_fileobj(io.BytesIO(raw[:348]), check=False)
    return nibabel.Spm2AnalyzeHeader.from_fileobj(io.BytesIO(raw[:348]), check=False)


def _split(path: Path, shape: tuple[int, ...], fields: Any) -> tuple[tuple[int, ...], int]:
    """(spatial sides, channels): trailing axes of one are dropped, one further axis is channels, more are refused."""
    flat = len(shape) == 2 or (_intent(fields) == FLAT and len(shape) in (3, 4) and shape[2] == 1)
    more = [side for side in shape[2 if flat else 3 :] if side != 1]
    if len(more) > 1:
        raise FormatError(f"{path} has shape {shape}: more than one axis beyond space. Split it (fslsplit, nibabel) so that one is left.")
    return shape[: 2 if flat else 3], more[0] if more else 1


def _intent(fields: Any) -> bytes:
    return bytes(fields["intent_name"].tobytes().rstrip(b"\0")) if "intent_name" in fields else b""


def _kind(path: Path, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], int]:
    """(kind of one component, components per voxel)."""
    if dtype.fields:
        return np.dtype(np.uint8), len(dtype.fields)
    if dtype.kind not in "iufc":
        raise FormatError(f"{path} holds voxels of {dtype}, which are not numbers. Convert it with the tool that made it.")
    return dtype, 1


def _scale(fields: Any) -> tuple[float, float]:
    slope, intercept = fields.get_slope_inter()
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept or 0))


def _words(fields: Any, said: list[str]) -> dict[str, Any]:
    """What a reader or the writer wants again, as plain Python; `said` are nibabel's remarks on the header."""
    notes = {"notes": [f"Header: {remark}." for remark in said]} if said else {}
    if "magic" not in fields:
        return {"header": {"version": 0}, **notes}
    kept: dict[str, Any] = {name: float(fields[name]) for name in _KEPT} | {name: int(fields[name]) for name in _KEPT[:2]}
    rows = [fields[f"srow_{axis}"].tolist() for axis in "xyz"]
    version = 2 if int(fields["sizeof_hdr"]) == 540 else 1
    kept |= {"version": version, "pixdim": fields["pixdim"].tolist(), "srow": rows, "xyzt_units": int(fields["xyzt_units"])}
    kept |= {"rgb": bool(fields.get_data_dtype().fields), "intent_name": _intent(fields).decode("latin-1")}
    description = bytes(fields["descrip"].tobytes().split(b"\0")[0]).decode("latin-1").strip()
    return {"header": kept, **notes, **({"description": description} if description else {})}


def _space(path: Path, shape: tuple[int, ...], fields: Any, *, words: dict[str, Any]) -> Space:
    """The place of the grid; what had to be assumed is said in `words["notes"]`."""
    units = int(fields["xyzt_units"]) & 7 if "xyzt_units" in fields else 0
    affine = _affine(path, fields, words)
    affine[:3] *= _UNITS.get(units, 1.0)
    words["header"]["affine"] = affine.tolist()
    if len(shape) == 3:
        return Space(shape, affine)
    return Space(shape[::-1], _flat(affine, words), physical=units != 0)


def _affine(path: Path, fields: Any, words: dict[str, Any]) -> Array:
    """sform, else qform, else the voxel sizes alone; a singular or unreadable one is passed over with a word."""
    if "magic" not in fields:
        nibabel: Any = import_module("nibabel")
        if not path.with_suffix(".mat").is_file():
            words["notes"] = [*words.get("notes", []), "Analyze states no orientation: the first axis is taken to grow to the left."]
        return np.asarray(nibabel.load(path).affine, np.float64)  # SPM's .mat file beside, else its origin
    notes: list[str] = words.get("notes", [])
    for name, code in (("sform", int(fields["sform_code"])), ("qform", int(fields["qform_code"]))):
        if code > 0:
            try:
                affine = np.asarray(getattr(fields, f"get_{name}")(), np.float64)
                if np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12:
                    words |= {"notes": notes} if notes else {}
                    return affine
                notes.append(f"The {name} is singular and was passed over.")
            except ValueError as problem:
                notes.append(f"The {name} cannot be read and was passed over: {problem}.")
    words["notes"] = [*notes, "No usable orientation in the header: axes taken as left, anterior, superior around the centre."]
    return np.asarray(fields.get_base_affine(), np.float64)


def _flat(affine: Array, words: dict[str, Any]) -> Array:
    """The 3 x 3 affine from (row, column) to (down, right) = (-y, -x) of an axial plane; of another plane its voxel sizes."""
    inplane = affine[:3, :2]
    if np.abs(inplane[2]).max() <= 1e-4 * np.abs(inplane).max():
        turned = -affine[np.ix_([1, 0], [1, 0, 3])]
        return np.vstack([turned, [0, 0, 1]])
    words["notes"] = [*words.get("notes", []), "The plane is not axial: its place in the head is kept in the header words alone."]
    row, column = np.linalg.norm(inplane, axis=0)[::-1]
    return np.diag([row, column, 1.0])


def _pixels(parsed: _Parsed) -> Array:
    """(C, *S) in the file's kind; a view in the file's order of axes."""
    with _open(parsed.data) as file:
        if _gzipped(parsed.data):
            skip(parsed.data, file, parsed.offset)
        else:
            file.seek(parsed.offset)
        raw = read_exactly(parsed.data, file, parsed.nbytes)
    backwards = parsed.shape[::-1]
    if parsed.components > 1:
        array = np.moveaxis(raw.reshape(*backwards, parsed.components), -1, 0)
    else:
        array = raw.view(parsed.stored).reshape(parsed.channels, *backwards)
    return array if len(backwards) == 2 else array.transpose(0, 3, 2, 1)


def _compose(image: Image, path: Path) -> tuple[Any, Array]:
    """(header, pixels with the axes of the file, in whatever order of memory) for `image`."""
    array = storable(image.array, path, _DTYPES)
    flat = image.space.ndim == 2
    kept = image.source.words.get("header", {}) if image.source.format == "nifti" else {}
    rgb = array.dtype == np.uint8 and ((image.channels == 3 and flat) or (kept.get("rgb", False) and image.channels in (3, 4)))
    sides = image.space.shape[::-1] if flat else image.space.shape
    more = () if rgb or image.channels == 1 else (1, image.channels) if flat else (image.channels,)
    kind = np.dtype([(c, "u1") for c in "RGBA"[: image.channels]]) if rgb else array.dtype.newbyteorder("=")
    fields = _blank((*sides, *more), kind, version=kept.get("version", 1))
    if flat and more:
        fields["intent_name"] = FLAT
    _place(fields, image.space, kept)
    if image.source.format == MADE:
        fields["descrip"] = str(image.source.words.get("description", "")).encode("ascii", "replace")[:79]
    if rgb:
        return fields, np.moveaxis(array if flat else array.transpose(0, 3, 2, 1), 0, -1)
    return fields, array if flat else array.transpose(0, 3, 2, 1)


def _blank(shape: tuple[int, ...], kind: np.dtype[Any], *, version: int) -> Any:
    """A header for pixels of `kind`; nibabel's where it is not plain."""
    big = max(*shape, 1) > 32767 or version == 2
    if not big and not kind.fields:
        return _nifti1.blank(shape, kind)
    nibabel: Any = import_module("nibabel")
    fields = nibabel.Nifti2Header() if big else nibabel.Nifti1Header()
    fields.set_data_shape(shape)
    fields.set_data_dtype(kind)
    fields["magic"], fields["vox_offset"] = (b"n+2", 544) if big else (b"n+1", 352)
    return fields


def _place(fields: Any, space: Space, kept: dict[str, Any]) -> None:
    """sform and qform of `space`; the very words of the source where the grid is still the source's."""
    affine = space.affine
    if space.ndim == 2:
        affine = np.eye(4)
        affine[np.ix_([1, 0], [1, 0, 3])] = -space.affine[:2]
    if _same_plane(space, kept):
        for name in _KEPT:
            fields[name] = kept[name]
        for axis, row in zip("xyz", kept["srow"], strict=True):
            fields[f"srow_{axis}"] = row
        fields["pixdim"][:4] = kept["pixdim"][:4]
        fields["xyzt_units"] = kept["xyzt_units"]
        return
    fields.set_sform(affine, code=1)
    fields.set_qform(affine, code=1 if space.shear < 1e-4 else 0)
    fields.set_xyzt_units("mm" if space.physical else "unknown")


def _same_plane(space: Space, kept: dict[str, Any]) -> bool:
    """Whether `space` is where the header words in `kept` put it."""
    if not kept.get("version"):
        return False
    affine = np.asarray(kept["affine"])
    return bool(np.allclose(space.affine, affine if space.ndim == 3 else _flat(affine, {}), rtol=1e-6, atol=1e-6))


def _store(beside: Path, fields: Any, pixels: Array) -> None:
    """Header, empty extension mark, pixels; gzip of level 1 without a time stamp, so that equal images are equal files."""
    fields["scl_slope"], fields["scl_inter"] = 1, 0
    head = fields.binaryblock + b"\0\0\0\0"
    if not beside.name.lower().endswith(".gz"):
        with open(beside, "wb") as file:
            _put(file, head, pixels)
        return
    isal: Any = import_module("isal.igzip")
    with open(beside, "wb") as file, isal.IGzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as zipped:
        _put(zipped, head, pixels)


def _put(file: Any, head: bytes, pixels: Array) -> None:
    """Some planes at a time, so that no second copy of the pixels is made."""
    file.write(head)
    for channel in pixels[:, None]:
        planes = max(1, _WRITTEN * channel.shape[1] // max(1, channel.nbytes), TILE // channel.itemsize)
        held = None if channel.flags.c_contiguous else np.empty((1, min(planes, channel.shape[1]), *channel.shape[2:]), channel.dtype)
        for first in range(0, channel.shape[1], planes):
            part = channel[:, first : first + planes]
            if held is not None:
                fill(held[:, : part.shape[1]], part)
                part = held[:, : part.shape[1]]
            file.write(part.reshape(-1).view(np.uint8).data)
