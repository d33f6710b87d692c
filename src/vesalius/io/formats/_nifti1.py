"""The header of a plain NIfTI-1 file, read and written without nibabel, which imports pydicom and with it takes a sixth of a second.

Plain is a little-endian header of numbers on which nibabel's checks have nothing to remark. Any other is left to it, and so is every
question that is rarely asked, so that what is odd or broken has one judge. Fields: nifti1.h (Cox et al. 2004).
"""

from functools import cached_property
from importlib import import_module
from io import BytesIO
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.space import Array

_FIELDS = """
    sizeof_hdr i4, data_type S10, db_name S18, extents i4, session_error i2, regular S1, dim_info u1, dim 8i2, intent_p1 f4, intent_p2 f4,
    intent_p3 f4, intent_code i2, datatype i2, bitpix i2, slice_start i2, pixdim 8f4, vox_offset f4, scl_slope f4, scl_inter f4,
    slice_end i2, slice_code u1, xyzt_units u1, cal_max f4, cal_min f4, slice_duration f4, toffset f4, glmax i4, glmin i4, descrip S80,
    aux_file S24, qform_code i2, sform_code i2, quatern_b f4, quatern_c f4, quatern_d f4, qoffset_x f4, qoffset_y f4, qoffset_z f4,
    srow_x 4f4, srow_y 4f4, srow_z 4f4, intent_name S16, magic S4"""
LAYOUT = np.dtype([(name, np.dtype(kind).newbyteorder("<")) for name, kind in (field.split() for field in _FIELDS.split(","))])
KINDS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 32: "c8", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8", 1792: "c16"}
_CODES = {np.dtype(kind): code for code, kind in KINDS.items()}
_SURFACE = (27307, 1, 6)  # a shape by which FreeSurfer means another
FIRST = 352  # byte of pixels that follow their header: it has 348, and 4 say that nothing is added to it


class Plain:
    """Fields by name, and what nibabel's header answers; what is not here is asked of nibabel's header of the same bytes."""

    def __init__(self, raw: bytes) -> None:
        self.block: NDArray[np.void] = np.frombuffer(raw, LAYOUT, 1).reshape(()).copy()

    def __contains__(self, name: str) -> bool:
        return name in LAYOUT.fields if LAYOUT.fields else False

    def __getitem__(self, name: str) -> Any:
        return self.block[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.block[name] = value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.full, name)

    @cached_property
    def full(self) -> Any:
        return import_module("nibabel").Nifti1Header.from_fileobj(BytesIO(self.binaryblock), check=False)

    @property
    def binaryblock(self) -> bytes:
        return self.block.tobytes()

    def get_data_shape(self) -> tuple[int, ...]:
        sides = self.block["dim"].tolist()
        return tuple(sides[1 : sides[0] + 1])

    def get_data_dtype(self) -> np.dtype[Any]:
        return np.dtype("<" + KINDS[int(self.block["datatype"])])

    def get_slope_inter(self) -> tuple[float, float] | tuple[None, None]:
        slope, intercept = float(self.block["scl_slope"]), float(self.block["scl_inter"])
        if slope == 0 or not isfinite(slope):
            return None, None
        return (slope, intercept) if isfinite(intercept) else self.full.get_slope_inter()

    def get_sform(self) -> Array:
        return np.array([*(self.block[f"srow_{axis}"] for axis in "xyz"), (0, 0, 0, 1)], np.float64)

    def set_sform(self, affine: Array, code: int) -> None:
        self["sform_code"] = code
        for axis, row in zip("xyz", affine, strict=False):
            self[f"srow_{axis}"] = row

    def set_qform(self, affine: Array, code: int) -> None:
        """The nearest place without shears: sizes of voxels, a rotation, and whether the third axis is mirrored before it."""
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        mirrored = -1 if np.linalg.det(affine[:3, :3]) < 0 else 1
        left, _, right = np.linalg.svd(affine[:3, :3] / sizes * (1, 1, mirrored))
        self["qform_code"], self["pixdim"][:4] = code, (mirrored, *sizes)
        for axis, part in zip("bcd", quaternion(left @ right)[1:], strict=True):
            self[f"quatern_{axis}"] = part
        for axis, place in zip("xyz", affine[:3, 3], strict=True):
            self[f"qoffset_{axis}"] = place

    def set_xyzt_units(self, unit: str) -> None:
        self["xyzt_units"] = {"unknown": 0, "mm": 2}[unit]


def plain(raw: bytes) -> Plain | None:
    """The header that `raw` begins with, where it is a plain one."""
    if len(raw) < LAYOUT.itemsize or raw[344:348] not in (b"n+1\0", b"ni1\0"):
        return None
    found = Plain(raw)
    return found if _without_remark(found.block) else None


def _without_remark(block: NDArray[np.void]) -> bool:
    sides, sizes, offset = block["dim"].tolist(), block["pixdim"].tolist(), float(block["vox_offset"])
    shape, kind = tuple(sides[1 : sides[0] + 1]), KINDS.get(int(block["datatype"]))
    return (
        int(block["sizeof_hdr"]) == LAYOUT.itemsize
        and 1 <= sides[0] <= 7 and min(shape) >= 1 and shape[:3] != _SURFACE
        and kind is not None and int(block["bitpix"]) == 8 * np.dtype(kind).itemsize
        and sizes[0] in (-1, 1) and min(sizes[1:4]) > 0
        and (offset == 0 or (offset % 16 == 0 and (offset >= FIRST or block["magic"].item() == b"ni1")))
        and 0 <= int(block["qform_code"]) <= 5 and 0 <= int(block["sform_code"]) <= 5
    )  # fmt: skip


def blank(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Plain:
    """The header of a single file of pixels of `dtype`, whose place is still to be written into it."""
    made = Plain(bytes(LAYOUT.itemsize))
    made["sizeof_hdr"], made["magic"], made["vox_offset"] = LAYOUT.itemsize, b"n+1", FIRST
    made["dim"], made["pixdim"] = 1, 1
    made["dim"][: len(shape) + 1] = len(shape), *shape
    made["datatype"], made["bitpix"] = _CODES[dtype.newbyteorder("=")], 8 * dtype.itemsize
    return made


def quaternion(turn: Array) -> Array:
    """(a, b, c, d) of a rotation (3, 3), a not below 0: by the largest of the four, whose square is at least a quarter (Shepperd 1978)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = turn
    products = np.array([  # four times those of each two
        [1 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz],
    ])  # fmt: skip
    most = int(np.argmax(products.diagonal()))
    found: Array = products[most] / (2 * np.sqrt(products[most, most]))
    return -found if found[0] < 0 else found
