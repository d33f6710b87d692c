"""Views of an image that a method is to take for one and the same: a part of it, turned a little, in other tones.

The random crops and tones of Chen et al. 2020 (SimCLR). Ours has two and three axes, turns in place of colours, gamma as scanners differ by
it, and mirrors only axes that it is told to: in the body, sides matter.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from vesalius.core.settings import Settings
from vesalius.methods._chance import Chance
from vesalius.methods._views import resampled, turned

REACH = 3  # standard deviations on either side of a blur
FILTER = {2: F.conv2d, 3: F.conv3d}


class Crops(Settings):
    """`area`: least and greatest part of the image in a view; `stretch`: most that one side of it is longer than it would be; `rotation`
    in degrees. Brightness is counted in standard deviations of the image, noise too; contrast and gamma as |log2|; blur in pixels."""

    area: tuple[float, float] = (0.3, 1.0)
    stretch: float = Field(1.33, ge=1)
    mirror: tuple[bool, ...] = ()
    rotation: float = Field(15.0, ge=0)
    brightness: float = Field(0.4, ge=0)
    contrast: float = Field(0.5, ge=0)
    gamma: float = Field(0.5, ge=0)
    blur: float = Field(1.0, ge=0)
    noise: float = Field(0.1, ge=0)

    @classmethod
    def of(cls, words: "Crops | Mapping[str, Any] | None") -> "Crops":
        """Settings as they are, or made of words."""
        return words if isinstance(words, Crops) else cls.checked(dict(words or {}), where="views")

    def __call__(self, image: Tensor, chance: Chance, *, onto: Sequence[int] = ()) -> Tensor:
        """A view of each image (B, C, *S), of its own sides or of the sides `onto`."""
        return toned(cropped(image.float(), self, chance, onto=onto), self, chance)


def cropped(image: Tensor, views: Crops, chance: Chance, *, onto: Sequence[int] = ()) -> Tensor:
    """A part of each image, turned and mirrored; what comes in from outside is reflected."""
    rows, n = len(image), image.ndim - 2
    planes = list(combinations(range(n), 2))
    lot = chance.uniform((rows, 1 + 3 * n + len(planes)))
    size, stretch, place, flip = lot[:, :1], lot[:, 1 : 1 + n], lot[:, 1 + n : 1 + 2 * n], lot[:, 1 + 2 * n : 1 + 3 * n]
    area = views.area[0] + size * (views.area[1] - views.area[0])
    side = (area ** (1 / n) * views.stretch ** (2 * stretch - 1)).clamp(max=1)
    may = torch.tensor([*views.mirror, *(False,) * n][:n], device=image.device)
    matrix = torch.diag_embed(torch.where(may & (flip < 0.5), -side, side))
    for k, plane in enumerate(planes):
        matrix = turned((2 * lot[:, 1 + 3 * n + k] - 1) * math.radians(views.rotation), plane, n) @ matrix
    return resampled(image, matrix, (2 * place - 1) * (1 - side) / 2, onto=onto)


def toned(image: Tensor, views: Crops, chance: Chance) -> Tensor:
    """Gamma, contrast and brightness, blur, noise, each on about half of the images."""
    lot, over = chance.uniform((len(image), 8)), (-1, *(1,) * (image.ndim - 1))
    on, size = lot[:, :4] < 0.5, 2 * lot[:, 4:] - 1
    found = powered(image, torch.where(on[:, 0], 2 ** (views.gamma * size[:, 0]), 1.0))
    mean, deviation = (x.reshape(over) for x in (found.flatten(1).mean(1), found.flatten(1).std(1)))
    contrast = torch.where(on[:, 1], 2 ** (views.contrast * size[:, 1]), 1.0).reshape(over)
    brightness = torch.where(on[:, 1], views.brightness * size[:, 2], 0.0).reshape(over)
    found = (found - mean) * contrast + mean + brightness * deviation
    if views.blur:
        found = blurred(found, torch.where(on[:, 2], views.blur * (size[:, 3] + 1) / 2, 0.0), most=views.blur)
    if views.noise:
        found = found + torch.where(on[:, 3], views.noise, 0.0).reshape(over) * deviation * chance.normal(image.shape)
    return found


def powered(image: Tensor, power: Tensor) -> Tensor:
    """Each image, scaled to its range, to a `power` (B,), and scaled back."""
    over = (-1, *(1,) * (image.ndim - 1))
    low, high = image.flatten(1).amin(1).reshape(over), image.flatten(1).amax(1).reshape(over)
    extent = (high - low).clamp(min=1e-6)
    return ((image - low) / extent).clamp(min=0) ** power.reshape(over) * extent + low


def blurred(image: Tensor, deviation: Tensor, *, most: float) -> Tensor:
    """Each image under a Gaussian of `deviation` (B,) pixels, at most `most`; below a tenth it stays as it is."""
    radius = max(1, math.ceil(REACH * most))
    place = torch.arange(-radius, radius + 1, device=image.device, dtype=torch.float32)
    kernel = torch.exp(-(place**2) / (2 * deviation[:, None].clamp(min=0.1) ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(image.shape[1], 0)
    n, flat = image.ndim - 2, image.reshape(1, -1, *image.shape[2:])
    for axis in range(n):
        shape = [-1 if a == axis else 1 for a in range(n)]
        padded = F.pad(flat, [radius if a == axis else 0 for a in range(n - 1, -1, -1) for _ in range(2)], mode="replicate")
        flat = FILTER[n](padded, kernel.reshape(len(kernel), 1, *[len(place) if s == -1 else 1 for s in shape]), groups=len(kernel))
    still = (deviation < 0.1).reshape(-1, *(1,) * (n + 1))
    return torch.where(still, image, flat.reshape(image.shape))
