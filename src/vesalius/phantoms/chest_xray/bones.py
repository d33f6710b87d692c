"""The skeleton as rows of small ellipsoids: ribs, spine, clavicles, shoulder blades, upper arms. Compact outside, marrow inside."""

from collections.abc import Sequence

import numpy as np

from vesalius.core.space import Array
from vesalius.phantoms.chest_xray.patient import Patient, spine_at
from vesalius.phantoms.chest_xray.solids import girth
from vesalius.physics.xray import ATTENUATION, Solids

SHELL = ATTENUATION["bone"] - ATTENUATION["soft"]
CORE = ATTENUATION["marrow"] - ATTENUATION["bone"]
LEVELS = np.array([134, 116, 97, 77, 56, 35, 13, -9, -32, -56, -81, -107, -134, -163, -193], float)  # T1 to L3
DROP = (36, 60, 78, 91, 100, 107, 111, 108, 100, 84, 54, 32)  # millimetres from a rib's head to its front end
END = (148, 150, 148, 146, 143, 139, 134, 127, 118, 106, 84, 62)  # degrees around the cage
OVERLAP = 4  # ellipsoids of a tube that lie over each other


def skeleton(patient: Patient) -> Solids:
    """All bones."""
    parts = [spine(patient)]
    for side in (1, -1):
        parts += [rib(patient, k, side) for k in range(12)]
        parts += [clavicle(patient, side), scapula(patient, side), humerus(patient, side)]
    return Solids.join(parts)


def tube(places: Array, radii: Array, *, normal: Array | None = None, wall: float = 1.0, core: float = CORE) -> Solids:
    """A hollow bone along `places` (n, 3), evenly spaced, with half height and half thickness `radii` (n, 2); `normal` (n, 3) is where
    its thickness points."""
    along = np.gradient(places, axis=0)
    step = np.linalg.norm(along, axis=1, keepdims=True)
    along = along / step
    out = np.broadcast_to([0.0, 1.0, 0.0], along.shape) if normal is None else normal
    up = np.cross(out, along)
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    out = np.cross(along, up)
    inner = np.maximum(radii - wall, 0.25 * radii)
    frames = [np.stack([along * step * (OVERLAP / 2), up * r[:, :1], out * r[:, 1:]], -1) for r in (radii, inner)]
    gains = np.ones(len(places)) / OVERLAP
    return Solids(np.concatenate([places, places]), np.concatenate(frames), np.concatenate([SHELL * gains, core * gains]))


def smooth(knots: Sequence[Sequence[float]] | Array, radii: Sequence[Sequence[float]], step: float = 3.0) -> tuple[Array, Array]:
    """A curve through `knots` at even steps of about `step` mm, with its radii."""
    from scipy.interpolate import CubicSpline

    points = np.asarray(knots, float)
    t = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    fine = np.linspace(0, t[-1], max(4, round(t[-1] / step)))
    return CubicSpline(t, points)(fine), np.stack([np.interp(fine, t, r) for r in np.asarray(radii, float).T], -1)


def rib(patient: Patient, k: int, side: int) -> Solids:
    """Rib `k` + 1: from the spine backwards, around the cage, falling to the front, where bone turns into cartilage unseen."""
    a, b = patient.cage[0] + 5, patient.cage[1] + 5
    size = patient.cage[3] / 147
    turn = np.deg2rad(np.linspace(9 + (k == 0) * 14, END[k], 110))
    part = (turn - turn[0]) / (turn[-1] - turn[0])
    z = (LEVELS[k] + 4) * size - DROP[k] * patient.slope * size * part**1.45 + 4 * np.sin(np.pi * np.minimum(part / 0.3, 1))
    g = np.maximum(girth(patient, z - 10 * (k < 2)), 0.3 + 0.07 * min(k, 2))
    x, y = a * g * np.sin(turn), 2 - b * g * np.cos(turn)
    lean = spine_at(patient, z) * np.clip(1 - np.abs(x) / 60, 0, 1)
    places = np.stack([side * x + lean, y, z], -1)
    normal = np.stack([side * np.sin(turn) / a, -np.cos(turn) / b, 0 * turn], -1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    high = (4.6 + 1.8 * np.sin(np.pi * min(k + 1.5, 10) / 11)) * (0.85 + 0.3 * part)
    made = tube(places, np.stack([high, 0 * high + 4.4], -1), normal=normal, wall=1.7, core=1.05 * CORE)
    ends = np.clip((1 - part) / 0.07, 0, 1) * np.clip(part / 0.02, 0.2, 1)
    return Solids(made.centres, made.axes, made.gains * np.tile(ends * (1.55 - 0.55 * part), 2))


def clavicle(patient: Patient, side: int) -> Solids:
    """From the breastbone to the shoulder, an S."""
    lift, front = patient.clavicle, patient.cage[1]
    knots = [(13, front * 0.78, 96 + lift), (42, front * 0.86, 102 + lift), (82, front * 0.6, 113 + 1.3 * lift),
             (118, front * 0.2, 124 + 1.6 * lift), (152, -4, 127 + 1.8 * lift)]  # fmt: skip
    places, radii = smooth(knots, [(9, 8), (6.2, 6.2), (5.4, 5.4), (5.8, 5), (7.5, 4.5)])
    return tube(places * [side, 1, 1], radii, wall=2.1)


def scapula(patient: Patient, side: int) -> Solids:
    """A thin triangle with thick edges; further out where the shoulders were rolled forward."""
    out = patient.scapula + patient.cage[0] - 134
    inner, low, socket = (np.array(v, float) for v in ((88 + out, -96, 108), (104 + out, -104, -22), (147 + 0.5 * out, -58, 104)))
    outer_edge = np.stack([low, 0.5 * (low + socket) + [2, -3, -6], socket])
    inner_edge = np.stack([inner, 0.5 * (inner + low) + [-4, 0, 0], low])
    ridge = np.stack([inner, 0.5 * (inner + socket), socket]) + np.array([(4, -4, -20), (0, -14, 6), (14, -4, 26)])
    parts = [tube(*smooth(outer_edge, [(4, 4), (4.5, 4.5), (9, 9)]), wall=1.3),
             tube(*smooth(inner_edge, [(2, 2), (2, 2), (3.5, 3.5)]), wall=0.9),
             tube(*smooth(ridge, [(3, 3), (5, 4), (7, 5)]), wall=1.2)]  # fmt: skip
    u, v = (c.ravel() for c in np.meshgrid(np.arange(0.04, 1, 0.07), np.arange(0.04, 1, 0.07)))
    keep = u + v < 1
    places = inner + np.outer(u[keep], socket - inner) + np.outer(v[keep], low - inner)
    first, second = (d / np.linalg.norm(d) for d in (socket - inner, low - inner))
    second = second - first * (first @ second)
    second /= np.linalg.norm(second)
    axes = np.stack([first * 9, second * 11, np.cross(first, second) * 1.4], -1)
    blade = Solids(places, np.broadcast_to(axes, (len(places), 3, 3)), np.full(len(places), 0.16 * SHELL))
    made = Solids.join([*parts, blade])
    mirror = np.array([side, 1, 1])
    return Solids(made.centres * mirror, made.axes * mirror[:, None], made.gains)


def humerus(patient: Patient, side: int) -> Solids:
    """Head and upper shaft, at the edge of the film."""
    out = 0.5 * (patient.cage[0] - 134)
    head = np.array([[side * (176 + out), -36.0, 106.0]] * 2)
    ball = Solids(head, np.stack([np.eye(3) * 24, np.eye(3) * 22.6]), np.array([SHELL, CORE]))
    places, radii = smooth([(182 + out, -36, 98), (192 + out, -30, 50), (200 + out, -24, -30)], [(18, 18), (12, 12), (11, 11)])
    return Solids.join([ball, tube(places * [side, 1, 1], radii, wall=3.0)])


def spine(patient: Patient) -> Solids:
    """Vertebral bodies with their end plates, pedicles, transverse and spinous processes; manubrium in front."""
    size = patient.cage[3] / 147
    parts = []
    for k, level in enumerate(LEVELS * size):
        parts += vertebra(float(spine_at(patient, np.array(level))), level, half=(13.5 + 0.75 * k, 8.0 + 0.28 * k))
    plate = np.array([26.0, 6.0, 24.0])
    breast = np.array([[0, 0.82 * patient.cage[1], 84.0]] * 2)
    parts.append(Solids(breast, np.stack([np.diag(plate), np.diag(plate - 1.2)]), np.array([0.5 * SHELL, 0.5 * CORE])))
    return Solids.join(parts)


def vertebra(x: float, z: float, *, half: tuple[float, float]) -> list[Solids]:
    """One vertebra at (x, z); `half` width and height of its body."""
    wide, high = half
    heights = np.linspace(-high + 2, high - 2, 5)
    body = _discs(x, z + heights, (wide, 14.5, (heights[1] - heights[0]) * 1.0), gain=0.0022)
    plates = _discs(x, z + np.array([-high, high]), (wide, 14.5, 1.0), gain=0.3 * SHELL)
    parts = [body, plates, _shell((x, -101.0, z - 16), (3.6, 9.0, 8.5), wall=1.2)]
    for side in (1, -1):
        parts.append(_shell((x + side * wide * 0.72, -76.0, z + 3), (4.4, 7.0, 6.4), wall=1.5))
        ends = [(x + side * 12, -78, z + 3), (x + side * 22, -82, z + 5), (x + side * 33, -86, z + 7)]
        parts.append(tube(*smooth(ends, [(5, 4), (4, 4), (5, 4)]), wall=1.0))
    return parts


def _discs(x: float, z: Array, semi: tuple[float, float, float], *, gain: float) -> Solids:
    centres = np.stack([np.full_like(z, x), np.full_like(z, -62.0), z], -1)
    return Solids(centres, np.broadcast_to(np.diag(semi), (len(z), 3, 3)), np.full(len(z), gain))


def _shell(centre: tuple[float, float, float], semi: tuple[float, float, float], *, wall: float) -> Solids:
    axes = np.stack([np.diag(semi), np.diag(np.asarray(semi) - wall)])
    return Solids(np.array([centre, centre]), axes, np.array([0.5 * SHELL, 0.5 * CORE]))
