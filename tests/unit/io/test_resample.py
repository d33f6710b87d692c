"""Resampling against functions that it must reproduce exactly, and against scipy's own interpolation."""

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from vesalius.core.errors import GeometryError
from vesalius.core.space import Space
from vesalius.io import separable
from vesalius.io.image import Image
from vesalius.io.resample import resample


def oblique(shape, spacing, *, degrees=20.0, origin=(5, -7, 11)) -> Space:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [degrees, -degrees / 2, degrees / 3], degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = origin
    return Space(shape, affine)


def plane(space: Space) -> Image:
    """A linear function of world position, which orders 1 and 3 reproduce exactly inside."""
    grid = np.stack(np.meshgrid(*[np.arange(s) for s in space.shape], indexing="ij"), -1)
    world = space.world(grid)
    return Image((world @ np.arange(1, space.ndim + 1) + 100)[None].astype(np.float64), space)


@pytest.mark.parametrize("order", [1])
@pytest.mark.parametrize("rotate", [0.0, 20.0])
def test_a_plane_stays_a_plane(order, rotate):
    source = plane(Space.of((30, 32, 28), (1.0, 1.2, 2.0), origin=(-15, -18, -25)))
    target = oblique((10, 11, 12), (0.7, 0.9, 1.1), degrees=rotate, origin=(-4, -5, -6))
    found = resample(source, target, order=order)
    assert np.allclose(found.array, plane(target).array, atol=1e-6)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_permuted_and_flipped_grids_copy_exactly(order):
    values = np.random.default_rng(0).integers(-500, 500, (2, 5, 6, 7)).astype(np.int16)
    image = Image(values, oblique((5, 6, 7), (1.0, 2.0, 3.0)))
    turned = image.canonical()
    assert np.array_equal(resample(image, turned.space, order=order).array, turned.array)


def test_nearest_agrees_with_indices_computed_by_hand():
    values = np.arange(10, dtype=np.uint8)[None, :, None] * np.ones((1, 1, 4), np.uint8)
    image = Image(values, Space.of((10, 4)))
    target = Space.of((4, 4), (3.0, 1.0), origin=(0.4, 0))  # rows at 0.4, 3.4, 6.4, 9.4
    assert resample(image, target, order=0).array[0, :, 0].tolist() == [0, 3, 6, 9]


@pytest.mark.parametrize("order", [1, 3])
def test_the_separable_path_agrees_with_scipy(order):
    rng = np.random.default_rng(1)
    image = Image(rng.normal(size=(1, 12, 14, 10)), Space.of((12, 14, 10)))
    target = Space.of((9, 20, 6), (1.2, 0.6, 1.5), origin=(0.3, 0.2, 1.0))
    places = [o + d * np.arange(n) for o, d, n in zip(target.origin, target.spacing, target.shape, strict=True)]
    index = np.stack(np.meshgrid(*places, indexing="ij"))
    expected = ndimage.map_coordinates(image.array[0], index, order=order, mode="mirror")
    inside = (index <= np.array([11, 13, 9]).reshape(3, 1, 1, 1)).all(0)
    assert np.allclose(resample(image, target, order=order).array[0][inside], expected[inside], atol=1e-10)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_both_paths_agree(order):
    """A rotation too small to matter, yet large enough to leave the separable path."""
    rng = np.random.default_rng(2)
    image = Image(ndimage.gaussian_filter(rng.normal(size=(20, 20, 20)), 2)[None], Space.of((20, 20, 20)))
    straight, turned = (oblique((8, 8, 8), (1.1, 0.9, 1.3), degrees=d, origin=(3.21, 4.13, 2.37)) for d in (0.0, 0.02))
    a, b = (resample(image, s, order=order).array for s in (straight, turned))
    assert np.abs(a - b).max() < (0.1 if order == 0 else 2e-3)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("old", [(13, 11, 17), (19, 1, 12), (2, 14, 3), (15, 22)])
@pytest.mark.parametrize("turn", [False, True])
def test_oblique_grids_agree_with_scipy(old, kind, order, turn, monkeypatch):
    monkeypatch.setattr("vesalius.io.resample._CACHED", 50)
    monkeypatch.setattr("vesalius.io.resample._SLAB", 700)
    n, new = len(old), (12, 15, 14)[: len(old)]
    affine = np.eye(n + 1)
    affine[:n, :n] = Rotation.from_euler("xyz", [17, -9, 20 if n == 3 else -20], degrees=True).as_matrix()[:n, :n] * 1.1
    values = np.random.default_rng(0).normal(100, 60, (2, *old)).clip(0, 255).astype(kind)
    if kind == np.complex128:
        values.imag = values.real[:, ::-1]
    if turn:
        values = np.asfortranarray(values.transpose(*range(1, n + 1), 0)).transpose(n, *range(n))
    found = resample(Image(values, Space.of(old)), Space(new, affine), order=order, fill=7).array
    index = np.moveaxis(np.indices(new), 0, -1) @ affine[:n, :n].T
    inside = ((index > -0.5) & (index < np.array(old) - 0.5)).all(-1)
    index = np.moveaxis(index.clip(0, np.array(old) - 1), -1, 0)
    wide = np.result_type(values, np.float64)
    expected = np.stack([ndimage.map_coordinates(channel.astype(wide), index, order=order, mode="mirror") for channel in values])
    if kind == np.uint8:
        expected = expected.clip(0, 255)
    exact = 1e-10 if kind in (np.float64, np.complex128) else 2e-3 if kind == np.float32 else 0.501
    assert found.dtype == kind and 10 < inside.sum() < inside.size and (found[:, ~inside] == 7).all()
    assert np.abs(found - expected)[:, inside].max() <= (exact if order else 0)


def test_outside_is_air_for_images_and_zero_for_masks():
    image = Image(np.full((1, 4, 4, 4), -900, np.int16), Space.of((4, 4, 4)))
    image.array[0, 0, 0, 0] = -1000
    far = Space.of((4, 4, 4), origin=(10, 0, 0))
    assert (resample(image, far).array == -1000).all()
    assert (resample(image, far, order=0).array == 0).all()
    assert (resample(image, oblique((4, 4, 4), (1, 1, 1), origin=(50, 50, 50)), fill=7).array == 7).all()


def test_the_border_voxel_reaches_half_a_voxel_out():
    image = Image(np.array([[1.0, 2.0]])[:, :, None], Space.of((2, 1)))
    found = resample(image, Space.of((5, 1), (0.5, 1.0), origin=(-0.5, 0)), fill=-1).array[0, :, 0]
    assert found.tolist() == [1, 1, 1.5, 2, 2]


def test_nan_stays_where_it_is_on_a_crop():
    values = np.zeros((1, 6, 6))
    values[0, 2, 2] = np.nan
    found = resample(Image(values, Space.of((6, 6))), Space.of((4, 4), origin=(1, 1))).array
    assert np.isnan(found).sum() == 1 and np.isnan(found[0, 1, 1])


def test_unlike_worlds_are_refused():
    image = Image(np.zeros((1, 4, 4)), Space.of((4, 4), physical=False))
    with pytest.raises(GeometryError, match="px"):
        resample(image, Space.of((4, 4)))
    with pytest.raises(GeometryError, match="axes"):
        resample(image, Space.of((4, 4, 4)))
    with pytest.raises(GeometryError, match="order"):
        resample(image, Space.of((2, 2), physical=False), order=2)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("turn", [(0, 1, 2, 3), (0, 3, 2, 1)])
def test_parts_that_fit_the_cache_make_the_same_whole(order, turn, monkeypatch):
    """Whatever the order of axes in memory, and as exactly as in one piece."""
    array = np.random.default_rng(0).normal(size=(2, 13, 11, 17)).astype(np.float32).transpose(turn)
    image = Image(array, Space.of(array.shape[1:], (1, 1, 1)))
    space = image.space.with_spacing((1.3, 0.8, 1.7))
    found = []
    for voxels in (1, 300, 1 << 30):
        monkeypatch.setattr(separable, "_CACHED", voxels)
        found.append(resample(image, space, order=order).array)
    assert np.array_equal(found[0], found[2]) and np.array_equal(found[1], found[2])


def test_beside_what_comes_in_and_out_little_memory_is_needed(monkeypatch):
    """What goes out lies where two of three axes were resampled."""
    monkeypatch.setattr(separable, "_CACHED", 1 << 11)
    monkeypatch.setattr(separable, "_SLAB", 1 << 12)
    monkeypatch.setattr(separable, "_TOGETHER", 4)
    image = Image(np.random.default_rng(0).normal(size=(1, 64, 64, 64)).astype(np.float32), Space.of((64,) * 3, (1.0,) * 3))
    space = image.space.with_spacing((1.25,) * 3)
    resample(image, space, order=3)  # imports
    tracemalloc.start()
    found = resample(image, space, order=3).array
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.nbytes < peak < image.array.nbytes * (space.shape[0] / 64) ** 2 * 1.2
