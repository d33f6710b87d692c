"""From line integrals to the picture that is stored: photons, scatter, noise, and two hospitals that process it in their own ways."""

import numpy as np
from pydantic import Field as Limit

from vesalius.core.settings import Settings
from vesalius.core.space import Array
from vesalius.physics.xray import counted, transmitted

LETTER = ("10000", "10000", "10000", "10000", "10000", "10000", "11111")  # what is burned in
LETTER_HEIGHT = 15.0  # millimetres
KNEE = 0.7  # of the grey scale, above which it is compressed
BLACK_AT, WHITE_AT = 2.0, 97.0  # percentiles of the log signal over the trunk that span the grey scale


class Site(Settings):
    """A hospital: `dose` in photons per square millimetre before the patient (thousands), `scatter` relative to the primary beam behind the
    grid, `blur` of focus and screen in mm, `gamma`, `contrast` of the S-shaped curve (0 straight), `flatten` and `sharpen`: parts of the
    slow and fast detail taken away and added, `border` of the collimator in mm at most."""

    name: str
    dose: float = Limit(default=400.0, gt=0)
    scatter: float = Limit(default=0.25, ge=0)
    blur: float = Limit(default=0.25, ge=0)
    gamma: float = Limit(default=1.0, gt=0)
    contrast: float = Limit(default=0.6, ge=0, le=1)
    flatten: float = Limit(default=0.0, ge=0, lt=1)
    sharpen: float = Limit(default=0.0, ge=0)
    border: float = Limit(default=0.0, ge=0)


SITES = (
    Site(name="film", dose=260.0, scatter=0.9, blur=0.35, gamma=0.95, contrast=0.55, flatten=0.3, sharpen=0.3, border=4.0),
    Site(name="digital", dose=420.0, scatter=0.6, blur=0.18, gamma=0.85, contrast=0.3, flatten=0.5, sharpen=0.6, border=16.0),
)


def develop(integral: Array, *, step: float, site: Site, generator: np.random.Generator) -> Array:
    """Line integrals -> grey values 0 to 255, bright where much was absorbed; `step` mm per pixel."""
    from scipy.ndimage import gaussian_filter

    photons = site.dose * 1e3 * step**2 * generator.uniform(0.8, 1.25)
    expected = transmitted(integral, photons=photons, scatter=site.scatter * generator.uniform(0.8, 1.2), spread=28 / step)
    if site.blur > 0.2 * step:
        expected = gaussian_filter(expected, site.blur / step)
    signal = np.log(photons * (1 + site.scatter)) - np.log(counted(expected, generator) + 0.5)
    signal = signal.astype(np.float32)
    slow = _slow(signal, 24 / step)
    trunk = signal[(signal > 0.25) & _middle(signal.shape)]
    signal = signal - site.flatten * (slow - np.float32(np.median(trunk))) if trunk.size else signal
    if site.sharpen:
        signal += site.sharpen * (signal - gaussian_filter(signal, max(0.9 / step, 0.5)))
    return _curve(signal, site=site, exposed=expected < 0.75 * photons, drift=generator.normal(0, 0.03, 2))


def _slow(signal: Array, spread: float) -> Array:
    """A wide blur, done on fewer pixels."""
    from scipy.ndimage import gaussian_filter, zoom

    skip = max(1, int(spread // 4))
    small = gaussian_filter(signal[::skip, ::skip], spread / skip, mode="nearest")
    return np.asarray(zoom(small, [a / b for a, b in zip(signal.shape, small.shape, strict=True)], order=1, grid_mode=True, mode="nearest"))


def _middle(shape: tuple[int, ...]) -> Array:
    """The part of the film where the chest lies."""
    inside = np.zeros(shape, bool)
    rows, columns = shape
    inside[round(0.1 * rows) : round(0.92 * rows) + 1, round(0.12 * columns) : round(0.88 * columns) + 1] = True
    return inside


def _curve(signal: Array, *, site: Site, exposed: Array, drift: Array) -> Array:
    """The look-up table: a straight line mixed with an S, then gamma."""
    seen = signal[exposed & _middle(signal.shape)]
    low, high = np.percentile(seen, (BLACK_AT, WHITE_AT)) if seen.size else (0.0, 1.0)
    t = (signal - low) / max(high - low, 1e-3)
    t = np.maximum(0.14 + drift[0] + (0.76 + drift[1]) * t, 0)
    t = np.where(t < KNEE, t, KNEE + (1 - KNEE) * np.tanh((t - KNEE) / (1 - KNEE)))
    smooth = t * t * (3 - 2 * t)
    return np.asarray(255 * ((1 - site.contrast) * t + site.contrast * smooth) ** site.gamma, np.float32)


def collimate(image: Array, *, step: float, site: Site, generator: np.random.Generator) -> Array:
    """Black outside of the field, whose edges are not quite parallel to the film's."""
    rows, columns = image.shape
    far = generator.uniform(0, site.border, 4) - 0.25 * site.border
    tilt = np.deg2rad(generator.normal(0, 0.6, 4))
    r, c = np.arange(rows)[:, None] * step, np.arange(columns)[None] * step
    inside = (r > far[0] + tilt[0] * c) & (r < rows * step - far[1] + tilt[1] * (c - 180))
    inside &= (c > far[2] + tilt[2] * r) & (c < columns * step - far[3] + tilt[3] * (r - 180))
    return np.where(inside, image, 3)


def burn(image: Array, *, step: float, generator: np.random.Generator) -> Array:
    """A letter of lead in the upper corner beside the left shoulder."""
    glyph = np.array([[int(dot) for dot in line] for line in LETTER], bool)
    top, left = generator.uniform(22, 32), generator.uniform(0.86, 0.90) * image.shape[1] * step
    dot, parts = LETTER_HEIGHT / len(LETTER), int(np.ceil(step))
    r, c = ((np.arange(side * parts) + 0.5) * step / parts for side in image.shape)
    r, c = ((r - top) // dot).astype(int), ((c - left) // (0.85 * dot)).astype(int)
    on = ((r >= 0) & (r < glyph.shape[0]))[:, None] & ((c >= 0) & (c < glyph.shape[1]))[None]
    lead = on & glyph[np.clip(r, 0, glyph.shape[0] - 1)][:, np.clip(c, 0, glyph.shape[1] - 1)]
    part = lead.reshape(image.shape[0], parts, image.shape[1], parts).mean((1, 3))
    return np.asarray(image + part * (250 - image))
