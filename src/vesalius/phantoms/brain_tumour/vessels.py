"""Dura and blood: falx, tentorium, venous sinuses, the large arteries, and small vessels in the sulci."""

import numpy as np

from vesalius.core.space import Array
from vesalius.phantoms._shapes import Points, at, chain, coverage, ellipsoid, step
from vesalius.phantoms.brain_tumour.brain import BASE_Y, SURFACE, falx_plane, mirrored
from vesalius.phantoms.brain_tumour.head import Head
from vesalius.phantoms.brain_tumour.tissues import Canvas

MIDDLE = [(11, 4, -22), (22, 2, -18), (34, 4, -11), (39, -6, -3), (39, -20, 2)]  # middle cerebral artery
ANTERIOR = [(5, 8, -19), (1.5, 31, -6), (1.5, 38, 8), (1.5, 22, 31), (1.5, -5, 34)]
CAROTID = [(11, 4, -22), (13, 9, -31), (15, -2, -37), (17, -6, -60)]
BASILAR = [(0, -11, -22), (0, -11, -34), (1, -20, -48), (5, -34, -66)]
CONFLUENCE = (0, SURFACE[0][1] - SURFACE[1][1] - 1, -9)  # where the sinuses meet at the back of the head
TENT_Z = (-15.0, -13.0, -6.3, 0.3, -0.5)  # height of the tentorium at the first of BASE_Y


def paint_membranes(canvas: Canvas, head: Head, p: Points, *, inner: Array, width: float) -> None:
    """Dura along the skull, falx and tentorium, and the venous sinuses in them; `inner` is the distance to the skull."""
    x, y, z = p
    canvas.paint("dura", 0.8 * coverage(np.abs(inner + 0.3) - 0.5, width))
    middle = falx_plane(head, p)
    above = z - np.interp(y, (*BASE_Y[:5], -30), (*TENT_Z, -25)).astype(np.float32)
    reach = np.sqrt(((y + 6) * (1 / 46)) ** 2 + ((z - 2) * (1 / 37)) ** 2)
    where = np.flatnonzero((np.abs(x - middle) < 3) & (reach > 0.9) & (above > 0))
    falx = np.maximum(np.abs(x - middle)[where] - 0.55, (1 - reach[where]) * 40)
    canvas.paint("dura", coverage(falx, width), where)
    where = np.flatnonzero((y < -32) & (np.abs(above) < 9))
    side = np.abs(x[where])
    tent = np.maximum(np.abs(above[where] + 0.08 * side) - 0.5, 11 - side - 0.4 * (y[where] + 32))
    canvas.paint("dura", coverage(tent, width), where)
    _paint_sinuses(canvas, p, middle=middle, inner=inner, width=width)


def _paint_sinuses(canvas: Canvas, p: Points, *, middle: Array, inner: Array, width: float) -> None:
    """The sagittal sinus follows the skull in the midline; transverse, straight and cavernous sinuses lie where they lie."""
    x, y, z = p
    upper = np.flatnonzero((np.abs(x) < 12) & (y < 55) & (z > -18) & (inner > -12))
    crest = np.hypot(x[upper] - middle[upper], (inner[upper] + 2.5) * 0.8) - (2.6 + 1.4 * step(y[upper], 40, -80))
    canvas.paint("vein", coverage(crest, width), upper)
    lower = np.flatnonzero((z < 8) & (y < 20))
    q = mirrored(at(p, lower))
    transverse = chain(q, [CONFLUENCE, (28, -93, -14), (50, -68, -20), (54, -48, -32)], [4, 3.6, 3.4, 3.2])
    straight = chain(q, [CONFLUENCE, (0, -45, 4)], [2.4, 1.6])
    cavernous = ellipsoid(q, (12, 1, -33), (4, 8, 5))
    for vessel in (transverse, straight, cavernous):
        canvas.paint("vein", coverage(vessel, width), lower)


def paint_arteries(canvas: Canvas, head: Head, p: Points, *, wet: Array, width: float) -> None:
    """Flow voids at the base and along the falx; veins and small arteries in the sulci, where the part of fluid is `wet`."""
    x, y, z = mirrored(p)
    where = np.flatnonzero((x < 46) & (y > -45) & (y < 46) & (z < 40))
    q = at((x, y, z), where)
    for places, radii in ((MIDDLE, [1.7, 1.6, 1.4, 1.2, 1.0]), (ANTERIOR, [1.3, 1.2, 1.1, 1.0, 0.8])):
        canvas.paint("artery", coverage(chain(q, places, radii, blend=1), width), where)
    for places in (CAROTID, BASILAR):
        canvas.paint("artery", coverage(chain(q, places, [2.2, 2.3, 2.3, 2.3], blend=1), width), where)
    sulci = np.flatnonzero((wet > 0.25) & (p[2] > -40))
    small = head.fine.at(at(p, sulci))
    canvas.paint("vein", 0.9 * step(small, 1.0, 1.6) * wet[sulci], sulci)
