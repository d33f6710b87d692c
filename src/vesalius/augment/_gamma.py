"""The gamma curve that two entries share."""

import torch
from torch import Tensor

TINY = 1e-7
RUN = 2**16  # voxels that go through the curve together on a processor, so that they stay in its cache


def gamma_curve(image: Tensor, gamma: Tensor) -> Tensor:
    """Each channel of `image` (B, C, *S), scaled to 0 ... 1, to the power `gamma` (B, C), then back to its mean and deviation.

    Moments are those of the scaled values, so that squares of large means do not swallow small deviations."""
    curve = image.flatten(2)
    low, high = curve.amin(-1, keepdim=True), curve.amax(-1, keepdim=True)  # aminmax along a dimension is twenty times slower
    gain = 1 / (high - low).clamp(min=TINY)
    curve, shift, power = torch.empty_like(curve), -low * gain, gamma.to(curve)[..., None]
    sums = curve.new_zeros(4, *power.shape)
    run = RUN if image.device.type == "cpu" else curve.shape[-1]
    for part, now in zip(torch.split(image.flatten(2), run, -1), torch.split(curve, run, -1), strict=True):
        _bend(part, now, sums, curve=(gain, shift, power))
    mean, square, mean_now, square_now = sums / curve.shape[-1]
    deviation, deviation_now = ((b - a.square()).clamp(min=0).sqrt() for a, b in ((mean, square), (mean_now, square_now)))
    gain = deviation / deviation_now.clamp(min=TINY)
    return curve.mul_(gain * (high - low)).add_(low + (mean - gain * mean_now) * (high - low)).reshape(image.shape)


def _bend(part: Tensor, out: Tensor, sums: Tensor, *, curve: tuple[Tensor, Tensor, Tensor]) -> None:
    """Fill `out` with a run of values scaled by (gain, shift) and raised to a power, and add what they and their squares are before
    and after to `sums` (4, B, C, 1)."""
    gain, shift, power = curve
    torch.mul(part, gain, out=out).add_(shift)
    sums[0] += out.sum(-1, keepdim=True)
    sums[1] += torch.linalg.vecdot(out, out)[..., None]
    out.clamp_(min=0).log2_().mul_(power).exp2_()
    sums[2] += out.sum(-1, keepdim=True)
    sums[3] += torch.linalg.vecdot(out, out)[..., None]
