"""What a coarser grid holds of masks, on masks of which that is known."""

import numpy as np
import pytest

from vesalius.data.detail import FACTORS, LARGEST, _around, fine_axes, pooled, survival


def square(side, *, grid=96):
    mask = np.zeros((1, grid, grid), bool)
    start = (grid - side) // 2
    mask[0, start : start + side, start : start + side] = True
    return mask


def test_a_thick_object_survives_what_a_thin_one_does_not():
    line = np.zeros((1, 96, 96), bool)
    line[0, :, 47] = True
    thick, thin = survival(square(64), (1.0, 1.0))[:, 0], survival(line, (1.0, 1.0))[:, 0]
    assert (thick > 0.97).all() and thin[FACTORS.index(4.0)] < 0.5
    assert thick[-1] > thin[-1]


def test_blocks_that_lie_on_the_coarser_grid_come_back_nearly_whole():
    """A square of 48 in 96, halved, is one of 24 in 48 exactly; linear interpolation rounds its corners alone."""
    assert survival(square(48), (1.0, 1.0))[FACTORS.index(2.0), 0] > 0.99


def test_a_thick_axis_is_not_reduced():
    """One slice of a stack of thick slices: along them nothing is lost, along thin ones everything."""
    mask = np.zeros((1, 48, 48, 7), bool)
    mask[0, 8:40, 8:40, 3] = True
    thick, thin = (survival(mask, (1.0, 1.0, z))[FACTORS.index(3.0), 0] for z in (5.0, 1.0))
    assert fine_axes((1.0, 1.0, 5.0)) == (True, True, False) and thick > 0.95 and thin < 0.1


def test_absent_classes_are_left_out_of_the_mean():
    both = np.concatenate([square(40), np.zeros((1, 96, 96), bool)])
    rows = [survival(both, (1.0, 1.0)), survival(both, (1.0, 1.0))]
    assert np.isnan(rows[0][:, 1]).all() and pooled(rows)["dice"] == pytest.approx(rows[0][:, 0].tolist())
    assert pooled(rows)["factors"] == list(FACTORS)
    assert pooled([survival(np.zeros((2, 8, 8), bool), (1.0, 1.0))])["dice"] == pooled([])["dice"] == []


def test_only_the_surroundings_of_a_class_are_looked_at():
    assert _around(square(10)[0]).shape == (26, 26)
    assert _around(np.ones((5000, 4000), bool)).size <= LARGEST
