"""Intensities on one scale, chosen by content: what each kind does, and how it is chosen from a fingerprint."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vesalius.core.order import TILE, fill, slabs
from vesalius.core.space import Array
from vesalius.core.values import Values

SLAB = 1 << 22  # voxels normalised in one go
LOOKED_AT = 1 << 18  # voxels looked at in one go, in double precision
COUNTED = ("uint8", "int8", "uint16", "int16")  # kinds of whole numbers


@dataclass(frozen=True, kw_only=True)
class Normalise(Values):
    """How one input channel is brought to mean 0 and standard deviation 1, or to 0..1.

    "window"   clip to [low, high], then the data set's `mean` and `std`: for values with a meaning (HU, SUV)
    "zscore"   each image by its own mean and standard deviation, over its non-zero voxels where `nonzero`
    "unit"     clip to [low, high], or where they are alike to the image's own 0.5 and 99.5 percentiles, and scale to 0..1
    """

    kind: Literal["window", "zscore", "unit"] = "zscore"
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    nonzero: bool = False

    def apply(self, channel: Array) -> NDArray[np.float32]:
        """`channel` (*S) normalised, as a new array; voxels outside the non-zero mask stay 0. Needs no memory beside it."""
        scale, out = self.scale(channel), np.empty(channel.shape, np.float32)
        for at in slabs(channel[None], SLAB, least=TILE if channel.size > SLAB else 1):
            fill(out[at[1:]][None], scale.apply(channel[at[1:]])[None])
        return out

    def scale(self, channel: Array) -> "Scale":
        """What is done to each voxel of `channel` (*S, all finite), which is looked at slab by slab."""
        if self.kind == "window":
            return Scale(self.mean, self.std, self.low, self.high)
        if self.kind == "unit":
            low, high = (self.low, self.high) if self.high > self.low else ends(channel)
            return Scale(low, high - low, low, high)
        return Scale(*moments(channel, nonzero=self.nonzero and bool(channel.any())), nonzero=self.nonzero)


@dataclass(frozen=True)
class Scale:
    """(value - mean) / std, of values clipped to [low, high]; with `nonzero` what is 0 stays 0."""

    mean: float
    std: float
    low: float = -np.inf
    high: float = np.inf
    nonzero: bool = False

    def apply(self, part: Array) -> NDArray[np.float32]:
        """`part` of a channel, as a new array with its order of axes in memory."""
        x = np.array(part, np.float32, order="K")
        if np.isfinite([self.low, self.high]).any():
            np.clip(x, self.low, self.high, out=x)
        outside = x == 0 if self.nonzero else None
        x -= np.float32(self.mean)
        x /= np.float32(max(self.std, 1e-8))
        if outside is not None:
            x[outside] = 0
        return x


def ends(channel: Array) -> tuple[float, float]:
    """The 0.5 and 99.5 percentiles of `channel`; small whole numbers are counted instead of sorted."""
    if channel.dtype.name not in COUNTED:
        return tuple(np.percentile(np.array(channel, np.float32), [0.5, 99.5], overwrite_input=True).tolist())
    least = int(np.iinfo(channel.dtype).min)
    up_to = np.cumsum(sum(np.bincount(part.ravel(order="K").astype(np.intp) - least, minlength=1 << 16) for part in _parts(channel)))
    rank = np.array([0.005, 0.995]) * (channel.size - 1)
    below, above = (np.searchsorted(up_to, np.floor(rank) + more, side="left") + least for more in (1, 2))
    return tuple((below + (rank - np.floor(rank)) * (np.where(np.floor(rank) + 2 > up_to[-1], below, above) - below)).tolist())


def moments(x: Array, *, nonzero: bool = False) -> tuple[float, float]:
    """Mean and standard deviation of `x` (of what is not 0 alone) in double precision, slab by slab."""
    def parts() -> Iterator[Array]:
        return (part[part != 0] if nonzero else part for part in _parts(x))

    number = int(np.count_nonzero(x)) if nonzero else x.size
    mean = sum(float(part.sum(dtype=np.float64)) for part in parts()) / number
    squares = 0.0
    for part in parts():
        off = np.subtract(part, mean, dtype=np.float64)
        off *= off
        squares += float(off.sum())
    return mean, float(np.sqrt(squares / number))


def _parts(channel: Array) -> Iterator[Array]:
    return (channel[at[1:]] for at in slabs(channel[None], LOOKED_AT))


def looks_like_hounsfield(stats: dict[str, Any]) -> bool:
    """Whether a channel's values read like CT numbers: whole, reaching from air to beyond soft tissue, and with body
    voxels around water. Judged by content, because channel names lie."""
    whole = stats["whole"] >= 0.9
    air = stats["low"] <= -500 and stats["minimum"] >= -10000
    body = stats["high"] >= 50 and stats["near_water"] >= 0.02
    return bool(whole and air and body and stats["below_air"] < 0.01)  # a z-score times 500 goes far below air


def looks_like_uptake(name: str, stats: dict[str, Any]) -> bool:
    """Whether a channel is a PET uptake map: named so, not negative, and with a heavy upper tail."""
    named = any(word in name.lower().split("_") for word in ("pet", "suv", "pt", "fdg"))
    return bool(named and stats["low"] >= -1e-3 and stats["high"] > 3 * max(stats["median"], 1e-6))


def choose(name: str, stats: dict[str, Any], cropped: float) -> tuple[Normalise, str]:
    """The normalisation of one channel and its reason, from its fingerprint; `cropped` is the part of the volume that
    is left after cutting away zeros."""
    window = {"low": stats["p0.5"], "high": stats["p99.5"], "mean": stats["mean"], "std": stats["std"]}
    if looks_like_hounsfield(stats):
        return Normalise(kind="window", **window), (
            f"{name}: Hounsfield units by content (whole numbers from {stats['low']:.0f}, {stats['near_water']:.0%} of voxels "
            f"near water): clip to the foreground's 0.5-99.5 percentiles, then the data set's mean and deviation")
    if looks_like_uptake(name, stats):
        return Normalise(kind="window", **window), f"{name}: uptake values have a meaning (SUV): one scale for the data set"
    if cropped < 0.75:
        return Normalise(kind="zscore", nonzero=True), (
            f"{name}: arbitrary units, and {1 - cropped:.0%} of the volume is zero background: z-score of the non-zero voxels")
    return Normalise(kind="zscore"), f"{name}: arbitrary units: z-score per image"


def unit(name: str, stats: dict[str, Any]) -> tuple[Normalise, str]:
    """Intensities from 0 to 1 for one channel and why so, from its fingerprint: by one window for the data set where values have a
    meaning, else image by image."""
    if looks_like_hounsfield(stats) or looks_like_uptake(name, stats):
        return Normalise(kind="unit", low=stats["p0.5"], high=stats["p99.5"]), f"{name}: values with a meaning: one window, scaled to 0..1"
    if stats["whole"] >= 0.9 and stats["minimum"] >= 0 and 32 <= stats["high"] <= 255:
        return Normalise(kind="unit", low=0.0, high=255.0), f"{name}: pictures of 8 bits: 0..255 becomes 0..1"
    return Normalise(kind="unit"), f"{name}: arbitrary units: each image's own 0.5-99.5 percentiles, scaled to 0..1"
