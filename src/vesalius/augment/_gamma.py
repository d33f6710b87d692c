"""The gamma curve that two entries share."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TINY = 1e-7
RUN = 2**16  # voxels that go through the curve together on a processor, so that they stay in its cache


def gamma_curve(image: Tensor, gamma: Tensor, *, inverted: bool = False) -> Tensor:
    """Each channel of `image` (B, C, *S), scaled to 0 ... 1, to the power `gamma` (B, C), then back to its mean and deviation; `inverted`,
    the same of the image with its sign changed, which is changed back.

    Moments are those of the values above the least, so that squares of large means do not swallow small deviations."""
    flat = image.flatten(2)
    if image.device.type != "cpu":
        return (_curve(-flat, gamma).neg_() if inverted else _curve(flat, gamma)).reshape(image.shape)
    curve = torch.empty_like(flat, memory_format=torch.contiguous_format)
    with np.errstate(divide="ignore"):  # the power of 0 goes by a logarithm of minus infinity
        for channel, out, power in zip(flat.flatten(0, 1), curve.flatten(0, 1), gamma.flatten().tolist(), strict=True):
            _bend(channel.numpy(), out, power, inverted=inverted)
    return curve.reshape(image.shape)


def _curve(flat: Tensor, gamma: Tensor) -> Tensor:
    """The curve of channels (B, C, N), all in one go."""
    low = flat.amin(-1, keepdim=True)
    above, width = flat - low, (flat.amax(-1, keepdim=True) - low).clamp(min=TINY)
    curve = (above / width).pow(gamma.to(flat)[..., None])
    (mean, deviation), (mean_now, now) = ((x.mean(-1, keepdim=True), x.std(-1, keepdim=True, correction=0)) for x in (above, curve))
    gain = deviation / now.clamp(min=TINY)
    return curve.mul_(gain).add_(low + mean - gain * mean_now)


def _bend(channel: NDArray[np.floating], out: Tensor, power: float, *, inverted: bool) -> None:
    """Fill `out` with the curve of one flat `channel`, run by run."""
    low, high = float(channel.min()), float(channel.max())
    shift = torch.tensor(-power * math.log2(max(high - low, TINY)), dtype=out.dtype)
    ones, sums, steps = np.ones(min(RUN, len(channel)), channel.dtype), np.zeros(4), range(0, len(channel), RUN)
    for first in steps:
        part, now = channel[first : first + RUN], out[first : first + RUN]
        values = now.numpy()
        np.subtract(high, part, out=values) if inverted else np.subtract(part, low, out=values)
        sums[:2] += _moments(values, ones)
        np.log10(values, out=values)  # in half the time of log, a quarter of torch's
        torch.add(shift, now, alpha=power * math.log2(10), out=now)
        np.exp2(values, out=values)
        sums[2:] += _moments(values, ones)
    mean, square, mean_now, square_now = sums / len(channel)
    gain = math.sqrt(max(0.0, square - mean**2)) / max(math.sqrt(max(0.0, square_now - mean_now**2)), TINY)
    settled = mean - gain * mean_now
    start, gain = (high - settled, -gain) if inverted else (low + settled, gain)
    torch.add(torch.tensor(start, dtype=out.dtype), out, alpha=gain, out=out)


def _moments(values: NDArray[np.floating], ones: NDArray[np.floating]) -> tuple[float, float]:
    """The sum of the values and of their squares."""
    return float(np.dot(values, ones[: len(values)])), float(np.dot(values, values))
