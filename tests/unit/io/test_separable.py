"""Lines resampled in C and by numpy, in parts and in place: what scipy makes of the whole scan, axis by axis."""

import weakref

import numpy as np
import pytest
from scipy import ndimage

from vesalius.core.kernels import in_use
from vesalius.io import separable
from vesalius.io.separable import Along, along_axis, as_kind, on_axes, resampled, stacked

FLOATS = np.dtype(np.float32)
made = pytest.mark.skipif(in_use() == "none", reason="the kernels are not made here: python -m vesalius.core.kernels.build")


def along(old, new, sigma=0.0):
    """`new` voxels with the ends of `old` ones."""
    return Along(np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1), sigma)


def values(*shape, kind=FLOATS, seed=0):
    return np.random.default_rng(seed).normal(0, 100, shape).astype(kind)


def by_scipy(channel, axes, order):
    """Each axis in double precision: the blur, then the interpolation at the places of one axis among the whole ones of the others."""
    out = channel.astype(np.float64)
    for axis, one in enumerate(axes):
        if one.sigma:
            out = ndimage.gaussian_filter1d(out, one.sigma, axis=axis, mode="nearest", truncate=3.0)
        index = np.meshgrid(*[one.place if a == axis else np.arange(side) for a, side in enumerate(out.shape)], indexing="ij")
        alone = out.shape[axis] == 1
        out = out.take([0] * len(one.place), axis) if alone else ndimage.map_coordinates(out, index, order=order, mode="mirror")
    return out


SIDES = [((13, 40, 17), (10, 33, 22)), ((1, 5, 70), (3, 4, 1)), ((2, 3, 4), (5, 2, 9)), ((34, 33), (20, 50)), ((31, 29, 30), (31, 9, 8))]


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("sigma", [0.0, 0.8])
@pytest.mark.parametrize(("old", "new"), SIDES)
def test_parts_in_place_are_what_scipy_makes_of_the_whole(old, new, sigma, order, monkeypatch):
    axes = [along(a, b, sigma if a > b else 0.0) for a, b in zip(old, new, strict=True)]
    channel = values(*old)
    expected = by_scipy(channel, axes, order)
    for turn in (range(len(old)), range(len(old))[::-1]):
        laid = np.ascontiguousarray(channel.transpose(turn)).transpose(np.argsort(turn))
        for slab, cached in ((1, 1), (200, 300), (1 << 22, 1 << 17)):
            monkeypatch.setattr(separable, "_SLAB", slab)
            monkeypatch.setattr(separable, "_CACHED", cached)
            monkeypatch.setattr(separable, "_TOGETHER", min(slab // 40 + 1, 16))
            found = resampled(laid, axes, order=order, made=lambda part: part, kind=FLOATS)
            assert found.shape == new and found.flags.c_contiguous
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)  # of numbers about 100


KINDS = [pytest.param("kernel", np.float32, marks=made), ("numpy", np.float32), ("numpy", np.float64), ("numpy", np.complex128)]


@pytest.mark.parametrize(("by", "kind"), KINDS)
@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("sigma", [0.0, 0.7, 4.0])
@pytest.mark.parametrize("shape", [(1, 2, 1), (1, 3, 31), (3, 25, 33), (2, 24, 64), (70, 41, 1), (5, 7, 3), (1, 1, 40), (4, 100, 32)])
@pytest.mark.parametrize("new", [1, 17, 60])
def test_lines_are_what_scipy_makes(shape, new, sigma, order, by, kind, monkeypatch):
    block, axes = values(*shape, kind=kind), [along(shape[0], shape[0]), along(shape[1], new, sigma), along(shape[2], shape[2])]
    if kind == np.complex128:
        block.imag = values(*shape, kind=np.float64, seed=1)
    if by == "numpy":
        monkeypatch.setattr(separable, "kernel", lambda name, kinds: None)
        monkeypatch.setattr(separable, "_CACHED", 1000)
    found = separable._lines(block, axes[1], order=order)
    assert found.shape == (shape[0], new, shape[2]) and found.dtype == block.dtype
    exact = 1e-5 if kind == np.float32 else 1e-12
    for part in (np.real, np.imag):
        np.testing.assert_allclose(part(found), by_scipy(part(block), axes, order), rtol=0, atol=exact * np.ptp(block.real))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_coefficients_are_those_of_scipy(kind):
    for sides in ((1, 5), (2, 5), (3, 5), (39, 5), (41, 5), (300, 5)):
        rows = values(*sides, kind=kind)
        expected = ndimage.spline_filter1d(rows.astype(np.float64), 3, axis=0, mode="mirror") if len(rows) > 1 else rows.copy()
        separable._to_coefficients(rows)
        np.testing.assert_allclose(rows, expected, rtol=0, atol=(1e-5 if kind == np.float32 else 1e-12) * 400)


@made
def test_a_hole_goes_as_far_in_numpy_as_in_the_kernel(monkeypatch):
    block, one = values(2, 50, 40), along(50, 40)
    block[0, 30, 7], block[1, 3, 8] = np.nan, np.inf
    for order in (1, 3):
        quick = separable._lines(block, one, order=order)
        with monkeypatch.context() as patch:
            patch.setattr(separable, "kernel", lambda name, kinds: None)
            slow = separable._lines(block, one, order=order)
        assert np.array_equal(np.isfinite(quick), np.isfinite(slow)) and not np.isfinite(quick).all()


def test_lines_do_not_know_their_neighbours():
    """Whatever else is resampled with it, a line comes out with the same bits."""
    block, one = values(3, 37, 45), along(37, 30)
    whole = separable._lines(block, one, order=3)
    for k, j in ((0, 0), (1, 31), (2, 44)):
        assert np.array_equal(separable._lines(block[k : k + 1, :, j : j + 1], one, order=3)[0, :, 0], whole[k, :, j])


def test_a_parabola_is_kept_by_cubic_lines():
    x = np.arange(60.0)
    one = Along(np.linspace(20, 40, 31))
    line = ((x - 30) ** 2).astype(np.float32)[:, None]
    np.testing.assert_allclose(along_axis(line, 0, one, order=3)[:, 0], (one.place - 30) ** 2, atol=1e-3)


def test_values_are_made_part_by_part(monkeypatch):
    monkeypatch.setattr(separable, "_SLAB", 100)
    seen, channel = [], values(6, 7, 8, kind=np.int16)

    def doubled(part):
        seen.append(part.shape)
        return part.astype(np.float32) * 2

    found = resampled(channel, [along(6, 5), along(7, 9), along(8, 8)], order=1, made=doubled, kind=FLOATS)
    assert seen == [(1, 7, 8)] * 6
    np.testing.assert_allclose(found, 2 * by_scipy(channel, [along(6, 5), along(7, 9), along(8, 8)], 1), rtol=1e-5, atol=1e-3)


def test_whole_numbers_are_rounded_and_stay_in_their_range():
    array = values(2, 9, 8, kind=np.float64).clip(0, 255).astype(np.uint8)
    axes = [along(9, 14), along(8, 5)]
    expected = np.stack([by_scipy(channel, axes, 3) for channel in array])
    found = on_axes(array, axes, order=3)
    assert found.dtype == np.uint8 and np.abs(found - expected.clip(0, 255)).max() <= 0.51
    assert as_kind(np.array([[-3.0, 0.4, 254.6, 300]]), np.dtype(np.uint8)).tolist() == [[0, 0, 255, 255]]


@pytest.mark.parametrize("turn", [(0, 1, 2, 3), (0, 3, 2, 1)])
def test_the_nearest_are_taken_in_any_order_of_memory(turn):
    array = values(2, 13, 90, 70, kind=np.int16).transpose(turn)
    axes = [along(side, new) for side, new in zip(array.shape[1:], (80, 66, 20), strict=True)]
    near = [np.floor(one.place + 0.5 - 1e-6).astype(int) for one in axes]
    assert np.array_equal(on_axes(array, axes, order=0), array[np.ix_(range(2), *near)])


def test_voxels_that_stay_are_a_copy_of_their_own():
    array = values(1, 4, 5)
    found = on_axes(array, [along(4, 4), along(5, 5)], order=3)
    assert np.array_equal(found, array) and not np.shares_memory(found, array)


def test_channels_are_made_one_after_the_other():
    alive = []

    def channels():
        for number in range(3):
            assert all(one() is None for one in alive)
            made = np.full((2, 2), number)
            alive.append(weakref.ref(made))
            yield made
            del made

    assert stacked(channels(), 3)[:, 0, 0].tolist() == [0, 1, 2]
    one = np.arange(6).reshape(2, 3)
    assert np.shares_memory(stacked([one], 1), one) and stacked([one], 1).shape == (1, 2, 3)
