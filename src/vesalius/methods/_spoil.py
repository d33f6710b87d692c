"""How images are spoilt before they are to be brought back."""

from typing import Literal

import torch
from torch import Tensor

from vesalius.core.settings import Settings
from vesalius.methods._chance import Chance


class Spoil(Settings):
    """`kind` gaussian (noise of standard deviation `amount`), mask (that part of the pixels is 0), or none."""

    kind: Literal["gaussian", "mask"] = "gaussian"
    amount: float = 0.25

    def __call__(self, image: Tensor, chance: Chance) -> Tensor:
        if self.kind == "gaussian":
            return image + self.amount * chance.normal(image.shape)
        return image * (chance.uniform(image.shape) >= self.amount)


def boxed(image: Tensor, chance: Chance, *, share: float = 0.5) -> Tensor:
    """`image` (B, C, *S) with one box of `share` of each side, at a place drawn for each sample, filled with the image's mean."""
    corner = chance.uniform((len(image), image.ndim - 2))
    inside = torch.ones((len(image), *image.shape[2:]), dtype=torch.bool, device=image.device)
    for axis, side in enumerate(image.shape[2:]):
        width = max(1, round(share * side))
        first = (corner[:, axis] * (side - width + 1)).floor()
        place = torch.arange(side, device=image.device)
        within = (place >= first[:, None]) & (place < first[:, None] + width)
        inside &= within.reshape(len(image), *(-1 if a == axis else 1 for a in range(image.ndim - 2)))
    return torch.where(inside[:, None], image.flatten(1).mean(1).reshape(-1, *(1,) * (image.ndim - 1)), image)
