"""The gamma curve that two entries share."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TINY = 1e-7
RUN = 2**16  # voxels that go through the curve together on a processor, so that they stay in its cache


def gamma_curve(image: Tensor, gamma: Tensor) -> Tensor:
    """Each channel of `image` (B, C, *S), scaled to 0 ... 1, to the power `gamma` (B, C), then back to its mean and deviation.

    Moments are those of the values above the least, so that squares of large means do not swallow small deviations."""
    flat = image.flatten(2)
    low, high = flat.amin(-1, keepdim=True), flat.amax(-1, keepdim=True)  # aminmax along a dimension is twenty times slower
    width, power, curve = (high - low).clamp(min=TINY), gamma.to(flat)[..., None], torch.empty_like(flat)
    if image.device.type != "cpu":
        return _settled(flat - low, ((flat - low) / width).pow(power), low).reshape(image.shape)
    with np.errstate(divide="ignore"):  # the power of 0 goes by a logarithm of minus infinity
        for row, channel in np.ndindex(*image.shape[:2]):
            one = (float(low[row, channel]), float(width[row, channel]), float(power[row, channel]))
            _bend(flat[row, channel], curve[row, channel], curve=one)
    return curve.reshape(image.shape)


def _settled(above: Tensor, curve: Tensor, low: Tensor) -> Tensor:
    """`curve` with the mean and the deviation of the values `above` the least, `low`."""
    (mean, deviation), (mean_now, now) = ((x.mean(-1, keepdim=True), x.std(-1, keepdim=True, correction=0)) for x in (above, curve))
    gain = deviation / now.clamp(min=TINY)
    return curve.mul_(gain).add_(low + mean - gain * mean_now)


def _bend(channel: Tensor, out: Tensor, *, curve: tuple[float, float, float]) -> None:
    """Fill `out` with the same for one flat `channel` and its curve (least value, width, power), run by run."""
    low, width, power = curve
    shift, ones, sums = torch.tensor(-power * math.log2(width)).to(out), np.ones(RUN, out.numpy().dtype), np.zeros(4)
    for part, now in zip(torch.split(channel, RUN), torch.split(out, RUN), strict=True):
        values = now.numpy()
        np.subtract(part.numpy(), low, out=values)
        sums[:2] += _moments(values, ones)
        np.log(values, out=values)  # in a third of the time of torch's
        torch.add(shift, now, alpha=power / math.log(2), out=now).exp2_()
        sums[2:] += _moments(values, ones)
    mean, square, mean_now, square_now = sums / len(out)
    gain = math.sqrt(max(0.0, square - mean**2)) / max(math.sqrt(max(0.0, square_now - mean_now**2)), TINY)
    torch.add(torch.tensor(low + mean - gain * mean_now).to(out), out, alpha=gain, out=out)


def _moments(values: NDArray[np.floating], ones: NDArray[np.floating]) -> tuple[float, float]:
    """The sum of the values and of their squares."""
    return float(np.dot(values, ones[: len(values)])), float(np.dot(values, values))
