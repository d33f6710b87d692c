"""Connected parts in C and by numpy: the numbers and boxes of scipy.ndimage, and shapes of which one knows the parts."""

import ctypes

import numpy as np
import pytest
from scipy import ndimage

from vesalius.core import connected
from vesalius.core.connected import around, boxes, numbered
from vesalius.core.kernels import in_use

made = pytest.mark.skipif(in_use() == "none", reason="the kernels are not made here: python -m vesalius.core.kernels.build")
SHAPES = [(1,), (40,), (1000,), (1, 1), (1, 33), (33, 1), (17, 29), (1, 1, 1), (1, 9, 40), (9, 1, 33), (9, 40, 1), (7, 11, 35), (16,) * 3]


@pytest.fixture(params=[pytest.param("kernel", marks=made), "numpy"])
def by(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(connected, "kernel", lambda name, kinds: None)


def like_scipy(mask):
    expected, count = ndimage.label(mask)
    numbers, found = numbered(mask)
    assert found == count and numbers.dtype == np.int32 and np.array_equal(numbers, expected)
    assert boxes(numbers, found) == ndimage.find_objects(expected)
    everything = ndimage.find_objects(mask.astype(np.uint8))
    assert around(mask) == (everything[0] if everything else None)
    return found


@pytest.mark.parametrize("density", [0.03, 0.31, 0.5, 0.6, 0.95])
@pytest.mark.parametrize("shape", SHAPES)
def test_noise(shape, density, by):
    for seed in range(5):
        like_scipy(np.random.default_rng(seed).random(shape) < density)


@pytest.mark.parametrize("shape", SHAPES)
def test_none_and_all(shape, by):
    assert like_scipy(np.zeros(shape, bool)) == 0
    assert like_scipy(np.ones(shape, bool)) == 1


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0), (3, 0, 2)])
def test_where_there_is_no_voxel_there_is_no_part(shape, by):
    numbers, count = numbered(np.zeros(shape, bool))
    assert numbers.shape == shape and count == 0 and boxes(numbers, 0) == [] and around(np.zeros(shape, bool)) is None


def snake(rows, columns):
    """Every other row, each joined with the next at one end: one part, if it is followed to its end."""
    mask = np.zeros((rows, columns), bool)
    mask[::2] = True
    mask[1:-1:4, -1] = mask[3:-1:4, 0] = True
    return mask


def spiral(side):
    """From a corner inwards, a free line beside it."""
    mask, at, step = np.zeros((side + 4, side + 4), bool), np.array([2, 2]), np.array([0, 1])
    mask[2, 2] = True
    for _ in range(2 * side):
        while (at + step < side + 2).all() and (at + step >= 2).all() and not mask[tuple(at + 2 * step)]:
            at += step
            mask[tuple(at)] = True
        step = np.array([step[1], -step[0]])
    return mask[2:-2, 2:-2]


def test_snakes_and_spirals_are_one_part(by):
    for shape in (snake(301, 40), spiral(61)):
        assert 0.4 < shape.mean() < 0.6
        for turned in (shape, shape.T, shape[::-1], shape[:, ::-1]):
            assert like_scipy(turned) == 1
    assert like_scipy(~spiral(61)) == 1 and like_scipy(~snake(301, 40)) == 150
    assert like_scipy(np.stack([snake(31, 30), np.zeros((31, 30), bool), snake(31, 30)])) == 2


def test_combs_are_joined_at_their_last_row(by):
    """Teeth that are parts of their own until the end, where each is found to be of the first."""
    comb = np.zeros((50, 2001), bool)
    comb[:, ::2] = comb[-1] = True
    assert like_scipy(comb) == like_scipy(comb[::-1]) == like_scipy(comb.T) == 1


@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_any_order_of_memory(turn, by):
    mask = np.random.default_rng(0).random((9, 14, 22)) < 0.4
    like_scipy(mask.transpose(turn)[::-1, 1:, ::2])


def test_voxels_that_share_an_edge_are_apart(by):
    numbers, count = numbered(np.array([[1, 0, 0], [0, 1, 1], [1, 1, 0]], bool))
    assert count == 2 and numbers.tolist() == [[1, 0, 0], [0, 2, 2], [2, 2, 0]]


def test_without_memory_for_the_kernel_numpy_answers(monkeypatch):
    def refuses(*words):
        ctypes.c_int64.from_address(words[-1]).value = -1

    monkeypatch.setattr(connected, "kernel", lambda name, kinds: refuses if name == "connected" else None)
    assert like_scipy(np.random.default_rng(0).random((9, 14, 22)) < 0.4) > 9
