"""Models Genesis: an image is spoilt in its tones, its texture and its context, and a U-Net restores it.

Zhou et al. 2019 (MICCAI, arXiv:1908.06912), 2021 (Medical Image Analysis 67): a monotone curve of intensities, rising or falling; pixels
shuffled within small windows; noise in boxes (in-painting) or outside them (out-painting); the mean squared error over the whole image.
Ours is written from the paper. All windows of a grid are shuffled at once, where the authors shuffle thousands in turn; images of any
range are spoilt within their own; mirroring is left to the augmentation of the plan.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from vesalius.core.card import Card
from vesalius.core.settings import Settings
from vesalius.data.batch import Batch
from vesalius.methods._chance import Chance
from vesalius.methods._masks import boxes
from vesalius.methods._restoring import Restoring
from vesalius.methods._trunk import Trunk

CARD = Card(
    entry="ModelsGenesis", title="Models Genesis", paper="Zhou et al. 2019, MICCAI, arXiv:1908.06912", tasks=("pretrain", "anomaly"),
    summary="Restores an image from spoilt tones, texture and context; learns a whole U-Net.", tags=("dense",),
    facts={"arguments": {"trunk": {"name": "unet", "channels": (8, 16)}}},
)  # fmt: skip
WINDOW = 10  # a window has at most that part of each side
BOXES, INNER, OUTER = 5, (1 / 6, 1 / 3), (3 / 7, 4 / 7)
POINTS = 64  # of a curve
TINY = 1e-6


class Damage(Settings):
    """How often an image is spoilt in each way; `inner` is how often painting is inside boxes rather than outside (as published)."""

    tones: float = Field(0.9, ge=0, le=1)
    texture: float = Field(0.5, ge=0, le=1)
    painting: float = Field(0.9, ge=0, le=1)
    inner: float = Field(0.2, ge=0, le=1)

    def __call__(self, image: Tensor, chance: Chance) -> Tensor:
        """`image` (B, C, *S) spoilt within its own range."""
        lot, over = chance.uniform((len(image), 4)), (-1, *(1,) * (image.ndim - 1))
        on = [(lot[:, k] < rate).reshape(over) for k, rate in enumerate((self.tones, self.texture, self.painting, self.inner))]
        low, high = image.flatten(1).amin(1).reshape(over), image.flatten(1).amax(1).reshape(over)
        extent = (high - low).clamp(min=TINY)
        found = (image - low) / extent
        found = torch.where(on[1], shuffled(found, chance), found)
        found = torch.where(on[0], curved(found, chance), found)
        return torch.where(on[2], painted(found, on[3], chance), found) * extent + low


class ModelsGenesis(Restoring):
    """`damage` as `Damage` or words for one; answers are for images as they are."""

    def __init__(
        self, shape: Sequence[int], *, trunk: Trunk | None = None, damage: Damage | Mapping[str, Any] | None = None,
        learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, trunk, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.damage = damage if isinstance(damage, Damage) else Damage.checked(dict(damage or {}), where="damage")

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image = self.checked(batch["image"]).float()
        yield "net", {"restoration": (self.restored(self.damage(image, self.chance())) - image).square().mean()}
        self.step += 1

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        return self.restored(self.checked(image).float())


def curved(image: Tensor, chance: Chance) -> Tensor:
    """Intensities 0 to 1 along a cubic Bezier curve from (0, 0) to (1, 1) with two drawn points, upside down in half of the images."""
    lot, t = chance.uniform((len(image), 5)), torch.linspace(0, 1, POINTS, device=image.device)
    first, second, end = 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
    x = (lot[:, :1] * first + lot[:, 1:2] * second + end).contiguous()
    y = lot[:, 2:3] * first + lot[:, 3:4] * second + end
    y = torch.where(lot[:, 4:] < 0.5, 1 - y, y)
    values = image.flatten(1).contiguous()
    right = torch.searchsorted(x, values).clamp(1, POINTS - 1)
    (x0, x1), (y0, y1) = ((line.gather(1, right - 1), line.gather(1, right)) for line in (x, y))
    share = ((values - x0) / (x1 - x0).clamp(min=TINY)).clamp(0, 1)
    return (y0 + share * (y1 - y0)).reshape(image.shape)


def shuffled(image: Tensor, chance: Chance) -> Tensor:
    """Pixels in another order within each window of a grid; the size of windows (at least two pixels) and where they begin are drawn."""
    rows, sides = len(image), image.shape[2:]
    lot, window = chance.uniform((rows, 2, len(sides))), torch.zeros(rows, 1, dtype=torch.int64, device=image.device)
    for axis, side in enumerate(sides):
        size = 2 + (lot[:, 0, axis] * max(1, side // WINDOW - 1)).long()
        begin = (lot[:, 1, axis] * size).long()
        number = (torch.arange(side, device=image.device) + begin[:, None]) // size[:, None]
        window = (window[..., None] * (side + 1) + number[:, None]).flatten(1)
    order = window.argsort(dim=1, stable=True)
    other = (window.double() + chance.uniform(window.shape)).argsort(1)
    flat = image.flatten(2)
    places = (rows, image.shape[1], -1)
    moved = flat.gather(2, other[:, None].expand(places))
    return torch.zeros_like(flat).scatter(2, order[:, None].expand(places), moved).reshape(image.shape)


def painted(image: Tensor, inner: Tensor, chance: Chance) -> Tensor:
    """Noise from 0 to 1 inside of small boxes where `inner` (B, 1, ...), outside of large ones elsewhere."""
    rows, sides = len(image), image.shape[2:]
    small = boxes(sides, BOXES, INNER, rows=rows, chance=chance)
    large = boxes(sides, BOXES, OUTER, rows=rows, chance=chance)
    return torch.where(torch.where(inner, small, ~large), chance.uniform(image.shape), image)
