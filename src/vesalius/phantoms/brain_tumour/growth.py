"""A glioma grown as an invading wave of cells along white matter, and how it pushes the brain aside.

Growth is the Fisher-Kolmogorov model of Swanson et al. (Cell Prolif 33:317, 2000): cells move faster in white than in grey
matter and not through fluid or falx, and multiply up to a capacity. Mass effect is a displacement that widens the tumour and
falls off with the square of distance, as in an incompressible medium, and vanishes at the skull.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from pydantic import Field as Limit
from scipy.ndimage import map_coordinates, zoom

from vesalius.core.settings import Settings
from vesalius.core.space import Array
from vesalius.phantoms._noise import Field, smooth_field
from vesalius.phantoms._shapes import Points, step
from vesalius.phantoms.brain_tumour.brain import arch, falx_plane, hulls, paint_brain
from vesalius.phantoms.brain_tumour.head import Head
from vesalius.phantoms.brain_tumour.tissues import TISSUES, Canvas

STEP, HALF = 3.0, 21  # the growth grid: millimetres, and nodes on each side of the seed
REFINED = 2  # the grown fields are kept this many times finer
CORE, VISIBLE = 0.8, 0.16  # cell densities, as parts of the capacity, that T1 with contrast agent and T2 show (Swanson et al.)
GREY_FACTOR = 0.15  # diffusivity in grey matter relative to white
PUSH = 1.3  # radius from which mass effect falls off, in radii of a ball of the core's volume

WHITE_LIKE = ("white", "stem", "gliosis")
GREY_LIKE = ("grey", "nucleus", "pallidum")


class Lesion(Settings):
    """What kind of tumour, and how large.

    `kind`        "ring": enhancing rim around necrosis; "diffuse": hardly enhancing; "solid": small, enhancing throughout
    `volume`      wanted core (necrotic and enhancing) in ml, 0 for none
    `invasion`    length in mm over which cells thin out; the oedema is about five times as wide
    `rim`         mean thickness in mm of what enhances
    `mass_effect` how much of the core's volume pushes tissue aside, 0 to 0.8
    `place`       of the first cells, in mm of the standard head
    """

    kind: Literal["ring", "diffuse", "solid"]
    volume: float = Limit(ge=0, le=120)
    invasion: float = Limit(ge=1.2, le=6)
    rim: float = Limit(ge=1, le=15)
    mass_effect: float = Limit(ge=0, le=0.8)
    place: tuple[float, float, float]

    def at_visit(self, visit: int, generator: np.random.Generator) -> "Lesion":
        """The same lesion months later: its volume times 0.6 to 1.8; as it is at visit 0."""
        factor = float(np.exp(generator.uniform(-0.5, 0.6))) if visit else 1.0
        return self.model_copy(update={"volume": min(120.0, self.volume * factor)})


@dataclass(frozen=True)
class Tumour:
    """A grown lesion: cell density, and depth in mm behind the front of the core, on the growth grid around its place.
    `seeds` are noise of long, middle and short waves; `other` is a second one of middle waves."""

    lesion: Lesion
    density: Array
    depth: Array
    seeds: tuple[Field, Field, Field]
    other: Field

    @property
    def reach(self) -> float:
        """Radius in mm from which the push falls off."""
        return float(PUSH * (3e3 * self.lesion.volume / (4 * np.pi)) ** (1 / 3))

    def offset(self, p: Points) -> Points:
        """Millimetres from the place of the first cells."""
        a, b, c = self.lesion.place
        return p[0] - a, p[1] - b, p[2] - c

    def read(self, p: Points) -> tuple[Array, Array]:
        """Density and depth at points of the standard head, before anything was pushed."""
        size = self.density.shape[0]
        index = np.stack([(axis * (1 / STEP) + HALF) * ((size - 1) / (2 * HALF)) for axis in self.offset(p)])
        density = map_coordinates(self.density, index, order=1, mode="nearest", output=np.float32)
        return density, map_coordinates(self.depth, index, order=1, mode="nearest", output=np.float32)


def host_table() -> Array:
    """For a canvas: columns (white-like, grey-like, fluid) that say where cells can live and where not."""
    groups = (WHITE_LIKE, GREY_LIKE, ("fluid",))
    return np.asarray([[float(tissue.name in names) for names in groups] for tissue in TISSUES], np.float32)


def draw_lesion(generator: np.random.Generator, head: Head) -> Lesion:
    """A ring-enhancing, diffuse or small solid tumour, in proportions of 14 : 3 : 3, somewhere in the white matter."""
    kind = str(generator.choice(["ring", "diffuse", "solid"], p=[0.7, 0.15, 0.15]))
    low, high = {"ring": (9, 55), "diffuse": (12, 55), "solid": (3, 14)}[kind]
    narrow, wide = {"ring": (1.8, 3.8), "diffuse": (1.4, 2.2), "solid": (2.2, 4.2)}[kind]
    return Lesion.checked({
        "kind": kind,
        "volume": float(np.exp(generator.uniform(np.log(low), np.log(high)))),
        "invasion": float(generator.uniform(narrow, wide)),
        "rim": float(generator.uniform(4.0, 7.5)),
        "mass_effect": float(generator.uniform(0.1, 0.4) if kind == "diffuse" else generator.uniform(0.3, 0.75)),
        "place": _draw_place(generator, head),
    })  # fmt: skip


def _draw_place(generator: np.random.Generator, head: Head) -> tuple[float, float, float]:
    """A point in white matter, 13 to 42 mm under the surface and away from the midline."""
    low, high = np.array([[-55, -80, -26], [55, 50, 55]])
    p = generator.uniform(low, high, (800, 3)).astype(np.float32).T
    points = (p[0], p[1], p[2])
    white = _hosts(head, points, width=2.0)[0]
    depth = -hulls(points).cerebrum
    fits = (white > 0.8) & (depth > 13) & (depth < 42) & (np.abs(p[0]) > 15)
    x, y, z = p[:, int(np.argmax(fits))]
    return float(x), float(y), float(z)


def _hosts(head: Head, p: Points, *, width: float) -> Array:
    """(white-like, grey-like) fractions at points, nothing outside the brain."""
    canvas = Canvas(host_table(), p[0].size)
    paint_brain(canvas, head, p, width=width, effaced=np.zeros_like(p[0]))
    return np.asarray(canvas.values[:2] * (hulls(p).brain < 0), np.float32)


def grow(generator: np.random.Generator, head: Head, lesion: Lesion) -> Tumour:
    """Let the tumour grow until its core has the wanted volume, less what mass effect will add."""
    seeds = (smooth_field(generator, 60.0), smooth_field(generator, 24.0), smooth_field(generator, 10.0))
    other, terrain = smooth_field(generator, 18.0), smooth_field(generator, 26.0)
    axis = np.arange(-HALF, HALF + 1, dtype=np.float32) * STEP
    grid = np.meshgrid(*(axis + np.float32(c) for c in lesion.place), indexing="ij")
    points = (grid[0].ravel(), grid[1].ravel(), grid[2].ravel())
    white, grey = _hosts(head, points, width=STEP)
    blocked = (np.abs(points[0] - falx_plane(head, points)) < 2.2) & (arch(points) > 1.1)
    uneven = np.exp(np.clip(0.8 * terrain.at(points), -1.6, 1.2))
    speed = np.where(blocked, 0, (white + GREY_FACTOR * grey) * uneven).reshape(grid[0].shape).astype(np.float32)
    first = _first_cells(generator, lesion, speed)
    kept = 1 - 0.88 * PUSH**3 * -np.expm1(-(PUSH**-3)) * lesion.mass_effect  # of the core's volume; 0.88 for what skull and falx hold
    density, depth = _invade(speed, first, invasion=lesion.invasion, target=1e3 * lesion.volume * kept / STEP**3)
    return Tumour(lesion, _refined(density), _refined(depth), seeds, other)


def _first_cells(generator: np.random.Generator, lesion: Lesion, speed: Array) -> Array:
    """A small ball, and up to two more nearby in living tissue: tumours are lobed."""
    density = np.zeros_like(speed)
    spread = 0.45 * (1e3 * lesion.volume) ** (1 / 3) / STEP
    for k in range(1 + int(generator.integers(0, 3))):
        shift = np.rint(generator.normal(0, spread, 3) * (k > 0)).astype(int)
        ball = tuple(slice(c - 1, c + 2) for c in np.clip(shift, -HALF // 2, HALF // 2) + HALF)
        density[ball] = 0.5
    return density * (speed > 0)


def _invade(speed: Array, density: Array, *, invasion: float, target: float) -> tuple[Array, Array]:
    """Cell density and depth behind the front when `target` nodes are core: dc/dt = div(D grad c) + c (1 - c), with time in
    units of 1 / growth rate and D = invasion^2 x speed. The front moves 2 x invasion per unit of time (Fisher 1937)."""
    tick = min(0.1, 0.8 * STEP**2 / (6 * float(speed.max()) * invasion**2))
    flux = [tick * invasion**2 / STEP**2 * _between(speed, axis) for axis in range(3)]
    living = (speed > 0) * np.float32(tick)
    age = np.zeros_like(speed)
    for _ in range(int(60 / tick)):
        change = density * (1 - density) * living
        for axis, f in enumerate(flux):
            flow = f * np.diff(density, axis=axis)
            lower, upper = _sides(axis)
            change[lower] += flow
            change[upper] -= flow
        density = density + change
        age += tick * np.clip((density - 0.3) * 2.5, 0, 1)
        if (density > CORE).sum() >= target:
            break
    front = (density > CORE - 0.1) & (density < CORE + 0.1)
    return density, 2 * invasion * (age - age[front].mean())


def _between(speed: Array, axis: int) -> Array:
    """Harmonic mean of neighbours: nothing passes where one of them is closed."""
    lower, upper = _sides(axis)
    a, b = speed[lower], speed[upper]
    return np.asarray(2 * a * b / (a + b + 1e-6), np.float32)


def _sides(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    lower, upper = [slice(None)] * 3, [slice(None)] * 3
    lower[axis], upper[axis] = slice(None, -1), slice(1, None)
    return tuple(lower), tuple(upper)


@cache
def _spline() -> Array:
    """The matrix that makes one axis of the growth grid finer, by quadratic splines."""
    size = 2 * HALF + 1
    return np.asarray(zoom(np.eye(size), (REFINED, 1), order=2), np.float32)


def _refined(values: Array) -> Array:
    matrix = _spline()
    return np.ascontiguousarray(np.einsum("ai,bj,ck,ijk->abc", matrix, matrix, matrix, values, optimize=True), np.float32)


def displaced(tumour: Tumour | None, p: Points, *, head: Head, inner: Array) -> tuple[Points, Array]:
    """Where the tissue seen at `p` lay before the tumour pushed, and how far sulci are closed there (0 to 1).
    `inner` is the distance to the skull, which does not give way; the falx holds back nearly half of the push."""
    if tumour is None:
        return p, np.zeros_like(p[0])
    offset, reach, part = tumour.offset(p), tumour.reach, tumour.lesion.mass_effect
    squared = offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2 + 1e-2
    cubed = squared * np.sqrt(squared)
    pushed = part * reach**3 * -np.expm1(cubed * (-1 / reach**3))
    shrink = np.cbrt(1 - pushed / cubed)
    side = np.sign(tumour.lesion.place[0]) * (p[0] - falx_plane(head, p))
    give = step(inner, -1, -14) * (0.55 + 0.45 * step(side, -8, 5))
    factor = 1 + give * (shrink - 1)
    x, y, z = (c + o * factor for c, o in zip(tumour.lesion.place, offset, strict=True))
    near = min(1.0, 1.6 * part) * np.exp(squared * (-1 / (2.0 * reach) ** 2))
    effaced = np.clip(near + 0.4 * part * step(side, 0, 10), 0, 1)
    return (x, y, z), np.asarray(effaced, np.float32)
