"""Copies between orders of memory, tile by tile: the same values whatever the order, the direction and the size."""

from itertools import permutations

import numpy as np
import pytest

from vesalius.core import order
from vesalius.core.order import closest, contiguous, fill, furthest, slabs


def laid_out(shape, axes, *, flips=(), kind=np.int16):
    """Numbers (C, *S) whose axes lie in memory in the order of `axes`, some of them backwards."""
    array = np.arange(np.prod(shape), dtype=kind).reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes))
    return array[tuple(slice(None, None, -1 if axis in flips else None) for axis in range(len(shape)))]


@pytest.mark.parametrize("shape", [(1, 3, 70, 5), (2, 65, 4, 66), (1, 1, 7, 130), (1, 5, 1, 1), (3, 1, 1, 1)])
@pytest.mark.parametrize("axes", [(0, *some) for some in permutations((1, 2, 3))])
def test_a_volume_is_copied_into_any_order(shape, axes, monkeypatch):
    monkeypatch.setattr(order, "SMALL", 0)
    array = laid_out(shape, axes, flips=(1, 3))
    assert np.array_equal(contiguous(array), array) and contiguous(array).flags.c_contiguous
    out = np.zeros_like(array)
    fill(out, np.ascontiguousarray(array))
    assert np.array_equal(out, array)


@pytest.mark.parametrize("shape", [(1, 3, 70), (2, 130, 66), (1, 1, 7), (4, 7, 1)])
def test_a_picture_is_copied_too_and_numbers_change_their_kind(shape, monkeypatch):
    monkeypatch.setattr(order, "SMALL", 0)
    array, out = laid_out(shape, (0, 2, 1), flips=(2,)), np.zeros(shape, np.float32)
    fill(out, array)
    assert np.array_equal(out, array)


def test_what_is_in_order_is_not_copied():
    array = laid_out((2, 3, 4, 5), (0, 1, 2, 3))
    assert contiguous(array) is array


def test_the_axes_that_are_closest_and_furthest():
    array = laid_out((2, 3, 4, 5), (0, 3, 1, 2), flips=(2,))
    assert (closest(array), furthest(array)) == (2, 3)
    assert (closest(array[:, :, :1]), furthest(array[..., :1])) == (1, 1)


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 2, 1)])
@pytest.mark.parametrize(("voxels", "least", "thick"), [(1, 1, 1), (130, 1, 2), (130, 4, 4), (10**6, 1, 5)])
def test_slabs_are_cut_across_what_is_furthest_apart_and_cover_all(axes, voxels, least, thick):
    array = laid_out((2, 5, 12, 5), axes)
    places = list(slabs(array, voxels, least=least))
    assert np.array_equal(np.concatenate([array[at] for at in places], axis=axes[1]), array)
    assert array[places[0]].shape[axes[1]] == thick
