"""Chords against a march along the ray, shadows against similar triangles, photons against Beer, Lambert and Poisson."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vesalius.physics.xray import Beam, Solids, counted, project, transmitted

SOURCE, DEPTH = np.array([20.0, -1500.0, 10.0]), 120.0


def beam(shape=(88, 96), step=1.0, turn=None, shift=(0.0, 0.0, 0.0)):
    return Beam(shape, step, SOURCE, DEPTH, np.eye(3) if turn is None else turn, np.asarray(shift), (0.0, 4.0))


def solid(centre, semi, angles=(0.0, 0.0, 0.0), gain=0.02):
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(semi)
    return Solids(np.array([centre], float), axes[None], np.array([gain]))


def marched(one, film, planes=1500):
    """The same integral by adding up short pieces of every ray."""
    inverse = np.linalg.inv(one.axes[0])
    start, stop = 0.85, 1.0
    total = np.zeros(film.shape)
    for fraction in start + (np.arange(planes) + 0.5) / planes * (stop - start):
        p = np.stack(film.points(fraction), -1) - one.centres[0]
        total += ((p @ inverse.T) ** 2).sum(-1) < 1
    first, last = (np.stack(film.points(f), -1) for f in (start, stop))
    return total / planes * np.linalg.norm(last - first, axis=-1) * one.gains[0]


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 0, 0), (20, 40, 60)])
def test_the_chord_of_an_ellipsoid_is_what_a_march_finds(angles):
    turn = Rotation.from_euler("xyz", (4, -3, 5), degrees=True).as_matrix()
    film, one = beam(turn=turn, shift=(3, 2, -4)), solid((-8, 5, 6), (22, 9, 15), angles)
    exact, found = marched(one, film), project(one, film)
    inner = exact > 0.6 * exact.max()
    assert found[inner] == pytest.approx(exact[inner], rel=0.04)
    assert found.sum() == pytest.approx(exact.sum(), rel=0.01)
    assert found[exact == 0].max() < 0.15 * found.max()


def test_a_ball_is_as_deep_as_its_diameter_and_enlarged_like_similar_triangles():
    film, radius, depth = beam((101, 101), 1.0), 12.0, -50.0
    one = solid((20, depth, 10), (radius,) * 3)
    shadow = project(one, film)
    assert shadow.max() == pytest.approx(2 * radius * 0.02, rel=0.01)
    enlarged = (DEPTH - SOURCE[1]) / (depth - SOURCE[1])
    assert (shadow > 0).sum() == pytest.approx(np.pi * (radius * enlarged) ** 2, rel=0.06)
    row, column = film.pixels(one.centres)[0][0]
    assert np.abs(np.array(np.unravel_index(shadow.argmax(), shadow.shape)) - (row, column)).max() <= 1
    assert (film.corner[0] - column, film.corner[1] - row) == pytest.approx((20.0, 10.0)), "on the axis nothing is displaced"


def test_the_patients_right_is_on_the_left_of_the_film_and_the_head_is_up():
    places = beam().pixels(np.array([[30.0, 0, 0], [-30.0, 0, 0], [0, 0, 20.0], [0, 0, -20.0]]))[0]
    assert places[0, 1] < places[1, 1] and places[2, 0] < places[3, 0]


@pytest.mark.parametrize("radius", [0.2, 0.6, 3.0])
def test_what_is_smaller_than_a_pixel_keeps_its_mass(radius):
    film = beam((41, 41), 2.0)
    drawn = [project(solid((20 + shift, 0, 10), (radius,) * 3), film).sum() for shift in (0, 0.37, 0.81)]
    enlarged = (DEPTH - SOURCE[1]) / -SOURCE[1]
    volume = 4 / 3 * np.pi * radius**3 * 0.02
    assert np.array(drawn) * film.step**2 / enlarged**2 == pytest.approx(volume, rel=0.12)


def test_solids_beyond_the_film_cast_no_shadow_and_add_up_otherwise():
    film = beam()
    inside, outside = solid((0, 0, 0), (9, 9, 9)), solid((4000, 0, 0), (9, 9, 9))
    assert project(outside, film).max() == 0
    assert project(Solids.join([inside, inside, outside]), film) == pytest.approx(2 * project(inside, film))


def test_a_coarse_film_covers_the_same_field():
    fine = beam((90, 120), 1.0)
    coarse = fine.coarse(3.0)
    assert coarse.shape == (30, 40) and coarse.step == pytest.approx(3.0) and fine.coarse(0.5).shape == fine.shape
    odd = fine.coarse(7.0)
    assert odd.shape == (13, 18) and odd.corner[0] - 8.5 * 7 == pytest.approx(fine.middle[0]), "one middle"
    edges = [(b.corner[0] + b.step / 2, b.corner[0] + b.step / 2 - b.shape[1] * b.step) for b in (fine, coarse)]
    assert edges[0] == pytest.approx(edges[1])


def test_beer_and_lambert_and_scatter():
    integral = np.full((40, 40), 1.7)
    assert transmitted(integral, photons=1e4, scatter=0, spread=3)[0, 0] == pytest.approx(1e4 * np.exp(-1.7))
    assert transmitted(integral, photons=1e4, scatter=0.4, spread=3) == pytest.approx(1.4e4 * np.exp(-1.7))
    integral[:, 20:] = 50
    veiled = transmitted(integral, photons=1e4, scatter=0.4, spread=3)
    assert veiled[20, 22] > 100 > 1 > 1e4 * np.exp(-50), "scatter reaches where no primary photon does"


def test_photons_are_counted_with_a_variance_that_equals_the_mean():
    drawn = counted(np.full(200_000, 40.0), np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(40, rel=0.005) and drawn.var() == pytest.approx(40, rel=0.02)
