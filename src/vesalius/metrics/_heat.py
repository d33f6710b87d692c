"""Maps of strangeness beside true masks: what every metric of localised anomalies is given.

All pixels of all images lie on one scale, as one threshold will be used for all. A region is a connected component of the truth
(26 neighbours in 3D, 8 in 2D); those of two images are never one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from vesalius.core.errors import DataError
from vesalius.metrics._curves import Curve, Floats

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Heat:
    """Of each image its pixels: `scores` (n,), and `regions` (n,), which connected region each is part of: 1, 2 ... or 0 for none."""

    scores: tuple[Floats, ...]
    regions: tuple[Indices, ...]

    @classmethod
    def of(cls, maps: Sequence[ArrayLike], truths: Sequence[ArrayLike], *, inside: Sequence[ArrayLike] | None = None) -> "Heat":
        """From a map and a mask (*S) of each image; whatever is not 0 in a mask is anomalous, 0 everywhere in a normal image.

        `inside`: masks of what counts (the organ): air that no method confuses makes every method look good.
        """
        if len(maps) != len(truths) or (inside is not None and len(inside) != len(maps)):
            found = f"{len(maps)} maps, {len(truths)} masks" + ("" if inside is None else f" and {len(inside)} masks of what counts")
            raise DataError(f"Every image has one map and one mask; got {found}.")
        where: Iterable[ArrayLike | None] = [None] * len(maps) if inside is None else inside
        pairs = [_pixels(*each) for each in zip(maps, truths, where, strict=True)]
        return cls(tuple(score for score, _ in pairs), tuple(region for _, region in pairs))

    def take(self, images: Sequence[int] | Indices) -> "Heat":
        """The images named, as often as they are named."""
        return Heat(tuple(self.scores[i] for i in images), tuple(self.regions[i] for i in images))

    @cached_property
    def score(self) -> Floats:
        """Of all pixels, (N,)."""
        return np.concatenate([np.zeros(0), *self.scores])

    @cached_property
    def region(self) -> Indices:
        """Of all pixels, (N,): 1 .. R over all images, 0 for none."""
        first = np.cumsum([0, *(int(region.max(initial=0)) for region in self.regions)])
        moved = [np.where(region > 0, region + start, 0) for region, start in zip(self.regions, first[:-1], strict=True)]
        return np.concatenate([np.zeros(0, np.intp), *moved])

    @cached_property
    def curve(self) -> Curve:
        """Pixels found at every threshold."""
        return Curve.of(self.score, self.region > 0)

    @property
    def both(self) -> bool:
        """Whether there are anomalous pixels and others."""
        return bool(self.curve.positives and self.curve.negatives)

    def covered(self) -> Floats:
        """At each threshold of the curve, the share of a region that is found, meaned over regions: (T,)."""
        part = self.region[self.region > 0]
        each = np.bincount(part)[1:]
        weight = 1 / each[part - 1] / max(len(each), 1)
        place = np.searchsorted(-self.curve.threshold, -self.score[self.region > 0])
        return np.cumsum(np.bincount(place, weight, minlength=len(self.curve.threshold)))


def _pixels(heat: ArrayLike, truth: ArrayLike, inside: ArrayLike | None) -> tuple[Floats, Indices]:
    """Scores and regions of one image; refused where the arrays do not fit or a score is not finite."""
    score, mask = np.asarray(heat, float), np.asarray(truth) != 0
    counts = np.ones(mask.shape, bool) if inside is None else np.asarray(inside) != 0
    if not score.shape == mask.shape == counts.shape or score.ndim not in (2, 3):
        raise DataError(f"A map and its masks have one shape of two or three sides; got {score.shape}, {mask.shape}, {counts.shape}. "
                        "Take the channel away, or resample one to the other.")  # fmt: skip
    if not np.isfinite(score[counts]).all():
        raise DataError("A map must be finite; this one is not. Look for an image that is empty or broken.")
    labels, _ = ndimage.label(mask & counts, np.ones((3,) * mask.ndim))
    return score[counts], labels[counts].astype(np.intp)
