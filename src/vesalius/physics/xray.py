"""X-rays, forward: line integrals through ellipsoids in closed form, Beer and Lambert's law, scatter, quantum noise.

Lengths are millimetres, attenuation is per millimetre. Coefficients: Hubbell and Seltzer 1995 (NIST tables) at 65 keV, about the mean
energy behind the patient at 120 kV, times densities of ICRU Report 44. A cone beam starts at a point and ends on a flat detector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

ATTENUATION = {"air": 0.0, "lung": 0.0052, "fat": 0.0180, "soft": 0.0205, "blood": 0.0212, "marrow": 0.0240, "bone": 0.0500, "metal": 0.20}
PATCHES = (2, 3, 4, 6, 8, 11, 15, 20, 28, 40, 56, 80, 112, 160, 240)  # half sides in pixels by which small solids are grouped
CHUNK = 400_000  # pixels that are drawn at a time


@dataclass(frozen=True)
class Beam:
    """Rays from `source` to a detector at depth y = `depth` whose pixel (row, column) lies at x = left - column * step,
    z = top - row * step (a film as it is read: the patient's right on the left, head up). The patient's frame is reached
    by body = turn.T @ (room - shift)."""

    shape: tuple[int, int]
    step: float
    source: Floats
    depth: float
    turn: Floats
    shift: Floats
    middle: tuple[float, float] = (0.0, 0.0)

    @property
    def corner(self) -> tuple[float, float]:
        """x and z of the first pixel's centre."""
        rows, columns = self.shape
        return self.middle[0] + (columns - 1) / 2 * self.step, self.middle[1] + (rows - 1) / 2 * self.step

    def coarse(self, step: float) -> "Beam":
        """The same film, centred alike, with pixels of at least `step`; it covers the whole field, and a part of a pixel more."""
        wider = max(step, self.step)
        rows, columns = (int(np.ceil(side * self.step / wider - 1e-6)) for side in self.shape)
        return replace(self, shape=(rows, columns), step=wider)

    def points(self, fraction: float) -> tuple[Floats, Floats, Floats]:
        """Where the rays are, in the patient's frame, after `fraction` of their way from source to detector: (rows, columns)."""
        x, z = (np.arange(n, dtype=np.float32) for n in self.shape[::-1])
        left, top = self.corner
        corner = self.turn.T @ (np.array([left, self.depth, top]) * fraction + self.source * (1 - fraction) - self.shift)
        along, down = self.turn.T @ np.array([-self.step * fraction, 0, 0]), self.turn.T @ np.array([0, 0, -self.step * fraction])
        rows = (corner[:, None] + down[:, None] * z).astype(np.float32)
        columns = (along[:, None] * x).astype(np.float32)
        return tuple(rows[a][:, None] + columns[a][None] for a in range(3))

    def pixels(self, body: Floats) -> tuple[Floats, Floats]:
        """(rows, columns), fractional, at which points (n, 3) of the patient are seen, and the magnification of each."""
        room = body @ self.turn.T + self.shift
        enlarged = (self.depth - self.source[1]) / (room[:, 1] - self.source[1])
        left, top = self.corner
        column = (left - (self.source[0] + (room[:, 0] - self.source[0]) * enlarged)) / self.step
        row = (top - (self.source[2] + (room[:, 2] - self.source[2]) * enlarged)) / self.step
        return np.stack([row, column], -1), enlarged


@dataclass(frozen=True)
class Solids:
    """n ellipsoids {x: |axes^-1 (x - centre)| <= 1}: `centres` (n, 3), `axes` (n, 3, 3) with the semi-axes as columns, and the
    attenuation (n,) that each adds to what it lies in."""

    centres: Floats
    axes: Floats
    gains: Floats

    @classmethod
    def join(cls, parts: "Sequence[Solids]") -> "Solids":
        """All of them."""
        return cls(*(np.concatenate([getattr(p, word) for p in parts]) for word in ("centres", "axes", "gains")))


def project(solids: Solids, beam: Beam) -> Floats:
    """Line integrals (rows, columns) through `solids`. A ray misses the centre by w and runs along d: the chord through
    x' N x <= 1 is 2 sqrt(1 - w' N w + (d' N w)^2 / d' N d) / sqrt(d' N d). Rays are parallel within one ellipsoid."""
    places, enlarged = beam.pixels(solids.centres)
    form, peak = shadows(solids, beam, enlarged)
    total = np.zeros(beam.shape[0] * beam.shape[1])
    spread = np.linalg.inv(form)
    reach = np.sqrt(np.maximum(spread[:, 0, 0], spread[:, 1, 1])) + 0.5
    size = np.searchsorted(PATCHES, np.minimum(reach, PATCHES[-1]))
    for k in np.unique(size):
        group = np.flatnonzero(size == k)
        some = max(1, CHUNK // (2 * PATCHES[k] + 1) ** 2)
        for start in range(0, group.size, some):
            part = group[start : start + some]
            _draw(total, beam.shape, places[part], form=form[part], peak=peak[part], half=PATCHES[k])
    return total.reshape(beam.shape)


def shadows(solids: Solids, beam: Beam, enlarged: Floats) -> tuple[Floats, Floats]:
    """(n, 2, 2) forms on (row, column) in pixels, inside 1 where there is shadow, and the integral (n,) through each centre.
    What is smaller than a pixel is widened to it and thinned as much, so that no solid slips between two pixels."""
    room = solids.centres @ beam.turn.T + beam.shift
    along = room - beam.source
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    inverse = np.linalg.inv(beam.turn @ solids.axes)
    form = np.swapaxes(inverse, 1, 2) @ inverse
    crossed = np.einsum("nij,nj->ni", form, along)
    depth = np.einsum("ni,ni->n", crossed, along)
    flat = form - crossed[:, :, None] * crossed[:, None] / depth[:, None, None]
    flat = flat[:, [2, 0]][:, :, [2, 0]] * (beam.step / enlarged)[:, None, None] ** 2
    wide = np.linalg.inv(flat) + 0.6 * np.eye(2)  # no narrower than the distance between neighbours on a diagonal
    peak = 2 / np.sqrt(depth) * np.sqrt(1 / (np.linalg.det(flat) * np.linalg.det(wide)))
    return np.linalg.inv(wide), peak * solids.gains


def _draw(total: Floats, shape: tuple[int, int], places: Floats, *, form: Floats, peak: Floats, half: int) -> None:
    """Add shadows to the flattened picture `total`; what falls off the film is left out."""
    first = np.rint(places).astype(int) - half
    step = np.arange(2 * half + 1)
    r, c = ((first[:, a, None] + step - places[:, a, None]).astype(np.float32) for a in (0, 1))
    q = form.astype(np.float32)
    inside = 1 - q[:, 0, 0, None, None] * r[:, :, None] ** 2 - q[:, 1, 1, None, None] * c[:, None] ** 2
    inside -= 2 * q[:, 0, 1, None, None] * r[:, :, None] * c[:, None]
    rows, columns = first[:, 0, None] + step, first[:, 1, None] + step
    on = ((rows >= 0) & (rows < shape[0]))[:, :, None] & ((columns >= 0) & (columns < shape[1]))[:, None] & (inside > 0)
    index = (rows[:, :, None] * shape[1] + columns[:, None])[on]
    chords = np.sqrt(np.maximum(inside, 0))
    mass = 2 / 3 * np.pi / np.sqrt(np.linalg.det(form)) * peak  # the volume under half an ellipsoid, however few pixels it meets
    chords *= (mass / chords.sum((1, 2))).astype(np.float32)[:, None, None]
    values = chords[on]
    total += np.bincount(index, values, minlength=total.size)


def transmitted(integral: Floats, *, photons: float, scatter: float, spread: float) -> Floats:
    """Photons expected per pixel behind line integrals (rows, columns): the primary beam N exp(-integral), and scatter that is `scatter`
    times the primary, blurred by a Gaussian of `spread` pixels (the flat spectrum of a kernel that is far wider than a rib)."""
    from scipy.ndimage import gaussian_filter

    primary = photons * np.exp(-integral)
    return np.asarray(primary + scatter * gaussian_filter(primary, spread, mode="nearest", truncate=2.5))


def counted(expected: Floats, generator: np.random.Generator) -> Floats:
    """Photons that a detector counts where `expected` arrive: Poisson."""
    return generator.poisson(expected).astype(np.float32)
