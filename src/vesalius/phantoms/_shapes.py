"""Signed distances in millimetres (negative inside) of the solids that anatomy is made of, and how they blend.

Closed forms and polynomial blends after Quilez, "Distance functions" (iquilezles.org). An ellipsoid's is an estimate that is
right to first order at its surface. Points are three arrays (x, y, z) of one shape.
"""

from collections.abc import Sequence

import numpy as np

from vesalius.core.space import Array

Points = tuple[Array, Array, Array]
Place = tuple[float, float, float]


def at(p: Points, where: Array) -> Points:
    """The points with the indices `where`."""
    return p[0][where], p[1][where], p[2][where]


def ellipsoid(p: Points, centre: Place, semi_axes: Place) -> Array:
    """An axis-aligned ellipsoid."""
    inner, outer = np.zeros_like(p[0]), np.full_like(p[0], 1e-12)
    for axis, middle, length in zip(p, centre, semi_axes, strict=True):
        scaled = (axis - middle) * (1 / length)
        scaled *= scaled
        inner += scaled
        scaled *= 1 / length**2
        outer += scaled
    radius = np.sqrt(inner)
    return np.asarray(radius * (radius - 1) / np.sqrt(outer))


def capsule(p: Points, start: Place, end: Place, *, radii: tuple[float, float]) -> Array:
    """A rod from `start` to `end` whose radius runs from radii[0] to radii[1], with round ends."""
    a, b, c = (e - s for s, e in zip(start, end, strict=True))
    x, y, z = (axis - s for axis, s in zip(p, start, strict=True))
    length, along = a * a + b * b + c * c, x * a + y * b + z * c
    t = np.clip(along * (1 / length), 0, 1)
    squared = x * x + y * y + z * z + t * (t * length - 2 * along)
    return np.asarray(np.sqrt(np.maximum(squared, 0)) - (radii[0] + t * (radii[1] - radii[0])))


def chain(p: Points, places: Sequence[Place], radii: Sequence[float], *, blend: float = 2.0) -> Array:
    """Rods from place to place, smoothly joined."""
    total = capsule(p, places[0], places[1], radii=(radii[0], radii[1]))
    for k in range(1, len(places) - 1):
        total = union(total, capsule(p, places[k], places[k + 1], radii=(radii[k], radii[k + 1])), blend)
    return total


def union(a: Array, b: Array, blend: float) -> Array:
    """Both solids, joined with a fillet of about `blend` millimetres."""
    h = np.maximum(blend - np.abs(a - b), 0)
    return np.asarray(np.minimum(a, b) - h * h * (0.25 / blend), np.float32)


def intersection(a: Array, b: Array, blend: float) -> Array:
    """What lies in both, with the edge rounded by about `blend` millimetres."""
    return -union(-a, -b, blend)


def coverage(distance: Array, width: float) -> Array:
    """Part of a cube of side `width` that lies inside, for a flat border at `distance` from its centre."""
    return np.asarray(np.clip(0.5 - distance * (1 / width), 0, 1), np.float32)


def step(value: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, a smooth cubic between."""
    t = np.clip((value - low) * (1 / (high - low)), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def turned(p: Points, centre: Place, angle: float, *, plane: tuple[int, int]) -> Points:
    """Points rotated by minus `angle` degrees in the `plane` of two axes about `centre`: a solid evaluated there is turned
    by plus `angle`."""
    a, b = plane
    cos, sin = float(np.cos(np.deg2rad(angle))), float(np.sin(np.deg2rad(angle)))
    q = list(p)
    da, db = p[a] - centre[a], p[b] - centre[b]
    q[a], q[b] = centre[a] + cos * da + sin * db, centre[b] - sin * da + cos * db
    return q[0], q[1], q[2]
