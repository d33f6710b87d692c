"""Draws that several transforms share; every one takes its generator. Numpy takes a third of torch's time over a few numbers."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def uniform(generator: torch.Generator, bounds: tuple[float, float], *size: int) -> Tensor:
    """Uniform numbers between the bounds, float32 of `size`."""
    low, high = bounds
    drawn = torch.rand(size, generator=generator)
    numbers = drawn.numpy()
    numbers *= high - low
    numbers += low
    return drawn


def about_one(generator: torch.Generator, bounds: tuple[float, float], *size: int) -> Tensor:
    """Factors that are below 1 as often as above, uniform on either side (nnU-Net's draw for brightness, contrast, gamma)."""
    low, high = bounds
    places, tosses = torch.rand(2, *size, generator=generator).flatten(1).tolist()
    factors = np.empty(size, np.float32)
    for number, (place, toss) in enumerate(zip(places, tosses, strict=True)):
        below = high <= 1.0 or (low < 1.0 and toss < 0.5)
        start, end = (low, min(1.0, high)) if below else (max(1.0, low), high)
        factors.flat[number] = np.float32(place) * (end - start) + start
    return torch.from_numpy(factors)


def some_channels(generator: torch.Generator, channels: int, probability: float = 0.5) -> NDArray[np.bool_]:
    """Which channels a transform touches, (C,)."""
    touched: NDArray[np.bool_] = torch.rand(channels, generator=generator).numpy() < probability
    return touched


def per_channel(parameter: Tensor, image: Tensor) -> Tensor:
    """(B, C) or (B,) shaped so that it multiplies `image` (B, C, *S), in its dtype."""
    return parameter.to(image.dtype).reshape(*parameter.shape, *(1,) * (image.ndim - parameter.ndim))


def seed(generator: torch.Generator) -> Tensor:
    """A seed for numbers that are drawn where the image lies."""
    return torch.randint(2**62, (), generator=generator)
