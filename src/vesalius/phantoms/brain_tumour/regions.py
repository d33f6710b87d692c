"""What is seen of a grown tumour: oedema, enhancing rim, necrosis, cysts, and the truth that goes with the picture.

As in Swanson et al. 2000, contrast agent shows where the cell density is above 0.8 of the capacity and T2 where it is above
0.16; oedema spares the cortex, and what the front of growth left behind longest ago is necrotic.
"""

from dataclasses import dataclass

import numpy as np

from vesalius.core.space import Array
from vesalius.phantoms._shapes import Points, at, coverage, step
from vesalius.phantoms.brain_tumour.growth import CORE, HALF, STEP, VISIBLE, Lesion, Tumour
from vesalius.phantoms.brain_tumour.tissues import Canvas

LABELS = {"necrotic": 1, "oedema": 2, "enhancing": 3}
REGIONS = {"whole": (1, 2, 3), "core": (1, 3), "enhancing": (3,)}
SPARING = 9.0  # millimetres by which oedema stays behind in grey matter


@dataclass(frozen=True)
class Spot:
    """The tumour at some points: indices `where`, density, depth behind the front in mm, and noise of unit variance."""

    where: Array
    density: Array
    depth: Array
    large: Array
    middle: Array
    small: Array
    other: Array


def paint_tumour(canvas: Canvas, tumour: Tumour, p: Points, *, host: Array, width: float) -> Array:
    """Paint the tumour at reference points `p` into `host` (white, grey) tissue; gives coverage (3, n) of the labels 1 to 3."""
    truth = np.zeros((3, p[0].size), np.float32)
    spot = _look(tumour, p)
    _paint_oedema(canvas, truth, tumour.lesion, spot=spot, host=host[:, spot.where], width=width)
    ragged = 1.5 * spot.middle + 0.9 * spot.small
    border = _behind(spot.density, CORE, tumour.lesion.invasion) + ragged
    core = coverage(-border, width) * np.clip(1.25 * host[:, spot.where].sum(0), 0, 1)
    for name, label, part in _core_parts(tumour.lesion, spot, depth=spot.depth + ragged, width=width):
        canvas.paint(name, core * part, spot.where)
        _mark(truth, label, core * part, where=spot.where)
    return truth


def _look(tumour: Tumour, p: Points) -> Spot:
    offset, edge = tumour.offset(p), (HALF - 1) * STEP
    inside = (np.abs(offset[0]) < edge) & (np.abs(offset[1]) < edge) & (np.abs(offset[2]) < edge)
    where = np.flatnonzero(inside)
    density, depth = tumour.read(at(p, where))
    near = density > 0.03
    where = where[near]
    q = at(p, where)
    large, middle, small = (seed.at(q) for seed in tumour.seeds)
    return Spot(where, density[near], depth[near], large, middle, small, tumour.other.at(q))


def _behind(density: Array, level: float, invasion: float) -> Array:
    """Millimetres behind the place where the density is `level`, on a wave of the shape (1 + exp(x / 2 invasion))^-2, which
    is close to Fisher's front at its least speed."""
    odds = 1 / np.sqrt(np.clip(density, 1e-4, 0.9999)) - 1
    return np.asarray(2 * invasion * (np.log(1 / np.sqrt(level) - 1) - np.log(odds)), np.float32)


def _paint_oedema(canvas: Canvas, truth: Array, lesion: Lesion, *, spot: Spot, host: Array, width: float) -> None:
    """Fluid spreads in white matter and spares the cortex, which gives the fingers."""
    inside = _behind(spot.density, VISIBLE, lesion.invasion) + 0.8 * spot.small + 1.2 * spot.other
    cover = host[0] * coverage(-inside, width) + host[1] * coverage(SPARING - inside, width)
    strength = np.clip(0.55 + 0.05 * inside + 0.06 * spot.small + 0.06 * spot.other, 0.4, 0.95)
    canvas.paint("oedema", cover * strength, spot.where)
    _mark(truth, LABELS["oedema"], cover, where=spot.where)


def _core_parts(lesion: Lesion, spot: Spot, *, depth: Array, width: float) -> list[tuple[str, int, Array]]:
    """Tissue, label and coverage of the parts of the core, each painted over the one before."""
    everything = np.ones_like(depth)
    necrotic, enhancing = LABELS["necrotic"], LABELS["enhancing"]
    thickness = lesion.rim * np.clip(1 + 0.40 * spot.other + 0.20 * spot.large, 0.45, 2.0)
    deep = coverage(thickness - depth, width)
    if lesion.kind == "diffuse":
        cysts = deep * step(spot.other, 0.9, 1.4)
        patches = step(spot.middle + 0.5 * spot.large, 1.5, 1.9)
        return [("tumour", necrotic, everything), ("cyst", necrotic, cysts), ("fringe", enhancing, patches)]
    dead = deep if lesion.kind == "ring" else deep * step(spot.other, 0.5, 1.1)
    liquid = dead * step(depth - thickness + 3.0 * spot.small, 3.0, 7.0) * 0.7
    quiet = step(spot.large, 0.9, 1.2)  # part of the margin that takes up no contrast agent
    mixed = np.clip(0.35 + 0.30 * spot.small, 0.0, 0.85)
    return [("rim", enhancing, everything), ("fringe", enhancing, mixed), ("tumour", necrotic, quiet), ("necrosis", necrotic, dead),
            ("cyst", necrotic, liquid)]  # fmt: skip


def _mark(truth: Array, label: int, cover: Array, *, where: Array) -> None:
    part = truth[:, where] * (1 - cover)
    part[label - 1] += cover
    truth[:, where] = part
