"""Two sequences whose marks must be read together: each alone says nothing about the class, both say it without doubt.

A head has one mark in each sequence, bright or dark, at distant slices: in the first far right, in the second far left. The class is
whether the two marks are alike (exclusive or). Brightness of the two is drawn independently and evenly, and nothing else depends on it,
so that the distribution of either sequence is the same in both classes: no model of one sequence can do better than chance.
"""

from collections.abc import Sequence
from typing import Any, final

import numpy as np

from vesalius.core.card import Card
from vesalius.core.errors import UsageError, suggest
from vesalius.core.space import Array, Space
from vesalius.phantoms import Phantom, Sample, turn_of
from vesalius.phantoms._noise import smooth_field
from vesalius.phantoms._shapes import Points, coverage, ellipsoid

CARD = Card(entry="Interaction", title="Interaction of two sequences",
            summary="Two sequences with a mark each; the class is whether the marks are alike, which only both together tell",
            paper="Minsky and Papert 1969, Perceptrons: exclusive or",
            tasks=("classify",), ndim=(3,), tags=("mr", "fusion"))  # fmt: skip
CLASSES = ("alike", "unlike")
CHANNELS = ("first", "second")
LABELS = {"first mark": 1, "second mark": 2}
STATES = ("00", "01", "10", "11")  # brightness of the two marks
SITES = {"north": (1000.0, 0.05), "south": (600.0, 0.08)}  # stored units of tissue, noise relative to it
EXTENT = (144.0, 192.0, 192.0)
SMALL = (24, 48, 48)
TEXTURE = (1.0, 0.06, 0.8)  # tissue, its texture, and what a mark adds or takes away
ASIDE = (42.0, -42.0)  # of the marks from the middle, mm to the right, give or take 6: at least 72 mm between them


def generate(shape: Sequence[int] = SMALL, spacing: Sequence[float] | None = None, *, seed: int, state: str | None = None,
             site: str = "north", visit: int = 0) -> Sample:  # fmt: skip
    """One head: "images" (2, *shape), "labels" (*shape) with 1 and 2 where the marks are, "space", "facts".

    `state` is the brightness of the marks ("01": the first dark, the second bright; None: by the seed, each as often). A later visit has
    other noise and larger or smaller marks. Slices lie along the first axis; `spacing` in mm (None: that with which the head fits).
    """
    space = _space(shape, spacing)
    if site not in SITES:
        raise UsageError(suggest(site, SITES, "site"))
    chosen = turn_of(STATES, seed) if state is None else state
    if chosen not in STATES:
        raise UsageError(suggest(chosen, STATES, "state"))
    p = _points(space)
    balls = [_ball(seed, k, visit) for k in range(2)]
    parts = np.stack([coverage(ellipsoid(p, centre, (radius,) * 3), min(space.spacing)) for centre, radius in balls])
    images = np.stack([_picture(p, parts[k], bright=chosen[k] == "1", words=(seed, k, visit), site=site) for k in range(2)])
    labels = np.where(parts.max(0) >= 0.5, parts.argmax(0) + 1, 0).astype(np.uint8)
    known = {"seed": seed, "visit": visit, "site": site, "state": chosen, "class": class_of_state(chosen), "metadata": {},
             "marks": [{"centre_mm": list(centre), "radius_mm": radius} for centre, radius in balls]}  # fmt: skip
    return {"images": images, "labels": labels, "space": space, "facts": known | _sizes(labels, space)}


def class_of_state(state: str) -> str:
    """Exclusive or."""
    return CLASSES[state[0] != state[1]]


@final
class Interaction(Phantom):
    """The entry on the shelf."""

    title = "Synthetic interaction of two sequences"
    channels = CHANNELS
    classes = CLASSES
    labels = LABELS
    regions = {"marks": (1, 2)}
    sites = tuple(SITES)
    shape = SMALL
    extent = EXTENT

    def class_of(self, seed: int) -> str:
        """In every run of four seeds each state once: either mark alone is balanced within each class."""
        return class_of_state(turn_of(STATES, seed))

    def sample(self, shape: Sequence[int], *, seed: int, spacing: Sequence[float] | None = None, site: str, visit: int = 0) -> Sample:
        return generate(shape, spacing, seed=seed, site=site, visit=visit)


def _space(shape: Sequence[int], spacing: Sequence[float] | None) -> Space:
    """Centred at 0."""
    if len(shape) != 3 or min(shape) < 4:
        raise UsageError(f"A head needs three sides of at least 4 voxels; got shape {tuple(shape)}.")
    steps = [length / side for length, side in zip(EXTENT, shape, strict=True)] if spacing is None else list(spacing)
    if len(steps) != 3 or min(steps) <= 0:
        raise UsageError(f"Expected three spacings in millimetres, each above 0; got {tuple(steps)}.")
    return Space.of(shape, steps, origin=[-(side - 1) / 2 * step for side, step in zip(shape, steps, strict=True)])


def _points(space: Space) -> Points:
    x, y, z = (np.arange(n) * step + start for n, step, start in zip(space.shape, space.spacing, space.origin, strict=True))
    a, b, c = np.meshgrid(x, y, z, indexing="ij")
    return a, b, c


def _ball(seed: int, channel: int, visit: int) -> tuple[tuple[float, float, float], float]:
    """Centre and radius of a mark, in millimetres; neither depends on its brightness."""
    generator = np.random.default_rng([seed, 21, channel])
    angle, far = generator.uniform(0, 2 * np.pi), 34 * np.sqrt(generator.uniform())
    centre = (float(ASIDE[channel] + generator.uniform(-6, 6)), float(far * np.cos(angle)), float(far * np.sin(angle)))
    change = np.random.default_rng([seed, 22, channel, visit]).uniform(0.85, 1.15) if visit else 1.0
    return centre, float(generator.uniform(20, 26) * change)


def _picture(p: Points, mark: Array, *, bright: bool, words: tuple[int, int, int], site: str) -> Array:
    """One sequence: a head with texture, its mark, noise. Draws nothing that depends on the other sequence or the class."""
    seed, channel, visit = words
    gain, noise = SITES[site]
    texture = smooth_field(np.random.default_rng([seed, 23, channel]), 45.0).at(p)
    tissue, ripple, change = TEXTURE
    head = coverage(ellipsoid(p, (0.0, 0.0, 0.0), (66.0, 88.0, 86.0)), 6.0)
    signal = head * (tissue + ripple * texture + (change if bright else -change) * mark)
    grain = np.random.default_rng([seed, 24, channel, visit]).standard_normal(mark.shape)
    return np.asarray(np.rint(gain * (signal + noise * grain + 0.3)).clip(0, 32767), np.float32)


def _sizes(labels: Array, space: Space) -> dict[str, Any]:
    counts = np.bincount(labels.ravel(), minlength=3) * (space.voxel_volume / 1e3)
    return {"volumes_ml": {name: float(counts[value]) for name, value in LABELS.items()}, "regions_ml": {"marks": float(counts[1:].sum())}}
