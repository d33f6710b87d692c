"""Rotation: by how many quarter turns was the image turned? Who can tell, knows what is up in it.

Gidaris, Singh & Komodakis 2018 (ICLR, arXiv:1803.07728), all four rotations of each image in one step. In 3D ours has the ten of Taleb et
al. 2020 (NeurIPS, arXiv:2006.03829): none, and one to three quarter turns about each axis; four of them, drawn
for each image, are in a step. Images whose sides differ are cut to the largest square or cube in the middle. Asks for images that have an upside.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.data.batch import Batch
from vesalius.methods._described import Described, perceptron
from vesalius.methods._trunk import Trunk, described

CARD = Card(
    entry="Rotation", title="Rotation", paper="Gidaris, Singh & Komodakis 2018, ICLR, arXiv:1803.07728; Taleb et al. 2020",
    summary="Tells by how many quarter turns an image was turned.", tasks=("pretrain",), tags=("described",),
    facts={"arguments": {"trunk": {"name": "unet", "channels": (8, 16)}}},
)  # fmt: skip
COPIES = 4  # of each image in a step


class Rotation(Described):
    """How strange an image is: how surely each of its rotations is told, as -log of the probability (Golan & El-Yaniv 2018)."""

    def __init__(
        self, shape: Sequence[int], *, trunk: Trunk | None = None, learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0
    ) -> None:
        super().__init__(shape, trunk, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.turns = rotations(len(self.shape) - 1)
        self.net.pretext = self.drawn(perceptron((self.width, len(self.turns))))

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image = self.checked(batch["image"])
        which = self.chance().uniform((len(image), len(self.turns))).argsort(1)[:, :COPIES]
        yield "net", {"turned": self.missed(image, which).mean()}
        self.step += 1

    def missed(self, image: Tensor, which: Tensor) -> Tensor:
        """-log of the probability of each rotation in `which` (B, R) of each image: (B, R)."""
        middle = cube(image.float())
        shown = [rotated(one, self.turns[int(k)]) for one, row in zip(middle, which, strict=True) for k in row]
        logits = self.net.pretext(described(self.net, torch.stack(shown)))
        return F.cross_entropy(logits.float(), which.flatten(), reduction="none").reshape(which.shape)

    @torch.no_grad()
    def score(self, image: Tensor) -> Tensor:
        which = torch.arange(len(self.turns), device=image.device).expand(len(image), -1)
        return self.missed(self.checked(image), which).mean(1)


def rotations(ndim: int) -> tuple[tuple[int, tuple[int, int]], ...]:
    """(quarter turns, plane): none, then one to three in each plane of two axes; 4 in 2D, 10 in 3D."""
    return ((0, (0, 1)), *((k, plane) for plane in combinations(range(ndim), 2) for k in (1, 2, 3)))


def rotated(image: Tensor, turn: tuple[int, tuple[int, int]]) -> Tensor:
    """`image` (C, *S) by quarter turns in a plane of its sides."""
    quarters, (a, b) = turn
    return torch.rot90(image, quarters, (a + 1, b + 1))


def cube(image: Tensor) -> Tensor:
    """The largest part of `image` (B, C, *S) in the middle whose sides are equal."""
    least = min(image.shape[2:])
    for axis, side in enumerate(image.shape[2:], start=2):
        image = image.narrow(axis, (side - least) // 2, least)
    return image
