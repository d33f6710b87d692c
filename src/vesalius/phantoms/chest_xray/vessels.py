"""The vessels of the lungs, which branch from the hila and taper outwards, and the airways down to the main bronchi."""

import numpy as np

from vesalius.core.space import Array
from vesalius.phantoms.chest_xray.bones import smooth
from vesalius.phantoms.chest_xray.patient import Patient
from vesalius.phantoms.chest_xray.solids import lung
from vesalius.physics.xray import ATTENUATION, Solids

HILUM = {1: (34.0, -4.0, 16.0), -1: (-36.0, -8.0, 30.0)}
ROOTS = np.array([  # direction (x outwards) and radius of each segment's artery and vein
    (0.25, 0.1, 1.0, 3.4), (0.7, -0.3, 0.8, 3.2), (0.75, 0.5, 0.6, 2.8), (1.0, 0.2, 0.1, 3.0), (0.9, -0.6, 0.2, 2.6),
    (0.9, 0.4, -0.5, 3.4), (0.75, -0.3, -0.75, 3.9), (0.5, 0.1, -1.0, 4.4), (0.35, -0.6, -0.9, 4.2), (0.8, 0.7, -0.3, 2.6),
    (1.0, -0.2, -0.25, 3.0),
])  # fmt: skip
FINEST = 0.75  # millimetres of radius at which branching ends
PIECES = 4  # ellipsoids per branch


def tree(patient: Patient) -> Solids:
    """Every branch of both lungs; what would leave the lung is left out."""
    generator = np.random.default_rng([patient.seed, 1])
    parts = [part for side in (1, -1) for part in _lung_tree(patient, side, generator)]
    return Solids.join(parts)


def _lung_tree(patient: Patient, side: int, generator: np.random.Generator) -> list[Solids]:
    roots = np.concatenate([ROOTS, ROOTS[3:]])
    number = len(roots)
    along = _unit(roots[:, :3] * [side, 1, 1] + generator.normal(0, 0.14, (number, 3)))
    radius = roots[:, 3] * 1.2 * patient.vessels * generator.uniform(0.85, 1.1, number)
    place = np.asarray(HILUM[side]) + generator.normal(0, 3.5, (number, 3)) + along * 3
    parts = []
    while number:
        length = (5.5 + 2.3 * radius) * generator.uniform(0.8, 1.25, number)
        parts.append(_pieces(place, along, np.stack([radius, length], -1)))
        place = place + along * length[:, None]
        place, along, radius = _branched(place, along, radius, generator=generator)
        at_hilum = np.abs(place[:, 0]) < 48
        keep = (radius > FINEST) & (at_hilum | (lung(patient, tuple(place.T))[0] < -2.5))
        place, along, radius = place[keep], along[keep], radius[keep]
        number = len(place)
    whole = Solids.join(parts)
    seen = lung(patient, tuple(whole.centres.T))[0] < 3
    return [Solids(whole.centres[seen], whole.axes[seen], whole.gains[seen])]


def _branched(place: Array, along: Array, radius: Array, *, generator: np.random.Generator) -> tuple[Array, Array, Array]:
    """Two children for every branch: a thick one that bends little and a thin one that bends more (Murray: the cubes add up)."""
    aside = _unit(np.cross(along, generator.normal(0, 1, along.shape)))
    thick = generator.uniform(0.8, 0.93, len(place))
    thin = np.cbrt(1 - thick**3)
    bent = [_unit(along + sign * aside * np.tan(np.deg2rad(angle)))
            for sign, angle in ((1, 13), (-1, 40))]  # fmt: skip
    return np.concatenate([place, place]), np.concatenate(bent), np.concatenate([radius * thick, radius * thin])


def _pieces(place: Array, along: Array, size: Array) -> Solids:
    """A row of ellipsoids along every branch; `size` (n, 2) is radius and length."""
    up = _unit(np.cross(along, [0.31, 0.77, 0.55]))
    out = np.cross(along, up)
    radius, step = size[:, :1], size[:, 1:] / PIECES
    axes = np.stack([along * step, up * radius, out * radius], -1)
    centres = np.concatenate([place + along * step * (k + 0.5) for k in range(PIECES)])
    gain = np.full(len(centres), (ATTENUATION["blood"] - ATTENUATION["lung"]) / 2)
    return Solids(centres, np.tile(axes, (PIECES, 1, 1)), gain)


def airways(patient: Patient) -> Solids:
    """Windpipe and main bronchi: air in place of soft tissue."""
    lines = [([(0, 12, 230), (1, 4, 150), (4, -8, 90), (2, -14, 52)], 8.6),
             ([(3, -14, 56), (16, -14, 38), (34, -14, 24)], 6.8), ([(1, -14, 56), (-18, -14, 42), (-40, -14, 30)], 6.0)]  # fmt: skip
    parts = []
    for knots, radius in lines:
        places, _ = smooth(knots, [(1, 1)] * len(knots), 1.5)
        along = np.gradient(places, axis=0)
        step = np.linalg.norm(along, axis=1)[:, None]
        r = radius * patient.cage[3] / 147
        parts.append(_pieces(places - along * 4, along / step, np.concatenate([np.full_like(step, r), 8 * step], 1)))
    whole = Solids.join(parts)
    return Solids(whole.centres, whole.axes, np.full(len(whole.gains), -ATTENUATION["soft"] / 16))


def _unit(v: Array) -> Array:
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))
