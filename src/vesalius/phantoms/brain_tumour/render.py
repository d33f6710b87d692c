"""From a head and its tumour to ideal signals and truth on a grid: finer samples than voxels, slab by slab."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vesalius.core.space import Array, Space
from vesalius.phantoms._shapes import Points, at, coverage
from vesalius.phantoms.brain_tumour.brain import hulls, paint_brain
from vesalius.phantoms.brain_tumour.growth import Tumour, displaced, host_table
from vesalius.phantoms.brain_tumour.head import Head, Pose
from vesalius.phantoms.brain_tumour.regions import LABELS, paint_tumour
from vesalius.phantoms.brain_tumour.skull import Shells, paint_outside, shells
from vesalius.phantoms.brain_tumour.tissues import Canvas
from vesalius.phantoms.brain_tumour.vessels import paint_arteries, paint_membranes

FINEST = 1.85  # voxels longer than this many millimetres are drawn as several samples and averaged
SLAB = 70_000  # samples that are painted at a time, so that they stay in the processor's cache
REACH = ((0.0, -5.0, 0.0), (94.0, 124.0, 108.0))  # an ellipsoid, extended downwards, outside of which all is air


@dataclass(frozen=True)
class Scene:
    """Who lies in the scanner, and how: `table` has the signals (tissue, sequence)."""

    head: Head
    tumour: Tumour | None
    pose: Pose
    table: Array


def render(scene: Scene, space: Space) -> tuple[Array, Array]:
    """Ideal signals (sequence, *S), and the part of every voxel that each tumour label takes, (3, *S)."""
    factors = [max(1, int(np.ceil(side / FINEST - 0.01))) for side in space.spacing]
    signals = np.empty((scene.table.shape[1], *space.shape), np.float32)
    truth = np.empty((len(LABELS), *space.shape), np.float32)
    width = float(np.mean(np.asarray(space.spacing) / factors))
    thick = max(1, SLAB // (int(np.prod(factors)) * space.shape[1] * space.shape[2]))
    for start in range(0, space.shape[0], thick):
        stop = min(space.shape[0], start + thick)
        world = _samples(space, start, stop, factors=factors)
        seen, covered = paint(scene, world.reshape(3, -1), width=width)
        signals[:, start:stop] = _pooled(seen.reshape(-1, *world.shape[1:]), factors)
        truth[:, start:stop] = _pooled(covered.reshape(-1, *world.shape[1:]), factors)
    return signals, truth


def _samples(space: Space, start: int, stop: int, *, factors: Sequence[int]) -> Array:
    """World millimetres (3, *samples) of evenly spread samples in the voxels from `start` to `stop` along the first axis."""
    ranges = ((start, stop), (0, space.shape[1]), (0, space.shape[2]))
    places = [(np.arange(low * f, high * f, dtype=np.float32) + 0.5) / f - 0.5 for (low, high), f in zip(ranges, factors, strict=True)]
    i, j, k = np.meshgrid(*places, indexing="ij", sparse=True)
    a = space.affine.astype(np.float32)
    return np.stack([a[w, 0] * i + a[w, 1] * j + (a[w, 2] * k + a[w, 3]) for w in range(3)])


def _pooled(values: Array, factors: Sequence[int]) -> Array:
    """Means over blocks of `factors` samples along the spatial axes of (C, *samples)."""
    for axis, factor in enumerate(factors, 1):
        lead = (slice(None),) * axis
        values = np.asarray(sum(values[(*lead, slice(k, None, factor))] for k in range(factor))) * np.float32(1 / factor)
    return values


def paint(scene: Scene, world: Array, *, width: float) -> tuple[Array, Array]:
    """Signals (sequence, n) and label coverage (3, n) at scanner points (3, n); `width` in mm is the side of a sample."""
    p = scene.head.frame(world, scene.pose)
    signals = Canvas(scene.table, world.shape[1]).values
    truth = np.zeros((len(LABELS), world.shape[1]), np.float32)
    near = np.flatnonzero(_near(p))
    q = at(p, near)
    shell = shells(scene.head, q, hulls(q))
    outside = np.flatnonzero((shell.inner > -width) & (shell.skin < width))
    canvas = Canvas(scene.table, outside.size)
    paint_outside(canvas, scene.head, at(q, outside), shell=Shells(shell.inner[outside], shell.skin[outside]), width=width)
    signals[:, near[outside]] = canvas.values
    inside = np.flatnonzero(shell.inner < width)
    within, labels = _paint_inside(scene, at(q, inside), inner=shell.inner[inside], width=width)
    cover, place = coverage(shell.inner[inside], width), near[inside]
    signals[:, place] += cover * (within - signals[:, place])
    truth[:, place] = labels * cover
    return signals, truth


def _near(p: Points) -> Array:
    (a, b, c), (along, deep, high) = REACH
    return ((p[0] - a) * (1 / along)) ** 2 + ((p[1] - b) * (1 / deep)) ** 2 + (np.maximum(p[2] - c, 0) * (1 / high)) ** 2 < 1


def _paint_inside(scene: Scene, p: Points, *, inner: Array, width: float) -> tuple[Array, Array]:
    """All within the skull; the brain, its vessels and its tumour are seen where they were pushed to."""
    head, tumour = scene.head, scene.tumour
    canvas = Canvas(np.hstack([scene.table, host_table()]), p[0].size)
    q, effaced = displaced(tumour, p, head=head, inner=inner)
    paint_brain(canvas, head, q, width=width, effaced=effaced)
    paint_arteries(canvas, head, q, wet=np.where(inner > -24, canvas.values[-1], 0), width=width)
    paint_membranes(canvas, head, p, inner=inner, width=width)
    labels = np.zeros((len(LABELS), p[0].size), np.float32)
    if tumour is not None:
        labels = paint_tumour(canvas, tumour, q, host=canvas.values[-3:-1].copy(), width=width)
    return canvas.values[:-3] * (1 + 0.035 * head.fine.at(q)), labels
