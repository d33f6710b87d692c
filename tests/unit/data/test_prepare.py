"""There and back: whatever the orientation, the crop and the spacing, an answer lands on the scan's own grid, voxel by voxel."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from vesalius.core.space import Space
from vesalius.data.normalise import Normalise
from vesalius.data.prepare import Preparation, nonzero_box, normalised, prepare, softened
from vesalius.io.image import Image
from vesalius.io.resample import resample

PLAIN = Preparation(channels={"a": 1}, normalise=(Normalise(),))


def oblique(shape, *, seed=0, order=(0, 1, 2), flips=(1, 1, 1), spacing=(0.8, 1.0, 2.5)):
    """A rotated grid whose axes are permuted and flipped."""
    draw = np.random.default_rng(seed)
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", draw.uniform(-25, 25, 3), degrees=True).as_matrix()
    affine[:3, :3] = turn[:, list(order)] * np.array(flips) * np.array(spacing)
    affine[:3, 3] = draw.uniform(-80, 80, 3)
    return Space(shape, affine)


def noise(space, *, seed=0, channels=1):
    return np.random.default_rng(seed).normal(100, 20, (channels, *space.shape)).astype(np.float32)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((1, -1), repeat=3)))
def test_an_answer_lands_on_the_scans_own_grid(order, flips):
    space = oblique((7, 8, 5), order=order, flips=flips)
    pixels = noise(space)
    pixels[:, :2], pixels[:, :, -1] = 0, 0  # borders to be cut away
    mask = np.random.default_rng(1).integers(0, 3, (1, *space.shape)).astype(np.uint8) * (pixels != 0)
    made = prepare(Image(pixels, space), replace(PLAIN, crop=True))
    assert made.native.axis_codes == "RAS" and made.image.shape[1:] == made.space.shape == made.native.shape
    assert made.native.shape == tuple(np.array((5, 7, 5))[list(space.canonical_turn().order)])
    assert np.array_equal(made.restore(made.target(mask)), mask)


def test_voxels_keep_their_place_in_the_world():
    space = oblique((9, 8, 7), order=(2, 0, 1), flips=(-1, 1, -1))
    pixels = noise(space)
    pixels[:, 0] = 0
    made = prepare(Image(pixels, space), replace(PLAIN, crop=True))
    index = np.array([3, 4, 2])
    old = np.rint(space.index(made.native.world(index))).astype(int)
    expected = (pixels[0, 1:] - pixels.mean()) / pixels.std()
    assert made.image[(0, *index)] == pytest.approx(normalised(pixels[:, 1:], PLAIN.normalise)[(0, old[0] - 1, *old[1:])], rel=1e-5)
    assert expected.size == made.image.size


def test_another_spacing_keeps_the_field_of_view():
    space = oblique((16, 20, 12), spacing=(1.0, 1.0, 3.0))
    made = prepare(Image(noise(space), space), replace(PLAIN, spacing=(2.0, 2.0, 2.0)))
    assert made.space.shape == (8, 10, 18)
    edges = [grid.world(np.array(corner) * grid.shape - 0.5) for grid in (made.space, made.native) for corner in ((0, 0, 0), (1, 1, 1))]
    np.testing.assert_allclose(edges[:2], edges[2:], atol=1e-9)


def test_a_target_at_another_spacing_is_nearest_neighbour():
    space = Space.of((8, 8), (1.0, 1.0))
    mask = np.zeros((1, 8, 8), np.uint8)
    mask[0, 2:6, 4:] = 3
    made = prepare(Image(noise(space), space), replace(PLAIN, spacing=(2.0, 2.0)))
    expected = np.zeros((1, 4, 4), np.uint8)
    expected[0, 1:3, 2:] = 3
    assert np.array_equal(made.target(mask), expected)


def test_the_answer_outside_the_crop_is_background():
    space = Space.of((10, 10, 10))
    pixels = np.zeros((1, 10, 10, 10), np.float32)
    pixels[:, 3:6, 4:8, 2:9] = 5
    made = prepare(Image(pixels, space), replace(PLAIN, crop=True))
    assert made.native.shape == (3, 4, 7) and made.native.origin == (3.0, 4.0, 2.0)
    answer = made.restore(np.ones((2, 3, 4, 7), np.uint8))
    assert answer.shape == (2, 10, 10, 10) and answer.sum() == 2 * 3 * 4 * 7 and answer[:, 3:6, 4:8, 2:9].all()


def test_pictures_are_neither_turned_nor_scaled():
    space = Space.of((6, 9), physical=False)
    pixels = noise(space, channels=3)
    made = prepare(Image(pixels, space), Preparation(channels={"photo": 3}, normalise=(Normalise(),) * 3))
    assert made.space is made.native and made.image.shape == (3, 6, 9)
    for k in range(3):
        np.testing.assert_allclose(made.image[k], (pixels[k] - pixels[k].mean()) / pixels[k].std(), rtol=1e-4, atol=1e-5)


def test_a_channel_that_is_not_there_is_0_and_holes_are_the_median():
    pixels = np.stack([np.full((4, 4), np.nan), np.arange(16.0).reshape(4, 4)])
    pixels[1, 0, 0] = np.nan
    filled = np.where(np.isnan(pixels[1]), 8, pixels[1])  # the median of 1 ... 15
    found = normalised(pixels, (Normalise(),) * 2)
    assert not found[0].any() and np.isfinite(found).all()
    np.testing.assert_allclose(found[1], (filled - filled.mean()) / filled.std(), rtol=1e-5)


def test_the_box_of_what_is_not_zero():
    pixels = np.zeros((2, 6, 7))
    pixels[0, 2, 3], pixels[1, 4, 1], pixels[1, 5, 6] = 1, -1, np.nan
    assert nonzero_box(pixels) == (slice(2, 5), slice(1, 4))
    assert nonzero_box(np.zeros((1, 3, 4))) == (slice(0, 3), slice(0, 4))


def test_the_number_of_channels_counts_components():
    assert Preparation(channels={"photo": 3, "depth": 1}, normalise=(Normalise(),) * 4).in_channels == 4


def test_what_a_coarser_grid_cannot_hold_is_blurred_away():
    """A checkerboard sampled at every fourth voxel would be a constant of either colour; blurred first it is their mean."""
    board = ((np.indices((64, 64)).sum(0) % 2) * 2.0 - 1)[None].astype(np.float32)
    assert np.abs(softened(board, np.array([4.0, 4.0]))[0, 8:-8, 8:-8]).max() < 0.01
    assert softened(board, np.array([1.2, 1.0])) is board
    ramp = np.arange(64, dtype=np.float32)[None, :, None] * np.ones((1, 1, 64), np.float32)
    assert np.allclose(softened(ramp, np.array([3.0, 3.0]))[0, 8:-8], ramp[0, 8:-8], atol=1e-3)


@pytest.mark.parametrize("factors", [(3.0, 1.0, 1.5), (1.0, 9.0, 2.2), (1.6, 1.3)])
def test_the_blur_is_scipys_gaussian(factors):
    pixels = np.random.default_rng(0).normal(0, 100, (2, 21, 1, 34)[: len(factors) + 1]).astype(np.float32)
    sigma = [(factor - 1) / 2 if factor > 1.4 else 0 for factor in factors]
    expected = np.stack([gaussian_filter(channel.astype(np.float64), sigma, mode="nearest", truncate=3.0) for channel in pixels])
    for laid in (pixels, np.asfortranarray(pixels)):
        found = softened(laid, np.array(factors))
        assert found.dtype == np.float32 and np.abs(found - expected).max() < 2e-4  # of numbers up to 400


def test_pixels_without_a_size_go_to_a_coarser_grid_and_back():
    pixels = np.zeros((1, 60, 90), np.float32)
    pixels[0, 21:39, 30:60] = 1
    image = Image(pixels, Space.of((60, 90), physical=False))
    made = prepare(image, Preparation(channels={"image": 1}, normalise=(Normalise(),), spacing=(3.0, 3.0)))
    assert made.image.shape == (1, 20, 30) and made.native.shape == (60, 90) and not made.space.physical
    assert made.target((pixels > 0).astype(np.uint8)).sum() == 18 * 30 / 9


@pytest.mark.parametrize("spacing", [(1.0, 1.2, 1.6), (2.0, 2.0, 2.0), (0.5, 1.0, 2.5), (0.8, 1.0, 6.0)])
@pytest.mark.parametrize("kind", ["int16", "float32"])
@pytest.mark.parametrize("order", [1, 3])
def test_parts_come_out_as_the_whole(spacing, kind, order, monkeypatch):
    """Normalised, blurred and resampled part by part, against one after the other; two channels, in both orders of memory."""
    monkeypatch.setattr("vesalius.io.separable._SLAB", 300)
    space = oblique((15, 18, 9))
    rules = (Normalise(), Normalise(kind="window", low=60, high=130, mean=100, std=15))
    how = Preparation(channels={"a": 1, "b": 1}, normalise=rules, spacing=spacing, order=order)
    pixels = noise(space, channels=2).astype(kind)
    for array in (pixels, np.asfortranarray(pixels.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)):
        made = prepare(Image(array, space), how)
        whole = normalised(space.canonical_turn().apply(array), rules)
        smooth = softened(whole, np.array(made.native.shape) / np.array(made.space.shape))
        expected = resample(Image(smooth, made.native), made.space, order=order).array
        assert made.image.flags.c_contiguous and made.image.dtype == np.float32
        np.testing.assert_allclose(made.image, expected, atol=5e-5)


def test_a_channel_that_is_not_there_is_0_on_another_grid_too():
    space = Space.of((9, 8, 7), (1.0,) * 3)
    pixels = noise(space, channels=3)
    pixels[0], pixels[1, 4, 4, 4] = np.nan, np.nan
    rule = Normalise(kind="window", low=60, high=130, mean=100, std=15)
    how = Preparation(channels={"a": 1, "b": 1, "c": 1}, normalise=(rule,) * 3, spacing=(1.5,) * 3)
    found = prepare(Image(pixels, space), how).image
    assert not found[0].any() and np.isfinite(found).all() and found[1].any()


@pytest.mark.parametrize("slab", [1, 40, 1 << 20])
def test_the_box_of_parts_is_that_of_the_whole(slab, monkeypatch):
    monkeypatch.setattr("vesalius.data.prepare.SLAB", slab)
    pixels = np.zeros((2, 9, 8, 7), np.int16)
    pixels[0, 3:5, 2, 6], pixels[1, 4, 5, 1] = 7, -1
    for array in (pixels, np.asfortranarray(pixels), pixels.astype(np.float32)):
        assert nonzero_box(array) == (slice(3, 5), slice(2, 6), slice(1, 7))
