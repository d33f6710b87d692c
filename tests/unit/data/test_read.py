"""Channels on one grid, and masks that lie on it or are refused."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture

from vesalius.core.errors import DataError
from vesalius.core.space import Space
from vesalius.data.case import Case
from vesalius.data.labels import Labels
from vesalius.data.read import read_images, read_mask, read_stored

LABELS = Labels(names=("a", "b"), values=((1,), (2,)))
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def write(path, array, affine=AFFINE):
    if path.suffix == ".png":
        Picture.fromarray(array).save(path)
    else:
        nib.save(nib.Nifti1Image(array, affine), path)
    return path


def case(**images):
    return Case("carla", "carla", images)


def test_channels_are_stacked_in_the_order_asked_for(tmp_path):
    draw = np.random.default_rng(0)
    pixels = {name: draw.normal(size=(5, 6, 4)).astype(np.float32) for name in ("t1", "t2")}
    made = case(**{name: write(tmp_path / f"{name}.nii.gz", array) for name, array in pixels.items()})
    found = read_images(made, {"t2": 1, "t1": 1})
    assert found.array.dtype == np.float32
    np.testing.assert_array_equal(found.array, np.stack([pixels["t2"], pixels["t1"]]))


def test_a_missing_channel_is_nan(tmp_path):
    found = read_images(case(t2=write(tmp_path / "t2.nii.gz", np.ones((3, 3, 3), np.float32))), {"t1": 1, "t2": 1})
    assert np.isnan(found.array[0]).all() and (found.array[1] == 1).all()
    with pytest.raises(DataError, match=r"carla has none of the channels t1"):
        read_images(case(), {"t1": 1})


def test_a_channel_on_another_grid_is_resampled_onto_the_first(tmp_path):
    ramp = np.broadcast_to(np.arange(12.0, dtype=np.float32)[:, None, None], (12, 6, 4))
    fine = write(tmp_path / "fine.nii.gz", np.ascontiguousarray(ramp))
    shifted = AFFINE.copy()
    shifted[0] = [2, 0, 0, 1]  # every second voxel, from x = 1 on
    coarse = write(tmp_path / "coarse.nii.gz", np.zeros((5, 6, 4), np.float32), shifted)
    found = read_images(case(coarse=coarse, fine=fine), {"coarse": 1, "fine": 1})
    assert found.array.shape == (2, 5, 6, 4)
    np.testing.assert_allclose(found.array[1, :, 0, 0], [1, 3, 5, 7, 9], atol=1e-5)


@pytest.mark.parametrize(("shape", "wanted", "expected"), [
    ((4, 5), 3, [9, 9, 9]), ((4, 5, 3), 1, [20]), ((4, 5, 4), 3, [10, 20, 30]), ((4, 5, 3), 3, [10, 20, 30]), ((4, 5, 2), 1, [10]),
])  # fmt: skip
def test_components_are_brought_to_the_number_of_the_training_scans(tmp_path, shape, wanted, expected):
    pixels = np.full(shape, 9, np.uint8) if len(shape) == 2 else np.broadcast_to(np.array([10, 20, 30, 255], np.uint8)[: shape[2]], shape)
    found = read_images(case(photo=write(tmp_path / "p.png", np.ascontiguousarray(pixels))), {"photo": wanted})
    assert found.array.shape == (wanted, 4, 5) and found.array[:, 0, 0].tolist() == expected


def test_a_slice_and_a_volume_are_no_channels_of_one_case(tmp_path):
    flat, volume = write(tmp_path / "a.png", np.zeros((4, 5), np.uint8)), write(tmp_path / "b.nii.gz", np.zeros((4, 5, 3), np.float32))
    with pytest.raises(DataError, match="dimensions"):
        read_images(case(a=flat, b=volume), {"a": 1, "b": 1})


def test_a_mask_is_coded_on_the_grid_of_its_scan(tmp_path):
    raw = np.random.default_rng(0).integers(0, 3, (5, 6, 4)).astype(np.uint8)
    space = Space((5, 6, 4), AFFINE)
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.nii.gz", raw), LABELS, space), raw[None])


def test_a_mask_off_its_scan_is_refused_with_the_remedy(tmp_path):
    space = Space((5, 6, 4), AFFINE)
    with pytest.raises(DataError, match=r"shape \(5, 6, 3\).*--like"):
        read_mask(write(tmp_path / "a.nii.gz", np.zeros((5, 6, 3), np.uint8)), LABELS, space)
    moved = AFFINE.copy()
    moved[0, 3] = 5
    with pytest.raises(DataError, match=r"5\.00 mm.*--geometry-of"):
        read_mask(write(tmp_path / "b.nii.gz", np.zeros((5, 6, 4), np.uint8), moved), LABELS, space)
    moved[0, 3] = 0.05  # rounding of a header
    assert read_mask(write(tmp_path / "c.nii.gz", np.zeros((5, 6, 4), np.uint8), moved), LABELS, space).shape == (1, 5, 6, 4)


def test_a_flat_volume_may_be_the_mask_of_a_picture(tmp_path):
    mask = write(tmp_path / "m.nii.gz", np.ones((5, 6, 1), np.uint8))
    assert read_mask(mask, LABELS, Space.of((5, 6), physical=False)).shape == (1, 5, 6)


@pytest.mark.parametrize(("kinds", "expected"), [(("int16",), "int16"), (("uint8", "uint8"), "uint8"), (("uint8", "int16"), "float32"),
                                                 (("int32",), "float32"), (("float64",), "float32")])  # fmt: skip
def test_small_whole_numbers_stay_in_their_kind(tmp_path, kinds, expected):
    pixels = {f"c{k}": np.random.default_rng(k).integers(0, 100, (4, 5, 3)).astype(kind) for k, kind in enumerate(kinds)}
    made = case(**{name: write(tmp_path / f"{name}.nii.gz", array) for name, array in pixels.items()})
    channels = dict.fromkeys(pixels, 1)
    found, floats = read_stored(made, channels), read_images(made, channels)
    assert found.array.dtype == expected and floats.array.dtype == np.float32
    np.testing.assert_array_equal(found.array, floats.array)


def test_whole_numbers_beside_a_channel_that_is_not_there_are_floats(tmp_path):
    made = case(t2=write(tmp_path / "t2.nii.gz", np.ones((3, 3, 3), np.int16)))
    found = read_stored(made, {"t1": 1, "t2": 1}).array
    assert found.dtype == np.float32 and np.isnan(found[0]).all() and (found[1] == 1).all()
