"""The gamma curve that two entries share."""

from torch import Tensor

from vesalius.augment._random import per_channel

TINY = 1e-7


def gamma_curve(image: Tensor, gamma: Tensor) -> Tensor:
    """Each channel of `image` (B, C, *S), scaled to 0 ... 1, to the power `gamma` (B, C), then back to its mean and deviation."""
    flat = image.flatten(2)
    mean, deviation = _moments(flat)
    low, high = flat.aminmax(dim=-1, keepdim=True)
    curve = ((flat - low) / (high - low).clamp(min=TINY)).pow_(per_channel(gamma, flat))
    mean_now, deviation_now = _moments(curve)  # the range is put back by the deviation: both are the same linear map
    gain = deviation / (deviation_now * (high - low)).clamp(min=TINY) * (high - low)
    return curve.sub_(mean_now).mul_(gain).add_(mean).reshape(image.shape)


def _moments(flat: Tensor) -> tuple[Tensor, Tensor]:
    mean = flat.mean(-1, keepdim=True)
    return mean, (flat - mean).square_().mean(-1, keepdim=True).sqrt()
