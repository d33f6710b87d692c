"""From a scan to what a network sees, and from a network's answer back to the scan's own grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vesalius.core.order import contiguous, slabs
from vesalius.core.space import Array, Space, Turn
from vesalius.core.values import Values
from vesalius.data.normalise import Normalise
from vesalius.io.image import Image
from vesalius.io.resample import resample
from vesalius.io.separable import Along, along_axis, on_axes, resampled, stacked

SLAB = 1 << 20  # voxels looked at in one go
REDUCED = 1.4  # times fewer voxels along an axis from which on it is blurred first


@dataclass(frozen=True, kw_only=True)
class Preparation(Values):
    """What is done to every scan before a network sees it: turn to RAS+, crop zeros, resample, normalise.

    `channels`   file channel -> number of components
    `normalise`  one per component, in the order of the channels
    `spacing`    millimetres (pixels where the files state no size) per axis of the RAS+ grid; empty keeps each scan's own
    `fit`        "grid": every scan at `spacing`, of whatever size; or the whole case on one fixed grid (see whole.py), "pad": its
                 proportions are kept and the rest is filled, "stretch": each side fills the grid
    `lead`       of whole volumes the axis that comes first: networks that look at slices look along the first axis
    """

    channels: dict[str, int]
    normalise: tuple[Normalise, ...]
    spacing: tuple[float, ...] = ()
    crop: bool = False
    order: int = 3
    fit: Literal["grid", "pad", "stretch"] = "grid"
    lead: int = 0

    @property
    def in_channels(self) -> int:
        return sum(self.channels.values())


@dataclass(frozen=True)
class Prepared:
    """`image` (C, *S) float32 on `space` (the network's grid); `native` is the cropped RAS+ grid at the scan's own
    spacing, `box` the place of `native` in the whole RAS+ grid, `full` the scan's space, `turn` how it was turned."""

    image: NDArray[np.float32]
    space: Space
    native: Space
    box: tuple[slice, ...]
    full: Space
    turn: Turn

    def target(self, coded: Array) -> NDArray[np.uint8]:
        """A mask (K, *full) as the network should see it: turned, cropped, nearest neighbour."""
        cut = contiguous(self.turn.apply(coded)[(slice(None), *self.box)])
        if self.space.shape == self.native.shape:
            return cut
        return np.asarray(resample(Image(cut, self.native), self.space, order=0).array, np.uint8)

    def restore(self, answer: Array) -> Array:
        """An answer (K, *native) on the scan's own grid (K, *full); outside the crop it is 0."""
        turned = self.full.turned(self.turn)
        whole = np.zeros((answer.shape[0], *turned.shape), answer.dtype)
        whole[(slice(None), *self.box)] = answer
        return contiguous(self.turn.undo(whole))


def prepare(image: Image, how: Preparation) -> Prepared:
    """`image` (C, *S) as `how` says. NaN (a missing channel, a hole) becomes 0 after normalisation."""
    turn = image.space.canonical_turn()
    turned, space = turn.apply(image.array), image.space.turned(turn)
    box = nonzero_box(turned) if how.crop else tuple(slice(0, side) for side in space.shape)
    native = cropped(space, box)
    model = native.with_spacing(how.spacing) if how.spacing else native
    part = turned[(slice(None), *box)]
    pixels = normalised(part, how.normalise) if model.shape == native.shape else on_grid(part, model.shape, how)
    return Prepared(pixels, model, native, box, image.space, turn)


def on_grid(pixels: Array, shape: tuple[int, ...], how: Preparation) -> NDArray[np.float32]:
    """`pixels` (C, *S) normalised, blurred (see `softened`) and put on a grid of another `shape` with the same ends, part by part."""
    factors = np.asarray(pixels.shape[1:]) / np.asarray(shape)
    places = [np.clip((np.arange(side) + 0.5) * factor - 0.5, 0, old - 1)
              for side, factor, old in zip(shape, factors, pixels.shape[1:], strict=True)]  # fmt: skip
    if how.order == 0:
        return on_axes(softened(normalised(pixels, how.normalise), factors), [Along(place) for place in places], order=0)
    axes = [Along(place, sigma) for place, sigma in zip(places, blur_of(factors), strict=True)]
    made = (_on_axes(channel, axes, rule, order=how.order) for channel, rule in zip(pixels, how.normalise, strict=True))
    return stacked(made, len(pixels))


def _on_axes(channel: Array, axes: Sequence[Along], rule: Normalise, *, order: int) -> NDArray[np.float32]:
    values = filled(channel)
    if values is None:
        return np.zeros([len(along.place) for along in axes], np.float32)
    return resampled(values, axes, order=order, made=rule.scale(values).apply, kind=np.dtype(np.float32))


def blur_of(factors: NDArray[np.float64]) -> list[float]:
    """Deviation in voxels for axes that shrink so many times."""
    return [(factor - 1) / 2 if factor > REDUCED else 0.0 for factor in factors.tolist()]


def softened(pixels: NDArray[np.float32], factors: NDArray[np.float64]) -> NDArray[np.float32]:
    """`pixels` (C, *S) blurred along axes that will shrink by more than `REDUCED`, so that what the coarser grid cannot
    hold does not come back as false texture; the deviation is (factor - 1) / 2 voxels."""
    sigma = blur_of(factors)
    if not any(sigma):
        return pixels
    return stacked((_softened(channel, sigma) for channel in pixels), len(pixels))


def _softened(channel: NDArray[np.float32], sigma: Sequence[float]) -> Array:
    for axis, (side, deviation) in enumerate(zip(channel.shape, sigma, strict=True)):
        channel = along_axis(channel, axis, Along(np.arange(side), deviation), order=1)
    return channel


def normalised(pixels: Array, how: tuple[Normalise, ...]) -> NDArray[np.float32]:
    """Each channel of (C, *S) by its own rule; a channel that is all NaN becomes 0, single NaN take the channel's median."""
    return stacked((_normalised(channel, rule) for channel, rule in zip(pixels, how, strict=True)), len(pixels))


def _normalised(channel: Array, rule: Normalise) -> NDArray[np.float32]:
    values = filled(channel)
    return rule.apply(values) if values is not None else np.zeros(channel.shape, np.float32)


def filled(channel: Array) -> Array | None:
    """`channel` with its median in place of NaN and infinities; itself where there are none, nothing where there is nothing else."""
    if channel.dtype.kind in "iub" or np.isfinite([channel.min(), channel.max()]).all():
        return channel
    good = np.isfinite(channel)
    return np.where(good, channel, np.median(channel[good])) if good.any() else None


def nonzero_box(pixels: Array) -> tuple[slice, ...]:
    """The smallest box of (C, *S) outside which every channel is 0 (or NaN); everything where all is 0."""
    lines = [np.zeros(side, bool) for side in pixels.shape[1:]]
    for at in slabs(pixels, SLAB):
        part = pixels[at]
        inside = (part != 0 if part.dtype.kind in "iub" else (part != 0) & np.isfinite(part)).any(0)
        for axis, (line, place) in enumerate(zip(lines, [*at[1:], *(slice(None),) * len(lines)], strict=False)):
            line[place] |= inside.any(tuple(a for a in range(inside.ndim) if a != axis))
    found = [np.flatnonzero(line) for line in lines]
    return tuple(slice(int(f[0]), int(f[-1]) + 1) if f.size else slice(0, len(line)) for f, line in zip(found, lines, strict=True))


def cropped(space: Space, box: tuple[slice, ...]) -> Space:
    """The part of `space` in `box`."""
    affine = space.affine.copy()
    affine[:-1, -1] = space.world(np.array([part.start for part in box], float))
    return Space(tuple(part.stop - part.start for part in box), affine, space.physical)
