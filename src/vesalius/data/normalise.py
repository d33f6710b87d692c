"""Intensities on one scale, chosen by content: what each kind does, and how it is chosen from a fingerprint."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vesalius.core.settings import Settings
from vesalius.core.space import Array

SLAB = 1 << 22  # voxels looked at in one go


class Normalise(Settings):
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
        """`channel` (*S) normalised, as a new array; voxels outside the non-zero mask stay 0. Needs no memory beside it but a mask."""
        x = np.array(channel, np.float32, order="C")
        if self.kind == "window":
            np.clip(x, self.low, self.high, out=x)
            return _scaled(x, self.mean, self.std)
        if self.kind == "unit":
            low, high = (self.low, self.high) if self.high > self.low else np.percentile(x, [0.5, 99.5])
            np.clip(x, low, high, out=x)
            return _scaled(x, float(low), float(high - low))
        inside = x != 0 if self.nonzero else None
        scaled = _scaled(x, *moments(x, inside if inside is not None and inside.any() else None))
        if inside is not None:
            scaled[~inside] = 0
        return scaled


def _scaled(x: NDArray[np.float32], mean: float, std: float) -> NDArray[np.float32]:
    """(x - mean) / std, in place."""
    x -= np.float32(mean)
    x /= np.float32(max(std, 1e-8))
    return x


def moments(x: NDArray[np.float32], inside: NDArray[np.bool_] | None = None) -> tuple[float, float]:
    """Mean and standard deviation of `x` (where `inside`) in double precision, slab by slab."""
    step = max(1, len(x) * SLAB // max(x.size, 1))
    slabs = [slice(start, start + step) for start in range(0, len(x), step)]

    def part(at: slice) -> Array:
        return x[at] if inside is None else x[at][inside[at]]

    number = x.size if inside is None else int(inside.sum())
    mean = sum(float(part(at).sum(dtype=np.float64)) for at in slabs) / number
    squares = sum(float(((part(at) - np.float64(mean)) ** 2).sum()) for at in slabs)
    return mean, float(np.sqrt(squares / number))


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
