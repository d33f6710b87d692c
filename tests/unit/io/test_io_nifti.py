"""NIfTI against nibabel: places, kinds, time points, colours, pairs, and the same header again."""

import gzip

import nibabel
import numpy as np
import pytest

from vesalius import io
from vesalius.core.errors import FormatError
from vesalius.core.space import Space
from vesalius.io.image import Image

OBLIQUE = np.array([[0.9, -0.1, 0.3, -20], [0.2, 1.1, -0.4, 5], [-0.1, 0.2, 2.4, 7], [0, 0, 0, 1]])


def random(shape, kind="int16"):
    values = np.random.default_rng(0).normal(size=shape) * 100
    return np.abs(values).astype(kind) if kind[0] == "u" else values.astype(kind)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_files_of_nibabel(tmp_path, kind, order, ending):
    array = random((4, 5, 6, 3))
    header = kind.header_class(endianness=order)
    header.set_data_dtype(array.dtype)
    nibabel.save(kind(array, OBLIQUE, header), tmp_path / f"x{ending}")
    image = io.load(tmp_path / f"x{ending}")
    assert image.array.dtype == np.int16 and image.array.dtype.isnative
    assert np.array_equal(image.array, np.moveaxis(array, 3, 0)) and np.allclose(image.space.affine, OBLIQUE, atol=1e-5)


def test_slope_and_intercept(tmp_path):
    picture = nibabel.Nifti1Image(random((4, 5, 6), "float32"), OBLIQUE)
    picture.header.set_data_dtype(np.int16)  # nibabel finds a slope that fits the values into 16 bits
    nibabel.save(picture, tmp_path / "x.nii.gz")
    image = io.load(tmp_path / "x.nii.gz")
    assert image.array.dtype == np.float32
    assert np.allclose(image.array[0], nibabel.load(tmp_path / "x.nii.gz").get_fdata(), rtol=1e-6, atol=1e-5)


def test_whole_slopes_stay_whole(tmp_path):
    picture = nibabel.Nifti1Image(random((4, 5, 6), "uint8"), OBLIQUE)
    picture.header.set_slope_inter(2, -1024)
    nibabel.save(picture, tmp_path / "x.nii")
    raw = bytearray((tmp_path / "x.nii").read_bytes())
    raw[112:120] = np.array([2, -1024], "<f4").tobytes()
    (tmp_path / "x.nii").write_bytes(bytes(raw))
    assert io.load(tmp_path / "x.nii").array.dtype == np.int16
    assert np.array_equal(io.load(tmp_path / "x.nii").array[0], nibabel.load(tmp_path / "x.nii").get_fdata())


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Spm2AnalyzeImage, nibabel.AnalyzeImage])
def test_pairs_by_either_name(tmp_path, kind):
    array = random((4, 5, 6))
    nibabel.save(kind(array, np.diag([2.0, 3, 4, 1])), tmp_path / "x.hdr")
    expected = nibabel.load(tmp_path / "x.hdr")
    for name in ("x.hdr", "x.img"):
        image = io.load(tmp_path / name)
        assert np.array_equal(image.array[0], expected.get_fdata()) and np.allclose(image.space.affine, expected.affine)
    (tmp_path / "x.img").unlink()
    with pytest.raises(FormatError, match=r"half of a pair and x\.img is missing"):
        io.load(tmp_path / "x.hdr")


def test_colours_are_channels_and_stay_colours(tmp_path):
    array = random((4, 5, 6, 3), "uint8")
    voxels = np.ascontiguousarray(array).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.save(nibabel.Nifti1Image(voxels, OBLIQUE), tmp_path / "x.nii.gz")
    image = io.load(tmp_path / "x.nii.gz")
    assert np.array_equal(image.array, np.moveaxis(array, 3, 0))
    io.save(image, tmp_path / "y.nii.gz")
    assert nibabel.load(tmp_path / "y.nii.gz").get_data_dtype().names == ("R", "G", "B")
    assert np.array_equal(io.load(tmp_path / "y.nii.gz").array, image.array)


@pytest.mark.parametrize("codes", [(1, 2), (3, 0), (0, 4), (1, 1)])
def test_a_mask_on_the_same_grid_gets_the_same_header(tmp_path, codes):
    picture = nibabel.Nifti1Image(random((4, 5, 6)), None)
    rotated = OBLIQUE @ np.diag([1, 1, -1, 1])
    picture.header.set_qform(rotated, codes[0], strip_shears=True)
    picture.header.set_sform(OBLIQUE, codes[1])
    picture.header.set_xyzt_units("mm", "sec")
    nibabel.save(picture, tmp_path / "scan.nii.gz")
    image = io.load(tmp_path / "scan.nii.gz")
    io.save(image.with_array((image.array > 0).astype(np.uint8)), tmp_path / "mask.nii.gz")
    scan, mask = nibabel.load(tmp_path / "scan.nii.gz").header, nibabel.load(tmp_path / "mask.nii.gz").header
    names = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
             "srow_x", "srow_y", "srow_z", "xyzt_units")  # fmt: skip
    assert all(np.array_equal(scan[name], mask[name]) for name in names)
    assert np.array_equal(scan["pixdim"][:4], mask["pixdim"][:4]) and mask.get_data_dtype() == np.uint8


def test_a_moved_grid_does_not_get_the_old_header(tmp_path):
    nibabel.save(nibabel.Nifti1Image(random((4, 5, 6)), OBLIQUE), tmp_path / "scan.nii.gz")
    image = io.load(tmp_path / "scan.nii.gz")
    moved = Image(image.array, Space(image.space.shape, OBLIQUE @ np.diag([2, 2, 2, 1])), image.source)
    io.save(moved, tmp_path / "moved.nii.gz")
    assert np.allclose(nibabel.load(tmp_path / "moved.nii.gz").affine, moved.space.affine, atol=1e-5)


def test_other_tools_see_what_we_write(tmp_path):
    image = Image(random((2, 4, 5, 6), "float32"), Space((4, 5, 6), OBLIQUE))
    io.save(image, tmp_path / "x.nii.gz")
    found = nibabel.load(tmp_path / "x.nii.gz")
    assert np.array_equal(found.get_fdata(), np.moveaxis(image.array, 0, -1)) and np.allclose(found.affine, OBLIQUE, atol=1e-5)
    assert found.header["qform_code"] == 0  # the affine is sheared, and a quaternion cannot say so
    assert gzip.decompress((tmp_path / "x.nii.gz").read_bytes())[344:348] == b"n+1\0"


def test_equal_images_are_equal_files(tmp_path):
    image = Image(random((1, 4, 5, 6)), Space((4, 5, 6), OBLIQUE))
    io.save(image, tmp_path / "a.nii.gz")
    io.save(image, tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize(("units", "factor"), [("meter", 1000), ("micron", 0.001)])
def test_units_become_millimetres(tmp_path, units, factor):
    picture = nibabel.Nifti1Image(random((4, 5, 6)), OBLIQUE)
    picture.header.set_xyzt_units(units)
    nibabel.save(picture, tmp_path / "x.nii")
    assert np.allclose(io.load(tmp_path / "x.nii").space.affine[:3], OBLIQUE[:3] * factor, rtol=1e-5)


def test_two_axes_are_two_dimensional(tmp_path):
    picture = nibabel.Nifti1Image(random((7, 5)), np.diag([-0.5, -0.25, 1, 1]))
    picture.header.set_xyzt_units("mm")
    nibabel.save(picture, tmp_path / "x.nii")
    image = io.load(tmp_path / "x.nii")
    assert image.array.shape == (1, 5, 7) and image.space.ndim == 2
    assert np.array_equal(image.array[0], picture.get_fdata().T) and np.allclose(image.space.affine, np.diag([0.25, 0.5, 1]))


def test_a_broken_sform_is_passed_over_with_a_word(tmp_path):
    picture = nibabel.Nifti1Image(random((4, 5, 6)), np.diag([2.0, 3, 4, 1]))
    picture.header.set_sform(np.zeros((4, 4)), 1)
    nibabel.save(picture, tmp_path / "x.nii")
    raw = bytearray((tmp_path / "x.nii").read_bytes())
    raw[280:328] = bytes(48)
    (tmp_path / "x.nii").write_bytes(bytes(raw))
    image = io.load(tmp_path / "x.nii")
    assert np.allclose(image.space.spacing, (2, 3, 4)) and "sform is singular" in image.source.words["notes"][0]


def test_five_axes_are_refused_unless_one_is_single(tmp_path):
    nibabel.save(nibabel.Nifti1Image(random((4, 5, 6, 1, 3), "float32"), OBLIQUE), tmp_path / "field.nii")
    assert io.load(tmp_path / "field.nii").array.shape == (3, 4, 5, 6)
    nibabel.save(nibabel.Nifti1Image(random((4, 5, 6, 2, 3)), OBLIQUE), tmp_path / "x.nii")
    with pytest.raises(FormatError, match="more than one axis beyond space"):
        io.load(tmp_path / "x.nii")


@pytest.mark.parametrize(("kind", "stored"), [("bool", "uint8"), ("float16", "float32"), ("int64", "int64")])
def test_kinds_that_the_file_cannot_hold_become_the_next(tmp_path, kind, stored):
    array = np.arange(24).reshape(1, 2, 3, 4).astype(kind)
    io.save(Image(array, Space.of((2, 3, 4))), tmp_path / "x.nii")
    found = io.load(tmp_path / "x.nii").array
    assert found.dtype == stored and np.array_equal(found, array)


def test_absurd_sizes_are_refused_before_memory_is_asked_for(tmp_path):
    io.save(Image(np.zeros((1, 4, 5, 6), np.int16), Space.of((4, 5, 6))), tmp_path / "x.nii")
    raw = bytearray((tmp_path / "x.nii").read_bytes())
    raw[42:48] = np.array([32767] * 3, "<i2").tobytes()
    for name, body in (("y.nii", bytes(raw)), ("y.nii.gz", gzip.compress(bytes(raw)))):
        (tmp_path / name).write_bytes(body)
        with pytest.raises(FormatError, match=r"declares 70,36.* bytes of pixels but holds at most"):
            io.load(tmp_path / name)


def test_names_that_lie_about_compression(tmp_path):
    image = Image(random((1, 4, 5, 6)), Space.of((4, 5, 6)))
    io.save(image, tmp_path / "x.nii")
    (tmp_path / "y.nii.gz").write_bytes((tmp_path / "x.nii").read_bytes())
    assert np.array_equal(io.load(tmp_path / "y.nii.gz").array, image.array)


@pytest.mark.parametrize("written", [1, 500, 1 << 24])
@pytest.mark.parametrize(("shape", "channels"), [((9, 7, 8), 1), ((9, 7, 8), 3), ((1, 1, 5), 1), ((6, 11), 2)])
def test_planes_that_are_written_one_after_the_other_are_the_whole(tmp_path, shape, channels, written, monkeypatch):
    """Whatever the order in memory, and as nibabel reads them."""
    monkeypatch.setattr("vesalius.io.formats.nifti._WRITTEN", written)
    array = random((channels, *shape))
    space = Space.of(shape, (1.0, 2.0, 3.0)[: len(shape)])
    for name, laid in (("c", array), ("f", np.asfortranarray(array)), ("b", array[:, ::-1][:, ::-1])):
        for ending in (".nii", ".nii.gz"):
            io.save(Image(laid, space), tmp_path / f"{name}{ending}")
            assert np.array_equal(io.load(tmp_path / f"{name}{ending}").array, array)
            assert (tmp_path / f"{name}{ending}").read_bytes() == (tmp_path / f"c{ending}").read_bytes()
    seen = np.asarray(nibabel.load(tmp_path / "c.nii.gz").dataobj).squeeze()
    assert np.array_equal(seen, (np.moveaxis(array, 0, -1) if len(shape) == 3 else array.transpose(2, 1, 0)).squeeze())
