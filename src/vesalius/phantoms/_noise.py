"""Random fields fixed in millimetres: the same at every resolution, so that a seed is one anatomy whatever the grid.

A field is a periodic tile of spectrally shaped white noise of unit variance, read off linearly between its nodes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfftn, rfftn
from scipy.ndimage import map_coordinates

from vesalius.core.space import Array
from vesalius.phantoms._shapes import Points

NODES_PER_WAVE = 6
WAVES = 8


@dataclass(frozen=True)
class Field:
    """`values` at nodes `step` millimetres apart, repeating in all directions."""

    values: Array
    step: float

    def at(self, p: Points) -> Array:
        """The field at points in millimetres."""
        index = np.stack([axis * (1 / self.step) for axis in p])
        return np.asarray(map_coordinates(self.values, index, order=1, mode="grid-wrap", output=np.float32))


def smooth_field(generator: np.random.Generator, wave: float) -> Field:
    """Noise without structure below about half of `wave` millimetres and none preferred above."""
    return _shaped(generator, wave, lambda k: np.exp(-0.5 * (k * wave * 0.8) ** 2))


def folded_field(generator: np.random.Generator, wave: float, *, spread: float = 0.22) -> Field:
    """Noise of one wavelength in all directions (a ring in k-space, relative width `spread`): where it is zero, sheets wind
    through space about half of `wave` apart, as sulci do."""
    return _shaped(generator, wave, lambda k: np.exp(-0.5 * ((k * wave - 1) / spread) ** 2))


def sheet_distance(field: Field, *, cap: float = 12.0) -> Field:
    """Millimetres, signed, to the nearest sheet where `field` is zero (first order: value over slope, at most `cap`)."""
    values = np.pad(field.values, 1, mode="wrap")
    slope = np.sqrt(sum(np.square(g[1:-1, 1:-1, 1:-1]) for g in np.gradient(values, field.step)))
    floor = 0.2 * float(np.median(slope))
    return Field(np.clip(field.values / np.maximum(slope, floor), -cap, cap).astype(np.float32), field.step)


def _shaped(generator: np.random.Generator, wave: float, gain: Callable[[Array], Array]) -> Field:
    number = NODES_PER_WAVE * WAVES
    white = generator.standard_normal((number,) * 3, np.float32)
    step = wave / NODES_PER_WAVE
    full, half = np.fft.fftfreq(number, step), np.fft.rfftfreq(number, step)
    k = np.sqrt(full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None] ** 2).astype(np.float32)
    values = irfftn(rfftn(white) * gain(k), s=white.shape)
    values -= values.mean()
    return Field(np.asarray(values / values.std(), np.float32), step)
