"""What surrounds the brain: skull with its marrow, scalp, face with eyes and air sinuses, and the upper neck."""

from dataclasses import dataclass

import numpy as np

from vesalius.core.space import Array
from vesalius.phantoms._shapes import Points, at, capsule, chain, coverage, ellipsoid, step, union
from vesalius.phantoms.brain_tumour.brain import Hulls, mirrored
from vesalius.phantoms.brain_tumour.head import Head
from vesalius.phantoms.brain_tumour.tissues import Canvas

BONE_TABLE = 1.6  # millimetres of compact bone on either side of the marrow


@dataclass(frozen=True)
class Shells:
    """Signed distances to the inner face of the skull and to the skin."""

    inner: Array
    skin: Array


def shells(head: Head, p: Points, outline: Hulls) -> Shells:
    """The cavity follows the brain with a gap for fluid, rounder than it; the skin follows skull and face."""
    q = mirrored(p)
    cavity = union(union(outline.cerebrum, outline.cerebellum, 9), outline.stem, 10)
    inner = cavity - head.gap - 0.5 * np.sin(p[1] * 0.11 + head.phases[5]) * np.sin(p[2] * 0.09 + head.phases[6])
    vault = inner - (head.skull + head.fat + 2.5)
    face = union(ellipsoid(q, (0, 34, -66), (60, 47, 66)), ellipsoid(q, (0, 30, -30), (64, 52, 40)), 12)
    nose = capsule(q, (0, 82, -42), (0, 99, -68), radii=(7, 12))
    ear = ellipsoid(q, (80, -22, -34), (9, 13, 26))
    neck = capsule(q, (0, -34, -70), (0, -48, -160), radii=(56, 54))
    skin = union(union(vault, face, 14), union(neck, nose, 3), 12)
    return Shells(inner, union(skin, ear, 4))


def paint_outside(canvas: Canvas, head: Head, p: Points, *, shell: Shells, width: float) -> None:
    """Skin, fat, muscle, face and skull, in the order in which they lie over one another."""
    texture = head.tissue.at(p)
    canvas.paint("skin", coverage(shell.skin, width))
    canvas.paint("fat", coverage(shell.skin + 2.2, width))
    _paint_muscle(canvas, head, p, shell=shell, texture=texture, width=width)
    _paint_face(canvas, head, p, texture=texture, width=width)
    outer = shell.inner - head.skull * (1 + 0.12 * texture)
    canvas.paint("bone", coverage(outer, width))
    marrow = np.maximum(outer + BONE_TABLE, BONE_TABLE - shell.inner)
    canvas.paint("marrow", coverage(marrow, width) * np.clip(0.85 + 0.2 * texture, 0.3, 1) * step(p[2], -70, -20))
    _paint_air(canvas, p, width=width)


def _paint_muscle(canvas: Canvas, head: Head, p: Points, *, shell: Shells, texture: Array, width: float) -> None:
    """Temporal muscle beside the skull; below it, the muscles of face and neck with fat between."""
    x, y, z = mirrored(p)
    deep = step(z, -18, -40) * step(shell.inner, head.skull, head.skull + 3)
    temple = coverage(ellipsoid((x, y, z), (66, 14, -8), (13, 30, 36)), width + 1)
    fibres = step(texture + 0.7 * np.sin(x * 0.55 + z * 0.15 + texture), 1.3, 0.5)
    under = coverage(shell.skin + 2.2 + head.fat, width + 1)
    canvas.paint("muscle", under * np.maximum(temple, deep * np.clip(fibres, 0.15, 1)))
    galea = shell.inner - head.skull - 1.2
    canvas.paint("muscle", 0.8 * coverage(np.abs(galea) - 0.7, width) * step(z, -40, -20))


def _paint_face(canvas: Canvas, head: Head, p: Points, *, texture: Array, width: float) -> None:
    """Bones of the face, nasal mucosa, orbits with globes, lenses, muscles and optic nerves."""
    q = mirrored(p)
    where = np.flatnonzero((q[1] > 5) & (q[2] < 5) & (q[0] < 75))
    q = at(q, where)
    sinus = sinuses(q)
    canvas.paint("marrow", 0.8 * coverage(sinus - 5, width + 1), where)
    canvas.paint("bone", coverage(np.abs(sinus - 1.2) - 0.9, width), where)
    nose = ellipsoid(q, (0, 62, -64), (13, 33, 24))
    turbinates = step(np.sin(q[2] * 0.42 + texture[where]) + 0.9 * np.sin(q[0] * 0.55), -0.3, 0.5)
    canvas.paint("air", coverage(nose, width), where)
    canvas.paint("mucosa", coverage(nose, width) * turbinates, where)
    orbit = chain(q, [(34, 58, -36), (28, 42, -36), (14, 18, -32)], [16.5, 14, 4])
    globe = ellipsoid(q, (34, 59, -36), (12, 12.2, 12))
    canvas.paint("bone", coverage(orbit - 1.5, width), where)
    canvas.paint("fat", coverage(orbit, width), where)
    for side in ((12, 0), (-11, 0), (0, 11), (0, -11)):
        belly = chain(q, [(34 + side[0], 56, -36 + side[1]), (28 + 0.8 * side[0], 40, -36 + 0.8 * side[1]), (14, 18, -32)], [1.2, 2.4, 1.2])
        canvas.paint("muscle", coverage(belly, width), where)
    canvas.paint("stem", coverage(chain(q, [(34, 48, -36), (24, 32, -35), (12, 14, -30), (4, 6, -24)], [2.0, 2.0, 2.0, 2.2]), width), where)
    canvas.paint("muscle", coverage(globe - 0.8, width), where)
    canvas.paint("vitreous", coverage(globe, width), where)
    canvas.paint("lens", coverage(ellipsoid(q, (34, 67.5, -36), (4.6, 2.2, 4.6)), width), where)


def sinuses(q: Points) -> Array:
    """Signed distance to the maxillary, ethmoid and sphenoid air spaces."""
    maxillary = ellipsoid(q, (30, 48, -66), (14, 17, 16))
    ethmoid = ellipsoid(q, (7, 46, -38), (8, 18, 11))
    sphenoid = ellipsoid(q, (7, 16, -42), (9, 12, 9))
    return np.minimum(np.minimum(maxillary, ethmoid), sphenoid)


def _paint_air(canvas: Canvas, p: Points, *, width: float) -> None:
    q = mirrored(p)
    where = np.flatnonzero((q[2] < 25) & (q[0] < 70) & (q[1] > -50))
    q = at(q, where)
    frontal = ellipsoid(q, (9, 74, -8), (11, 5, 10))
    cells = ellipsoid(q, (55, -34, -40), (8, 12, 13)) + 3.0 * np.sin(q[0] * 1.3) * np.sin(q[1] * 1.1) * np.sin(q[2] * 1.2)
    canvas.paint("bone", coverage(ellipsoid(q, (53, -32, -40), (13, 17, 16)), width), where)
    for space in (sinuses(q), frontal, cells):
        canvas.paint("air", coverage(space, width), where)
    canvas.paint("choroid", 0.8 * coverage(ellipsoid(q, (0, 3, -31), (6, 4.5, 3.5)), width), where)  # the pituitary gland
