"""Draws that several transforms share; every one takes its generator."""

import numpy as np
import torch
from torch import Tensor


def uniform(generator: torch.Generator, bounds: tuple[float, float], *size: int) -> Tensor:
    """Uniform numbers between the bounds, float32 of `size`."""
    low, high = bounds
    return torch.rand(size, generator=generator).mul_(high - low).add_(low)


def about_one(generator: torch.Generator, bounds: tuple[float, float], *size: int) -> Tensor:
    """Factors that are below 1 as often as above, uniform on either side (nnU-Net's draw for brightness, contrast, gamma)."""
    low, high = bounds
    place, toss = torch.rand(2, *size, generator=generator).numpy()  # numpy takes a third of torch's time over a few numbers
    below = place * (min(1.0, high) - low) + low
    if high <= 1.0:
        return torch.from_numpy(below)
    above = place * (high - max(1.0, low)) + max(1.0, low)
    return torch.from_numpy(above if low >= 1.0 else np.where(toss < 0.5, below, above))


def some_channels(generator: torch.Generator, channels: int, probability: float = 0.5) -> Tensor:
    """Which channels a transform touches, bool (C,)."""
    return torch.rand(channels, generator=generator) < probability


def per_channel(parameter: Tensor, image: Tensor) -> Tensor:
    """(B, C) or (B,) shaped so that it multiplies `image` (B, C, *S), in its dtype."""
    return parameter.to(image.dtype).reshape(*parameter.shape, *(1,) * (image.ndim - parameter.ndim))


def seed(generator: torch.Generator) -> Tensor:
    """A seed for numbers that are drawn where the image lies."""
    return torch.randint(2**62, (), generator=generator)
