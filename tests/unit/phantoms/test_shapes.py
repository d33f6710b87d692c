"""Solids and noise against geometry and statistics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vesalius.phantoms import _noise, _shapes
from vesalius.phantoms._noise import Field


def points(*places):
    x, y, z = np.asarray(places, np.float32).T
    return x, y, z


def test_a_sphere_has_its_exact_distance():
    p = points((0, 0, 12), (3, 4, 0), (10, 0, 0))
    assert _shapes.ellipsoid(p, (0, 0, 0), (10, 10, 10)) == pytest.approx([2, -5, 0], abs=1e-5)


@given(st.floats(0, 3.1), st.floats(0, 6.2), st.floats(-0.3, 0.3))
def test_an_ellipsoid_is_right_near_its_surface(theta, phi, off):
    axes = np.array([20.0, 30.0, 15.0])
    surface = axes * (np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta))
    normal = surface / axes**2
    place = surface + off * normal / np.linalg.norm(normal)
    assert _shapes.ellipsoid(points(place), (0, 0, 0), tuple(axes)) == pytest.approx([off], abs=0.02)


def test_a_capsule_is_a_rod_with_round_ends():
    p = points((5, 3, 0), (-4, 0, 0), (12, 0, 0), (0, 0, 0))
    assert _shapes.capsule(p, (0, 0, 0), (10, 0, 0), radii=(2, 2)) == pytest.approx([1, 2, 0, -2], abs=1e-5)


def test_union_and_intersection_are_exact_away_from_the_seam():
    a, b = np.array([-5.0, 1, 30], np.float32), np.array([20.0, 40, 2], np.float32)
    assert (_shapes.union(a, b, 3) == np.minimum(a, b)).all() and (_shapes.intersection(a, b, 3) == np.maximum(a, b)).all()
    seam = _shapes.union(np.zeros(1, np.float32), np.zeros(1, np.float32), 4)
    assert seam == pytest.approx([-1])  # blend / 4, as in the polynomial of the source


def test_coverage_of_a_flat_border_is_the_part_inside():
    assert _shapes.coverage(np.array([-2.0, -0.25, 0, 0.25, 2], np.float32), 1) == pytest.approx([1, 0.75, 0.5, 0.25, 0])


def test_turned_solids_turn():
    p = points((0, 10, 0))
    x, y, z = _shapes.turned(p, (0, 0, 0), 90, plane=(0, 1))  # what lay on x now lies on y
    assert (x[0], y[0], z[0]) == pytest.approx((10, 0, 0), abs=1e-5)


def test_noise_has_unit_variance_and_repeats():
    field = _noise.smooth_field(np.random.default_rng(0), 20)
    assert field.values.std() == pytest.approx(1, abs=1e-4) and abs(field.values.mean()) < 1e-4
    period = field.step * len(field.values)
    here, there = field.at(points((3, 4, 5))), field.at(points((3 + period, 4 - period, 5)))
    assert here == pytest.approx(there, abs=1e-3)


def test_folded_noise_has_its_wavelength():
    field = _noise.folded_field(np.random.default_rng(0), 24)
    power = np.abs(np.fft.fftn(field.values)) ** 2
    k = np.sqrt(sum(np.square(g) for g in np.meshgrid(*[np.fft.fftfreq(48, field.step)] * 3, indexing="ij")))
    assert (k * power).sum() / power.sum() == pytest.approx(1 / 24, rel=0.1)


def test_sheets_of_a_plane_wave_are_where_it_is_zero():
    x = np.arange(48) * 0.5
    wave = np.sin(2 * np.pi * x / 12)[:, None, None] * np.ones((48, 48, 48))
    sheets = _noise.sheet_distance(Field(wave.astype(np.float32), 0.5))
    near = points((6.5, 3, 3), (5.0, 3, 3), (12.8, 3, 3))  # sheets at 0, 6, 12 ...
    assert np.abs(sheets.at(near)) == pytest.approx([0.5, 1.0, 0.8], rel=0.15)
