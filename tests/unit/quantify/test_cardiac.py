"""Measurements of a heart: against the closed forms of ellipsoids, circles and boxes."""

import numpy as np
import pytest

from vesalius.core.errors import DataError
from vesalius.core.space import Space
from vesalius.quantify.cardiac import DEFINITIONS, DENSITY, Chambers, cardiac, ejection_fraction, volumes, wall

SPACE = Space.of((64, 64, 12), (1.5, 1.5, 8.0))


def inside(space, centre, radii):
    """Voxels whose centres lie in an ellipsoid, in millimetres from the middle of the grid."""
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(space.shape, space.spacing, strict=True)]
    places = np.meshgrid(*axes, indexing="ij")
    return sum(((x - c) / r) ** 2 for x, c, r in zip(places, centre, radii, strict=True)) <= 1


def heart(space, left, muscle, right):
    """Ellipsoids by their radii: the left cavity within the muscle, the right one beside them."""
    mask = np.zeros(space.shape, np.uint8)
    mask[inside(space, (-20, 0, 0), right)] = 1
    mask[inside(space, (12, 0, 0), muscle)] = 2
    mask[inside(space, (12, 0, 0), left)] = 3
    return mask


def millilitres(radii):
    return 4 / 3 * np.pi * np.prod(radii) / 1e3


def test_volumes_fractions_and_mass_of_ellipsoids():
    fine = Space.of((120, 120, 100), (0.8, 0.8, 0.9))
    rest, beat, right, small = (22, 22, 38), (16, 16, 34), (12, 20, 36), (9, 17, 30)
    outer = (28, 28, 42)
    begun = heart(fine, rest, outer, right)
    ended = heart(fine, beat, outer, small)
    overlap = (inside(fine, (-20, 0, 0), right) & inside(fine, (12, 0, 0), outer)).sum() * fine.voxel_volume / 1e3
    found = cardiac(begun, ended, fine)
    assert found.keys() == DEFINITIONS.keys()
    assert found["left_diastolic_ml"] == pytest.approx(millilitres(rest), rel=0.01)
    assert found["left_systolic_ml"] == pytest.approx(millilitres(beat), rel=0.01)
    expected = 100 * (1 - np.prod(beat) / np.prod(rest))
    assert found["left_ejection_percent"] == pytest.approx(expected, abs=0.7)
    assert found["right_diastolic_ml"] == pytest.approx(millilitres(right) - overlap, rel=0.01)
    assert found["mass_g"] == pytest.approx(DENSITY * (millilitres(outer) - millilitres(rest)), rel=0.015)
    assert found["mass_to_volume_g_per_ml"] == found["mass_g"] / found["left_diastolic_ml"]
    assert found["right_to_left_systolic"] == found["right_systolic_ml"] / found["left_systolic_ml"]


def test_volumes_are_voxels_times_millilitres_on_an_oblique_grid():
    affine = np.array([[1.2, -0.9, 0, 5], [0.9, 1.2, 0, 3], [0, 0, 8, 1], [0, 0, 0, 1.0]])
    mask = np.zeros((10, 9, 5), np.uint8)
    mask[2:6, 2:7, 1:4] = 3
    found = volumes(mask, Space(mask.shape, affine), chambers=Chambers())
    assert found["left"] == pytest.approx(4 * 5 * 3 * 1.5 * 1.5 * 8 / 1e3) and found["right"] == found["myocardium"] == 0


@pytest.mark.parametrize(("axis", "radii"), [(0, (21, 30)), (1, (12, 18)), (2, (25, 36))])
def test_the_wall_between_concentric_circles_is_the_difference_of_their_radii(axis, radii):
    """Along whichever axis the slices lie; slices without a cavity do not count."""
    flat = Space.of((80, 80, 5), (1.0, 1.0, 9.0))
    mask = np.zeros(flat.shape, np.uint8)
    mask[inside(flat, (0, 0, 0), (radii[1], radii[1], 1e3))] = 2
    mask[inside(flat, (0, 0, 0), (radii[0], radii[0], 1e3))] = 3
    mask[..., 4][mask[..., 4] == 3] = 2
    lying = np.moveaxis(mask, 2, axis)
    found = wall(lying, Space.of(lying.shape, [9.0 if k == axis else 1.0 for k in range(3)]), chambers=Chambers())
    assert len(found) == (mask[..., :4] == 2).sum()
    assert found.mean() == pytest.approx(radii[1] - radii[0], abs=0.25) and found.std() < 0.4


def test_what_is_not_there_is_not_a_number_and_what_does_not_fit_is_refused():
    nothing = np.zeros(SPACE.shape, np.uint8)
    found = cardiac(nothing, nothing, SPACE)
    assert found["left_diastolic_ml"] == found["mass_g"] == 0
    assert all(np.isnan(found[name]) for name in ("left_ejection_percent", "thickness_diastolic_mm", "thickening_percent"))
    assert np.isnan(ejection_fraction(0, 0)) and ejection_fraction(120, 48) == 60
    with pytest.raises(DataError, match=r"one grid of three axes.*\(3, 3\)"):
        cardiac(nothing, np.zeros((3, 3)), SPACE)


def test_other_values_of_the_parts():
    mask = heart(SPACE, (18, 18, 30), (25, 25, 36), (10, 16, 30))
    other = np.array([0, 500, 200, 600])[mask]
    assert cardiac(mask, mask, SPACE) == pytest.approx(cardiac(other, other, SPACE, chambers=Chambers(500, 200, 600)), nan_ok=True)
