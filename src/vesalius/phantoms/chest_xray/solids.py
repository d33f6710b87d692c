"""The large parts as signed distances (negative inside), and the march along the rays that adds them up."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vesalius.core.space import Array
from vesalius.phantoms._shapes import Points, at, capsule, coverage, ellipsoid, intersection, union
from vesalius.phantoms.chest_xray.patient import Patient, spine_at
from vesalius.physics.xray import ATTENUATION, Beam

REACH = (-150.0, 150.0)  # millimetres of depth that a body takes
STEP = 2.5  # millimetres between the planes of the march
GRID = 1.5  # millimetres: the large parts need no finer pixels
Replaced = Callable[[Points, Array], Array]  # points, depth under the pleura -> fraction of the lung that is water there

BODY = np.array([  # height, half width and half depth beyond those of the cage at its widest (or alone, above the armpits)
    (-260, 20, 12), (-60, 24, 17), (50, 30, 16), (85, 42, 2),
])  # fmt: skip
SHOULDER = np.array([(112, 196, 94), (138, 186, 86), (158, 136, 78), (178, 86, 70), (198, 62, 62), (260, 60, 60)])


def body(patient: Patient, p: Points) -> Array:
    """The skin of trunk, shoulders and neck."""
    x, y, z = p
    a, b = patient.cage[0] + 0.8 * patient.fat, patient.cage[1] + patient.fat
    trunk = BODY + np.array([0, a, b])
    profile = np.concatenate([trunk, SHOULDER + np.array([0, 0.6 * patient.fat, 0.4 * patient.fat])])
    wide, deep = (np.interp(z, profile[:, 0], profile[:, k]).astype(np.float32) for k in (1, 2))
    return _ellipse(x, y + 6, half=(wide, deep))


def breasts(patient: Patient, p: Points) -> Array:
    """Both, flattened against the detector."""
    x, y, z = p
    s = 60 * patient.breast**0.5
    front = patient.cage[1] + patient.fat + 4
    return ellipsoid((np.abs(x), y, z), (80, front, patient.cage[2] + 6 - 0.25 * s), (s * 1.05, 0.36 * s, s))


def _ellipse(x: Array, y: Array, *, half: tuple[Array, Array]) -> Array:
    """Signed distance, to first order, to an ellipse whose half axes change slowly with height."""
    wide, deep = half
    u, v = x / wide, y / deep
    radius = np.sqrt(u * u + v * v)
    return np.asarray(radius * (radius - 1) / np.sqrt((u / wide) ** 2 + (v / deep) ** 2 + 1e-9))


def girth(patient: Patient, z: Array) -> Array:
    """Factor of the cage's half axes at heights `z`: 1 at its widest, 0 at the top."""
    _, _, widest, top = patient.cage
    up = np.clip((z - widest) / (top - widest), 0, 1)
    down = np.clip((widest - z) / 330, 0, 1)
    return np.asarray((1 - up**3) ** 0.5 * (1 - down**2) ** 0.5, np.float32)


def cage(patient: Patient, p: Points) -> Array:
    """The inner face of the ribs."""
    x, y, z = p
    a, b, widest, top = patient.cage
    factor = girth(patient, z)
    u, v = x / a, (y - 2) / b
    radius = np.sqrt(u * u + v * v) + 1e-4
    up = np.clip((z - widest) / (top - widest), 0, 1)
    slope = 1.5 * up**2 / np.maximum(factor, 0.15) / (top - widest)
    steep = ((u / a) ** 2 + (v / b) ** 2) / (radius * radius) + slope * slope
    return np.asarray((radius - factor) / np.sqrt(steep), np.float32)


def heart(patient: Patient, p: Points) -> Array:
    """Left ventricle, right atrium, outflow tract; they sit on the diaphragm."""
    h, low = patient.heart, min(patient.domes)
    left = ellipsoid(p, (-35 * h, 22, low + 31 * h), (56 * h, 56 * h, 49 * h))
    right = ellipsoid(p, (15 * h, 20, low + 46 * h), (32 * h, 48 * h, 46 * h))
    outflow = ellipsoid(p, (-22 * h, 26, low + 84 * h), (29 * h, 40, 48 * h))
    return union(union(left, right, 16), outflow, 18)


def mediastinum(patient: Patient, p: Points) -> Array:
    """All between the lungs: spine, heart, great vessels, fat."""
    x, y, z = p
    middle = x - spine_at(patient, z)
    spine = np.sqrt(middle * middle + (y + 66) ** 2) - 25
    wide = np.interp(z, (-130, -20, 55, 105, 130, 150), (14, 20, 28, 28, 37, 54)).astype(np.float32)
    slab = np.maximum(np.abs(x) - wide * np.clip(1.2 - np.abs(y - 5) / 85, 0.1, 1), np.abs(y) - 90)
    r = patient.aorta
    arch = ellipsoid(p, (-17, -12, 62), (r + 7, 34, r + 1))
    descending = capsule(p, (-24, -44, 58), (-14, -66, -140), radii=(0.8 * r, 0.7 * r))
    cava = capsule(p, (22, 8, 122), (27, 16, 0), radii=(12, 15))
    trunk = ellipsoid(p, (-26, 14, 26), (25, 26, 26))
    great = union(union(arch, cava, 8), union(descending, trunk, 8), 8)
    return union(union(union(spine, slab, 14), great, 8), heart(patient, p), 8)


def domes(patient: Patient, p: Points) -> Array:
    """The diaphragm from above, both halves."""
    wide = 0.62 * patient.cage[0]
    both = [
        ellipsoid(p, (side * 0.46 * patient.cage[0], 14, top - 66), (wide, 0.96 * patient.cage[1], 66))
        for side, top in zip((1, -1), patient.domes, strict=True)
    ]
    return np.minimum(both[0], both[1])


def lung(patient: Patient, p: Points) -> tuple[Array, Array]:
    """Both lungs, and the depth under the ribs (positive inside)."""
    ribs = cage(patient, p)
    wall = np.maximum(ribs, -domes(patient, p))
    floor = min(patient.domes) - 46 - p[2]
    return np.maximum(intersection(wall, -mediastinum(patient, p), 10), floor), -ribs


def stomach(patient: Patient, p: Points) -> Array:
    """The air bubble under the left diaphragm, flat below."""
    g = 0.6 + 0.7 * patient.gas
    bubble = ellipsoid(p, (-62, 28, patient.domes[1] - 10 - 17 * g), (30 * g, 24 * g, 16 * g))
    return np.maximum(bubble, patient.domes[1] - 14 - 18 * g - p[2])


@dataclass(frozen=True)
class Paths:
    """On the coarse film: the line integral of the large parts, and millimetres of lung and of what replaced it, per ray."""

    integral: Array
    lung: Array
    replaced: Array


def march(patient: Patient, beam: Beam, replaced: Replaced | None = None) -> Paths:
    """Add up all planes; `replaced` says where water lies in place of lung."""
    film = beam.coarse(GRID)
    total, air, water = (np.zeros(film.shape, np.float32) for _ in range(3))
    length = beam.depth - beam.source[1]
    for depth in np.arange(REACH[0], REACH[1], STEP):
        p = film.points(float((depth - beam.source[1]) / length))
        skin = body(patient, p)
        near = np.flatnonzero((skin < 40).any(1))
        if not near.size:
            continue
        rows = slice(near[0], near[-1] + 1)
        plane = _plane(patient, at(p, (rows,)), skin[rows], replaced=replaced)  # type: ignore[arg-type]
        for image, part in zip((total, air, water), plane, strict=True):
            image[rows] += part
    return Paths(total * STEP, air * STEP, water * STEP)


def _plane(patient: Patient, p: Points, skin: Array, *, replaced: Replaced | None) -> tuple[Array, Array, Array]:
    """Attenuation, lung and replaced lung in one plane."""
    outer = union(skin, breasts(patient, p), 12) if patient.breast else skin
    outside, under = coverage(outer, STEP), coverage(skin + patient.fat, 2 * STEP)
    total = ATTENUATION["fat"] * outside + (ATTENUATION["soft"] - ATTENUATION["fat"]) * under
    air, water = np.zeros_like(total), np.zeros_like(total)
    box = _box(patient, p)
    q = at(p, box)  # type: ignore[arg-type]
    if not q[0].size:
        return total, air, water
    lungs, depth = lung(patient, q)
    air[box] = coverage(lungs, STEP)
    where = np.nonzero(air[box])
    if replaced is not None and where[0].size:
        water[box][where] = air[box][where] * replaced(at(q, where), depth[where])  # type: ignore[arg-type]
    light = patient.density * ATTENUATION["lung"] * (1 - 0.0012 * np.clip(q[2], -100, 150))  # blood gathers in the bases
    gas = coverage(stomach(patient, q), STEP) * ATTENUATION["soft"]
    total[box] -= (air - water)[box] * (ATTENUATION["soft"] - light) + gas
    return total, air, water


def _box(patient: Patient, p: Points) -> tuple[slice, slice]:
    """Rows and columns of a plane in which there may be lung."""
    half, top, low = patient.cage[0] + 2 * STEP, patient.cage[3] + 2 * STEP, min(patient.domes) - 52
    columns = np.flatnonzero((np.abs(p[0]) < half).any(0))
    rows = np.flatnonzero(((p[2] < top) & (p[2] > low)).any(1))
    if not columns.size or not rows.size or (np.abs(p[1]) > patient.cage[1] + 12).all():
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
