"""The brain: folded cortex, white matter, deep nuclei, ventricles, cerebellum and brain stem, painted as tissue at points.

Sulci are sheets that wind inwards from the surface (zero sets of one-wavelength noise, carried along the radius so that they
stand upright); the cortex is what lies within three millimetres of the surface or of a sheet.
"""

from dataclasses import dataclass

import numpy as np

from vesalius.core.space import Array
from vesalius.phantoms._shapes import Points, at, capsule, chain, coverage, ellipsoid, intersection, step, turned, union
from vesalius.phantoms.brain_tumour.head import Head
from vesalius.phantoms.brain_tumour.tissues import Canvas

BASE_Y = (-110.0, -95.0, -70.0, -48.0, -38.0, -15.0, 5.0, 16.0, 32.0, 60.0, 75.0)
BASE_Z = (-14.0, -12.0, -5.0, 2.0, 0.0, -11.0, -14.0, -19.0, -23.0, -17.0, -10.0)
SURFACE = ((0.0, -17.0, 12.0), (67.0, 87.0, 63.0))  # the ellipsoid that cerebral depth and radius are measured on


@dataclass(frozen=True)
class Hulls:
    """Signed distances to the smooth outlines of the parts of the brain."""

    cerebrum: Array
    cerebellum: Array
    stem: Array

    @property
    def brain(self) -> Array:
        return np.minimum(np.minimum(self.cerebrum, self.cerebellum), self.stem)


def mirrored(p: Points) -> Points:
    """Both halves laid on the right one."""
    return np.abs(p[0]), p[1], p[2]


def hulls(p: Points) -> Hulls:
    """Outlines of cerebrum, cerebellum and brain stem."""
    x, y, z = q = mirrored(p)
    floor = np.interp(y, BASE_Y, BASE_Z).astype(np.float32) - 0.06 * x + 0.004 * x * x * step(y, -30, 10)
    main = intersection(ellipsoid(q, *SURFACE), floor - z, 10)
    temporal = ellipsoid(turned(q, (45, -12, -22), -14, plane=(1, 2)), (44, -8, -21), (21, 43, 20))
    cerebrum = union(main, temporal, 8)
    tent = np.interp(y, BASE_Y[:5], (-16, -14, -7, -1, -1)).astype(np.float32) - 0.10 * x
    lobe = union(ellipsoid(q, (23, -63, -33), (28, 29, 25)), ellipsoid(q, (0, -61, -29), (16, 27, 23)), 8)
    return Hulls(cerebrum, intersection(lobe, z - tent, 6), _stem(q))


def _stem(q: Points) -> Array:
    midbrain = capsule(q, (0, -22, 2), (0, -26, -20), radii=(13, 12))
    pons = ellipsoid(turned(q, (0, -26, -29), 12, plane=(1, 2)), (0, -25, -29), (17, 13, 15))
    medulla = capsule(q, (0, -32, -38), (0, -44, -74), radii=(9.5, 6.5))
    cord = capsule(q, (0, -44, -74), (0, -50, -150), radii=(6.5, 6.0))
    return union(union(union(midbrain, pons, 5), medulla, 6), cord, 3)


def pial_depth(head: Head, p: Points, hull: Array, *, bend: Array, effaced: Array) -> Array:
    """Millimetres below the pia (negative in fluid): below the outline, the fissures and both orders of sulci.
    `bend` is noise that winds them; `effaced` (0 to 1) closes them, as swelling does."""
    x, _, z = p
    wide = 0.35 + 0.75 * head.atrophy
    open_ = wide * (1 - 0.85 * effaced)
    middle = falx_plane(head, p)
    fissure = np.hypot(x - middle, np.maximum(1.03 - arch(p), 0) * 30) - (0.5 + 0.3 * open_)
    below = np.minimum(-hull, np.where(z > -24, fissure, 40))
    radius = np.sqrt(sum(((axis - c) * (1 / a)) ** 2 for axis, c, a in zip(p, *SURFACE, strict=True)))
    stretch = 1 + 0.6 * (1 / np.clip(radius, 0.4, 1.1) - 1)
    bends = (4.0 * bend, 3.0 * np.sin(z * 0.16 + 1.5 * bend), -4.0 * bend)
    outward = tuple(c + (axis - c) * stretch + shift for axis, c, shift in zip(p, SURFACE[0], bends, strict=True))
    folds = (outward[0], outward[1], outward[2])
    modulation = head.depth.at(folds)
    shallow = step(-hull, 9, 0)
    first = _sheet(head.primary.at(folds) / stretch, below, 15.5 + 4.0 * modulation) - open_ * (0.75 + 0.8 * shallow)
    second = _sheet(head.secondary.at(folds) / stretch, below, 6.0 - 3.0 * modulation) - open_ * (0.5 + 0.6 * shallow)
    sulci = intersection(-np.minimum(first, second), -below, 4)
    return np.asarray(np.minimum(-sulci, _sylvian(head, mirrored(p), open_=open_, bend=bend)))


def falx_plane(head: Head, p: Points) -> Array:
    """The x at which the two halves part."""
    a, b, c = head.phases[:3]
    return np.asarray(0.9 * np.sin(p[1] * 0.05 + a) + 0.8 * np.sin(p[2] * 0.07 + b) + 0.5 * np.sin(p[1] * 0.12 + c), np.float32)


def _sheet(offset: Array, below: Array, depth: Array) -> Array:
    """Distance to a sheet that ends `depth` under the surface."""
    return np.asarray(np.hypot(offset, np.maximum(below - depth, 0)))


def _sylvian(head: Head, q: Points, *, open_: Array | float, bend: Array) -> Array:
    """Distance to the fissure between frontal and temporal lobe: a stem from the side, and the insula across its end."""
    x, y, z = q
    line = z + 5 + 0.30 * y + 2.0 * np.sin(y * 0.11 + head.phases[3]) + 1.5 * np.sin(x * 0.16 + head.phases[4]) + 2.5 * bend
    ends = np.maximum(np.abs(y + 12) - 30, 0)
    inner = 38 + 0.004 * (y + 5) ** 2 + 1.5 * bend + 1.2 * np.sin(z * 0.35 + y * 0.3)
    stem = np.sqrt(np.maximum(inner - x, 0) ** 2 + line**2 + ends**2)
    insula = np.sqrt((x - inner) ** 2 + np.maximum(np.abs(line - 3) - 10, 0) ** 2 + np.maximum(np.abs(y + 8) - 20, 0) ** 2)
    return np.asarray(np.minimum(stem - open_ * 1.3 - 0.4, insula - open_ * 1.1 - 0.3))


def ventricles(head: Head, p: Points) -> Array:
    """Signed distance to the lateral ventricles, third and fourth."""
    x, y, z = q = mirrored(p)
    right = step(p[0], -3, 3)
    size = head.ventricle[0] + (head.ventricle[1] - head.ventricle[0]) * right
    flat = (x, y, z)
    body = chain(flat, [(11, 29, 6), (8, 17, 13), (9, -10, 20), (17, -32, 17), (24, -42, 10)], [4.0, 5.6, 5.2, 5.6, 6.6], blend=6)
    horn = chain(flat, [(24, -42, 10), (33, -33, -4), (34, -14, -16), (32, -8, -17)], [5.2, 3.6, 2.6, 1.8], blend=4)
    back = capsule(flat, (24, -42, 10), (25, -66, 4), radii=(5.2, 1.8))
    lateral = np.minimum(np.minimum(body, horn), back) - 2.2 * (size - 0.8)
    lateral = intersection(lateral, 1.0 - x, 2)  # the septum
    lateral = intersection(lateral, -_caudate(q), 1.5)
    third = ellipsoid(q, (0, -12, -1), (1.6 + 1.8 * head.atrophy, 14, 10))
    fourth = ellipsoid(q, (0, -44, -32), (6.5, 5.5, 11))
    aqueduct = capsule(q, (0, -26, -6), (0, -40, -24), radii=(0.9, 1.3))
    return np.minimum(np.minimum(lateral, third), np.minimum(fourth, aqueduct))


def _caudate(q: Points) -> Array:
    return chain(q, [(12, 19, 3), (14, 10, 11), (17, -10, 18), (22, -28, 16)], [7.2, 5.8, 3.2, 2.0], blend=4)


def paint_brain(canvas: Canvas, head: Head, p: Points, *, width: float, effaced: Array) -> None:
    """All that lies inside the skull, without vessels: fluid, cerebrum, nuclei, ventricles, cerebellum, stem."""
    outline = hulls(p)
    canvas.paint("fluid", np.ones_like(p[0]))
    _paint_cerebrum(canvas, head, p, outline=outline.cerebrum, width=width, effaced=effaced)
    _paint_cerebellum(canvas, head, p, outline=outline.cerebellum, width=width)
    where = np.flatnonzero(outline.stem < width)
    canvas.paint("stem", coverage(outline.stem[where], width), where)
    _paint_nuclei(canvas, p, width=width)
    _paint_ventricles(canvas, head, p, width=width)


def _paint_cerebrum(canvas: Canvas, head: Head, p: Points, *, outline: Array, width: float, effaced: Array) -> None:
    where = np.flatnonzero(outline < width)
    q = at(p, where)
    texture = head.tissue.at(q)
    depth = pial_depth(head, q, outline[where], bend=texture, effaced=effaced[where])
    canvas.paint("grey", coverage(-depth, width), where)
    thickness = 2.9 + 0.35 * texture
    canvas.paint("white", coverage(thickness - depth, width + 0.5), where)
    canvas.paint("grey", np.clip(0.06 + 0.05 * texture, 0, 0.2) * step(depth, 2, 5), where)  # white matter is not uniform
    _paint_callosum(canvas, head, p, width=width)


def arch(p: Points) -> Array:
    """1 on the outer face of the corpus callosum, in the plane of the falx; more outside."""
    return np.sqrt(((p[1] + 6) * (1 / 38)) ** 2 + ((p[2] - 2) * (1 / 26)) ** 2)


def _paint_callosum(canvas: Canvas, head: Head, p: Points, *, width: float) -> None:
    where = np.flatnonzero((np.abs(p[0]) < 16) & (np.abs(p[1] + 6) < 42) & (p[2] > -6) & (p[2] < 32))
    q = at(p, where)
    thick = 5.5 + 2.0 * np.abs(q[1] + 6) * (1 / 38)
    band = np.maximum((arch(q) - 1) * 30, (1 - arch(q)) * 30 - thick)
    canvas.paint("white", coverage(np.maximum(band, np.abs(q[0]) - 13), width) * step(q[2], -5, 1), where)


def _paint_cerebellum(canvas: Canvas, head: Head, p: Points, *, outline: Array, width: float) -> None:
    """Folia are thin leaves about a branching white core, drawn as a wave across a fan of planes."""
    where = np.flatnonzero(outline < width)
    x, y, z = q = at(p, where)
    depth = -outline[where]
    fan = np.arctan2(z + 34, -(y + 38)) * 17 + 1.4 * head.tissue.at(q) + 0.05 * np.abs(x)
    leaf = np.sin(fan * 1.5)
    canvas.paint("grey", coverage(-depth + 0.9 * np.maximum(leaf, 0) * step(depth, 9, 2), width), where)
    canvas.paint("fluid", 0.45 * step(leaf, 0.55, 1.0) * step(depth, 9, 1), where)
    core = ellipsoid(mirrored(q), (19, -58, -37), (16, 15, 9)) + 3.5 * leaf
    core = np.minimum(core, capsule(mirrored(q), (17, -56, -37), (9, -34, -30), radii=(7, 7)))
    canvas.paint("white", 0.9 * coverage(core, width + 2), where)


def _paint_nuclei(canvas: Canvas, p: Points, *, width: float) -> None:
    x, y, z = mirrored(p)
    where = np.flatnonzero((x < 40) & (np.abs(y + 6) < 44) & (np.abs(z - 2) < 34))
    q = at(mirrored(p), where)
    soft = width + 1.2
    thalamus = ellipsoid(turned(q, (11, -18, 8), -28, plane=(0, 1)), (11, -18, 8), (8.5, 15, 9))
    putamen = ellipsoid(turned(q, (26, 2, 2), -14, plane=(0, 1)), (26, 2, 2), (5, 16, 10))
    pallidum = ellipsoid(turned(q, (20, -2, 0), -22, plane=(0, 1)), (20, -2, 0), (4.6, 10, 7))
    hippocampus = chain(q, [(25, -8, -18), (29, -20, -14), (27, -34, -6)], [6.0, 4.5, 3.5])
    for name, solid in (("nucleus", thalamus), ("grey", _caudate(q)), ("grey", putamen), ("pallidum", pallidum), ("grey", hippocampus)):
        canvas.paint(name, 0.92 * coverage(solid, soft), where)


def _paint_ventricles(canvas: Canvas, head: Head, p: Points, *, width: float) -> None:
    x, y, z = mirrored(p)
    where = np.flatnonzero((x < 46) & (np.abs(y + 18) < 60) & (np.abs(z + 10) < 46))
    q = at(p, where)
    hollow = ventricles(head, q)
    caps = np.exp(-np.maximum(hollow, 0) * 0.35) * (0.12 + 0.75 * head.gliosis)
    canvas.paint("gliosis", caps * step(hollow, 0, 0.6) * (mirrored(q)[0] > 3), where)
    canvas.paint("fluid", coverage(hollow, width), where)
    plexus = chain(mirrored(q), [(11, -14, 18), (19, -36, 13), (25, -41, 6), (32, -32, -6)], [1.2, 2.6, 3.4, 1.4])
    canvas.paint("choroid", 0.8 * coverage(plexus, width) * coverage(hollow + 1, width), where)
