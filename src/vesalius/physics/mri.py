"""Magnetic resonance, forward: signal equations, relaxation under contrast agent, coil sensitivity, slices, Rician noise.

Times are milliseconds, lengths millimetres, proton density is relative to water. Signal equations: Haacke et al., Magnetic
Resonance Imaging: Physical Principles and Sequence Design, 1999. Noise: Gudbjartsson and Patz, Magn Reson Med 34:910, 1995.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ive

Floats = NDArray[np.floating]


def spin_echo(density: ArrayLike, t1: ArrayLike, t2: ArrayLike, *, tr: float, te: float) -> Floats:
    """Magnitude of a 90-180 degree spin echo, TE much shorter than TR: PD (1 - exp(-TR/T1)) exp(-TE/T2)."""
    density, t1, t2 = np.asarray(density), np.asarray(t1), np.asarray(t2)
    return np.asarray(density * -np.expm1(-tr / t1) * np.exp(-te / t2))


def inversion_recovery(density: ArrayLike, t1: ArrayLike, t2: ArrayLike, *, tr: float, te: float, ti: float) -> Floats:
    """Magnitude of an inversion-prepared spin echo (FLAIR, STIR): PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2)."""
    density, t1, t2 = np.asarray(density), np.asarray(t1), np.asarray(t2)
    recovered = 1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)
    return np.asarray(density * np.abs(recovered) * np.exp(-te / t2))


def spoiled_gradient_echo(density: ArrayLike, t1: ArrayLike, t2: ArrayLike, *, tr: float, te: float, flip: float) -> Floats:
    """Steady state of a spoiled gradient echo at `flip` degrees (Ernst and Anderson 1966); `t2` is T2* here."""
    density, t2 = np.asarray(density), np.asarray(t2)
    decay, angle = np.exp(-tr / np.asarray(t1)), np.deg2rad(flip)
    return np.asarray(density * np.sin(angle) * (1 - decay) / (1 - np.cos(angle) * decay) * np.exp(-te / t2))


def nulling_time(t1: float, *, tr: float) -> float:
    """The inversion time at which a tissue of `t1` gives no signal: T1 (ln 2 - ln(1 + exp(-TR/T1)))."""
    return float(t1 * (np.log(2) - np.log1p(np.exp(-tr / t1))))


def with_contrast(t: ArrayLike, concentration: ArrayLike, relaxivity: float) -> Floats:
    """Relaxation time after `concentration` mmol/l of an agent of `relaxivity` l/mmol/s: 1/T = 1/T0 + r C."""
    return np.asarray(1 / (1 / np.asarray(t) + relaxivity * 1e-3 * np.asarray(concentration)))


def coil_sensitivity(points: Floats, coils: ArrayLike, *, radius: float) -> Floats:
    """Root of the summed squares of receive loops, (3, *S) millimetres -> (*S), not normalised.

    Each loop of `radius` at one of the `coils` (n, 3) receives as the field on the axis of a loop does (Biot-Savart):
    (1 + (distance / radius)^2)^(-3/2).
    """
    centres = np.asarray(coils, np.float32)
    total = np.zeros(points.shape[1:], np.float32)
    for centre in centres:
        squared = sum((axis - c) ** 2 for axis, c in zip(points, centre, strict=True))
        total += (1 + squared / radius**2) ** -3
    return np.sqrt(total)


def ring_of_coils(number: int, *, semi_axes: Sequence[float], turn: float = 0.0) -> Floats:
    """Centres (number, 3) of loops spread evenly over the upper half of an ellipsoid of `semi_axes`, rotated by `turn` radians
    about z (a golden-angle spiral, as in a head coil)."""
    k = np.arange(number) + 0.5
    height = 1 - 1.4 * k / number
    angle = np.pi * (1 + np.sqrt(5)) * k + turn
    around = np.sqrt(np.clip(1 - height**2, 0, 1))
    return np.asarray(np.stack([around * np.cos(angle), around * np.sin(angle), height], -1) * np.asarray(semi_axes))


def slice_weights(positions: ArrayLike, samples: ArrayLike, *, thickness: float) -> Floats:
    """Rows that turn fine `samples` along an axis into slices of `thickness` centred at `positions`, all in millimetres.

    The profile is a box smoothed by a quarter of its thickness; every row sums to 1. Where a slice is thinner than the
    samples are apart, the nearest sample is taken.
    """
    where, fine = np.asarray(positions, float)[:, None], np.asarray(samples, float)[None]
    step = abs(fine[0, 1] - fine[0, 0]) if fine.shape[1] > 1 else 1.0
    edge = max(thickness / 4, step / 2)
    weights = np.clip((thickness / 2 + edge / 2 - np.abs(where - fine)) / edge, 0, 1)
    nearest = np.abs(where - fine) == np.abs(where - fine).min(1, keepdims=True)
    weights = np.where(weights.sum(1, keepdims=True) > 0, weights, nearest)
    return np.asarray(weights / weights.sum(1, keepdims=True))


def rician(image: Floats, sigma: float, generator: np.random.Generator) -> Floats:
    """Magnitude of `image` with Gaussian noise of `sigma` on the real and on the imaginary channel."""
    real = generator.standard_normal(image.shape, np.float32)
    imaginary = generator.standard_normal(image.shape, np.float32)
    real *= sigma
    real += image
    imaginary *= sigma
    return np.hypot(real, imaginary)


def rician_moments(amplitude: ArrayLike, sigma: float) -> tuple[Floats, Floats]:
    """Mean and variance of Rician noise: mean = sigma sqrt(pi/2) L(-A^2 / 2 sigma^2) with the Laguerre function of order 1/2,
    second moment = A^2 + 2 sigma^2. At A = 0 this is Rayleigh: sigma sqrt(pi/2) and (2 - pi/2) sigma^2."""
    amplitude = np.asarray(amplitude, float)
    x = amplitude**2 / (2 * sigma**2)
    laguerre = (1 + x) * ive(0, x / 2) + x * ive(1, x / 2)  # ive carries the exp(-x/2)
    mean = sigma * np.sqrt(np.pi / 2) * laguerre
    return np.asarray(mean), np.asarray(amplitude**2 + 2 * sigma**2 - mean**2)
