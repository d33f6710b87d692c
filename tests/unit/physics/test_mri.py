"""Signal equations, noise, coils and slices against closed forms."""

import numpy as np
import pytest

from vesalius.physics import mri


def test_spin_echo_is_its_formula():
    signal = mri.spin_echo(0.8, 1000.0, 100.0, tr=1000, te=100)
    assert signal == pytest.approx(0.8 * (1 - np.exp(-1)) * np.exp(-1))
    assert mri.spin_echo(1.0, 900.0, 80.0, tr=1e7, te=0) == pytest.approx(1)


def test_inversion_recovery_is_a_spin_echo_long_after_the_inversion():
    words = {"tr": 30_000, "te": 80}
    late = mri.inversion_recovery(0.7, 500.0, 80.0, ti=15_000, **words)
    assert late == pytest.approx(mri.spin_echo(0.7, 500.0, 80.0, **words), rel=1e-9)


@pytest.mark.parametrize("tr", [6000, 9000, 11_000])
def test_fluid_is_nulled_and_only_fluid(tr):
    ti = mri.nulling_time(4300, tr=tr)
    null = mri.inversion_recovery(1.0, 4300.0, 2000.0, tr=tr, te=110, ti=ti)
    white = mri.inversion_recovery(0.75, 500.0, 70.0, tr=tr, te=110, ti=ti)
    assert null < 1e-12 < 0.1 < white


def test_nulling_time_tends_to_t1_times_ln_2():
    assert mri.nulling_time(250, tr=1e6) == pytest.approx(250 * np.log(2))


def test_gradient_echo_is_brightest_at_the_ernst_angle():
    t1, tr = 800.0, 20.0
    angles = np.linspace(1, 60, 2000)
    signal = [mri.spoiled_gradient_echo(1.0, t1, 1e9, tr=tr, te=0, flip=a) for a in angles]
    assert angles[int(np.argmax(signal))] == pytest.approx(np.degrees(np.arccos(np.exp(-tr / t1))), abs=0.05)
    assert mri.spoiled_gradient_echo(1.0, t1, 1e9, tr=tr, te=0, flip=90) == pytest.approx(1 - np.exp(-tr / t1))


def test_contrast_agent_adds_rates():
    assert mri.with_contrast(1000.0, 0.0, 4.5) == 1000
    assert 1e3 / mri.with_contrast(1000.0, 2.0, 4.5) == pytest.approx(1 + 9.0)  # 1/s


@pytest.mark.parametrize("amplitude", [0.0, 0.5, 1.0, 3.0, 20.0])
def test_rician_moments(amplitude):
    sigma, number = 1.5, 400_000
    noisy = mri.rician(np.full(number, amplitude * sigma, np.float32), sigma, np.random.default_rng(1))
    mean, variance = mri.rician_moments(amplitude * sigma, sigma)
    assert noisy.mean() == pytest.approx(mean, abs=5 * float(np.sqrt(variance / number)))
    assert noisy.var() == pytest.approx(variance, rel=0.02)


def test_rician_moments_at_both_ends():
    mean, variance = mri.rician_moments(0.0, 2.0)  # Rayleigh
    assert mean == pytest.approx(2 * np.sqrt(np.pi / 2)) and variance == pytest.approx((2 - np.pi / 2) * 4)
    mean, variance = mri.rician_moments(100.0, 1.0)  # Gaussian, with the known bias
    assert mean == pytest.approx(100 + 1 / 200, abs=1e-5) and variance == pytest.approx(1, rel=1e-3)


def test_noise_needs_its_generator_and_repeats():
    image = np.ones((4, 5), np.float32)
    a, b = (mri.rician(image, 0.1, np.random.default_rng(3)) for _ in range(2))
    assert (a == b).all() and a.dtype == np.float32


def test_a_coil_receives_as_biot_and_savart_say():
    points = np.array([[0, 0, 0], [0, 0, 0], [0, 30, 60]], np.float32)
    on_axis = mri.coil_sensitivity(points, [(0, 0, 0)], radius=30)
    field = 30**3 / (30**2 + np.array([0, 30, 60]) ** 2) ** 1.5  # of a loop, on its axis, relative to its centre
    assert on_axis == pytest.approx(field, rel=1e-5)
    two = mri.coil_sensitivity(points, [(0, 0, 0), (0, 0, 0)], radius=30)
    assert two == pytest.approx(np.sqrt(2) * on_axis, rel=1e-5)


def test_coils_lie_on_their_ellipsoid():
    coils = mri.ring_of_coils(8, semi_axes=(100, 120, 110))
    assert np.square(coils / (100, 120, 110)).sum(-1) == pytest.approx(1) and coils.shape == (8, 3)


@pytest.mark.parametrize("thickness", [0.5, 3.0, 5.0])
def test_slices_keep_constants_and_ramps(thickness):
    fine = np.arange(0, 60, 1.0)
    centres = np.array([20.0, 25.0, 31.0])
    weights = mri.slice_weights(centres, fine, thickness=thickness)
    assert weights.sum(1) == pytest.approx(1) and (weights >= 0).all()
    assert weights @ fine == pytest.approx(centres, abs=1e-9)


def test_a_slice_is_as_wide_as_it_says():
    fine = np.arange(0, 100, 0.1)
    row = mri.slice_weights([50.0], fine, thickness=6.0)[0]
    assert (row >= row.max() / 2).sum() * 0.1 == pytest.approx(6, abs=0.2)
