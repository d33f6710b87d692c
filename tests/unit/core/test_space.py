"""Where voxels are: against formulas, against nibabel, and there and back for grids turned any way."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vesalius.core.errors import GeometryError
from vesalius.core.space import Space, Turn

SIDES = st.tuples(*[st.integers(1, 9)] * 3)
SPACINGS = st.tuples(*[st.floats(0.2, 6)] * 3)
ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)
TURNS = [Turn(order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)]


def oblique(shape, spacing, angles, origin=(-12.5, 40.0, 3.25)) -> Space:
    """A grid turned by Euler `angles` in degrees."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.asarray(spacing)
    affine[:3, 3] = origin
    return Space(shape, affine)


SPACES = st.builds(oblique, SIDES, SPACINGS, ANGLES)


def indices(shape):
    """Every index of a grid, (*shape, n)."""
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)


def test_spacing_is_the_length_of_a_step():
    space = oblique((4, 5, 6), (0.5, 1.25, 3.0), (10, 20, 30))
    assert space.spacing == pytest.approx((0.5, 1.25, 3.0))
    assert space.voxel_volume == pytest.approx(0.5 * 1.25 * 3.0)
    for axis, step in enumerate(np.eye(3)):
        assert np.linalg.norm(space.world(step) - space.world(np.zeros(3))) == pytest.approx(space.spacing[axis])
    assert space.direction.T @ space.direction == pytest.approx(np.eye(3))
    assert space.shear < 1e-12


def test_gantry_tilt_shows_as_shear():
    tilt = np.deg2rad(15)
    affine = np.eye(4)
    affine[:3, 2] = [0, np.sin(tilt), np.cos(tilt)]
    assert Space((2, 2, 2), affine).shear == pytest.approx(np.sin(tilt))


@given(SPACES)
def test_index_undoes_world(space):
    points = np.random.default_rng(0).uniform(-5, 15, (7, 3))
    assert space.index(space.world(points)) == pytest.approx(points, abs=1e-8)
    assert space.world(np.zeros(3)) == pytest.approx(space.origin)


@given(SPACES)
def test_axis_codes_are_those_of_nibabel(space):
    assert space.axis_codes == "".join(nib.orientations.aff2axcodes(space.affine)) or abs(space.direction).max(0).min() < 0.75
    # (where an axis lies between two directions both answers are right; nibabel chooses greedily, we choose the best sum)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAR", "ILA", "ASL"])
def test_axis_codes_of_straight_grids(codes):
    affine = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(codes), (3, 4, 5))
    assert Space((3, 4, 5), np.linalg.inv(affine)).axis_codes == codes


@given(SPACES)
def test_the_canonical_turn_brings_the_grid_to_ras(space):
    turned = space.turned(space.canonical_turn())
    assert turned.canonical_turn() == Turn((0, 1, 2), (False, False, False))
    assert turned.voxel_volume == pytest.approx(space.voxel_volume)


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_a_turned_voxel_stays_in_its_place(turn):
    """Each voxel carries its own world position: after the turn it must still lie there."""
    space = oblique((3, 4, 5), (1, 2, 3), (20, -35, 70))
    places = space.world(indices(space.shape))
    carried = np.stack([turn.apply(places[..., axis]) for axis in range(3)], -1)
    turned = space.turned(turn)
    assert carried.shape[:3] == turned.shape
    assert turned.world(indices(turned.shape)) == pytest.approx(carried, abs=1e-9)


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_undo_gives_the_array_back_without_a_copy(turn):
    image = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    there = turn.apply(image)
    assert np.shares_memory(there, image)
    assert (turn.undo(there) == image).all()
    assert (turn.apply(turn.undo(image)) == image).all()


@given(SPACES, SIDES)
def test_scaled_keeps_the_outer_edges(space, shape):
    """Edges lie at index -1/2 and side - 1/2; both grids must have them in the same places."""
    other = space.scaled(shape)
    assert other.shape == shape
    for corner in product((0, 1), repeat=3):
        edge = np.asarray(corner) * np.asarray(space.shape) - 0.5
        same = np.asarray(corner) * np.asarray(shape) - 0.5
        assert other.world(same) == pytest.approx(space.world(edge), abs=1e-8)


def test_scaled_to_its_own_shape_is_the_same_grid():
    space = oblique((3, 4, 5), (1, 2, 3), (5, 6, 7))
    assert space.scaled(space.shape).same_as(space)


def test_halving_puts_the_first_centre_between_two():
    assert Space.of((8,) * 2, (1.0, 1.0)).scaled((4, 4)).origin == (0.5, 0.5)


def test_with_spacing_rounds_the_sides():
    space = Space.of((10, 10, 10), (1.0, 1.0, 3.0)).with_spacing((2.0, 0.5, 1.0))
    assert space.shape == (5, 20, 30)
    assert space.spacing == pytest.approx((2.0, 0.5, 1.0))
    assert Space.of((2, 2), (1.0, 1.0)).with_spacing((50.0, 50.0)).shape == (1, 1)


def test_distance_is_that_of_the_worst_corner():
    space = Space.of((11, 11, 11), (2.0, 2.0, 2.0))
    shifted = Space.of((11, 11, 11), (2.0, 2.0, 2.0), origin=(0, 0, 0.5))
    stretched = Space.of((11, 11, 11), (2.0, 2.0, 2.1))
    assert space.distance_to(shifted) == pytest.approx(0.5)
    assert space.distance_to(stretched) == pytest.approx(10 * 0.1)
    assert space.distance_to(Space.of((11, 11, 12))) == float("inf")
    assert space.same_as(Space.of((11, 11, 11), (2.0, 2.0, 2.0), origin=(0, 0, 0.001)))
    assert not space.same_as(shifted)


def test_two_dimensions_are_two():
    space = Space.of((5, 7), (0.5, 0.25), physical=False)
    assert (space.ndim, space.affine.shape, space.unit, space.axis_codes) == (2, (3, 3), "px", "")
    assert space.canonical_turn() == Turn((0, 1), (False, False))
    assert space.voxel_volume == pytest.approx(0.125)


@given(SPACES)
def test_json_there_and_back(space):
    back = Space.from_json(space.to_json())
    assert back.shape == space.shape and back.physical == space.physical
    assert (back.affine == space.affine).all()


@pytest.mark.parametrize(
    ("shape", "affine", "word"),
    [
        ((3,), np.eye(2), "2 or 3 axes"),
        ((3, 3, 3), np.eye(3), "4 x 4"),
        ((3, 3), np.diag([1.0, 0.0, 1.0]), "singular"),
        ((3, 3), np.full((3, 3), np.nan), "not finite"),
        ((3, 0), np.eye(3), "at least 1"),
    ],
)
def test_nonsense_is_refused_with_a_reason(shape, affine, word):
    with pytest.raises(GeometryError, match=word):
        Space(shape, affine)
