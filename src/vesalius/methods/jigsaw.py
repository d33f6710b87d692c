"""Jigsaw: the image is cut into tiles and these are shuffled; in which of many known orders do they lie?

Noroozi & Favaro 2016 (ECCV, arXiv:1603.09246): nine tiles with gaps, each standardised by itself so that edges and brightness tell
nothing, all through one trunk. In 3D eight tiles (Taleb et al. 2020). The paper picks orders far from each other greedily; ours are the
affine maps a x + b of the field with as many elements as tiles, 72 of 9 or 56 of 8: any two agree in at most one place, which is the
largest such set there is. Asks for images in which organs have their places.
"""

from collections.abc import Iterator, Sequence
from math import floor

import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._described import Described, perceptron
from vesalius.methods._trunk import Trunk, described, fitted

CARD = Card(
    entry="Jigsaw", title="Jigsaw", paper="Noroozi & Favaro 2016, ECCV, arXiv:1603.09246; Taleb et al. 2020", tasks=("pretrain",),
    summary="Tells in which order the shuffled tiles of an image lie.", tags=("described",),
    facts={"arguments": {"trunk": {"name": "unet", "channels": (8, 16)}, "hidden": 32}},
)  # fmt: skip
CUTS = {2: 3, 3: 2}  # tiles along each axis
SHARE = 0.85  # of a cell that a tile fills, at a place drawn for each: so tiles cannot be joined by their edges
PRIME = {9: 3, 8: 2}
LEADING = {9: (2, 0), 8: (1, 1, 0)}  # x^2 = -1 over three elements; x^3 = x + 1 over two
TINY = 1e-6


class Jigsaw(Described):
    """`hidden` features of all tiles together. How strange an image is: -log of the probability of its own order."""

    def __init__(
        self, shape: Sequence[int], *, trunk: Trunk | None = None, hidden: int = 256, learning_rate: float = 1e-3,
        weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, trunk, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.cuts = CUTS[len(self.shape) - 1]
        self.cells = tuple(side // self.cuts for side in self.shape[1:])
        if min(self.cells) < 2:
            raise UsageError(f"Tiles of a jigsaw have at least 2 pixels along each axis; {self.shape[1:]} in {self.cuts} parts have "
                             f"{self.cells}. Choose another method.")  # fmt: skip
        tiles = self.cuts ** len(self.cells)
        self.orders = torch.tensor(affine(tiles))
        self.tile = tuple(max(1, floor(SHARE * cell)) for cell in self.cells)
        self.seen = fitted(self.net, self.tile)
        self.net.pretext = self.drawn(perceptron((tiles * self.width, hidden, len(self.orders))))

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image, chance = self.checked(batch["image"]), self.chance()
        order = (chance.uniform((len(image),)) * len(self.orders)).long()
        place = chance.uniform((len(image), len(self.orders[0]), len(self.cells)))
        yield "net", {"order": self.missed(image.float(), order, place).mean()}
        self.step += 1

    def missed(self, image: Tensor, order: Tensor, place: Tensor) -> Tensor:
        """-log of the probability of each image's `order` (B,), its tiles at `place` (B, T, n) in their cells: (B,)."""
        tiles = self.cut(image, place)
        shuffled = tiles[torch.arange(len(image))[:, None], self.orders.to(image.device)[order]]
        each = described(self.net, shuffled.flatten(0, 1)).reshape(len(image), -1)
        return F.cross_entropy(self.net.pretext(each).float(), order, reduction="none")

    def cut(self, image: Tensor, place: Tensor) -> Tensor:
        """Tiles (B, T, C, *t) in reading order, standardised each by itself, at sides that the trunk takes."""
        spare = torch.tensor([cell - side for cell, side in zip(self.cells, self.tile, strict=True)], device=image.device)
        offset = (place * (spare + 1)).long()
        grid = torch.cartesian_prod(*(torch.arange(self.cuts) for _ in self.cells)).tolist()
        found = torch.stack([self._part(image, cell, offset[:, k]) for k, cell in enumerate(grid)], 1)
        flat = found.flatten(2)
        found = ((flat - flat.mean(2, keepdim=True)) / (flat.std(2, keepdim=True) + TINY)).reshape(found.shape)
        if self.seen == self.tile:
            return found
        mode = {2: "bilinear", 3: "trilinear"}[len(self.tile)]
        return F.interpolate(found.flatten(0, 1), self.seen, mode=mode).unflatten(0, found.shape[:2])

    def _part(self, image: Tensor, cell: Sequence[int], offset: Tensor) -> Tensor:
        """One tile of each image: (B, C, *t)."""
        for axis, (number, size, side) in enumerate(zip(cell, self.cells, self.tile, strict=True)):
            index = number * size + offset[:, axis, None] + torch.arange(side, device=image.device)
            over = [1] * image.ndim
            over[0], over[axis + 2] = len(image), side
            sides = list(image.shape)
            sides[axis + 2] = side
            image = image.gather(axis + 2, index.reshape(over).expand(sides))
        return image

    @torch.no_grad()
    def score(self, image: Tensor) -> Tensor:
        image = self.checked(image).float()
        middle = torch.full((len(image), len(self.orders[0]), len(self.cells)), 0.5, device=image.device)
        return self.missed(image, torch.zeros(len(image), dtype=torch.int64, device=image.device), middle)


def affine(size: int) -> list[list[int]]:
    """The orders x -> a x + b, a not 0, of the field with `size` elements (8 or 9), the identity first; two agree in one place at most."""
    elements = range(size)
    return [[_sum(_product(a, x, size), b, size) for x in elements] for a in elements[1:] for b in elements]


def _digits(x: int, size: int) -> list[int]:
    """Coefficients of an element, the constant first."""
    return [x // PRIME[size] ** k % PRIME[size] for k in range(len(LEADING[size]))]


def _number(digits: Sequence[int], size: int) -> int:
    return sum(d % PRIME[size] * PRIME[size] ** k for k, d in enumerate(digits))


def _sum(x: int, y: int, size: int) -> int:
    return _number([a + b for a, b in zip(_digits(x, size), _digits(y, size), strict=True)], size)


def _product(x: int, y: int, size: int) -> int:
    """Of two polynomials, the highest powers written by lower ones."""
    a, b, degree = _digits(x, size), _digits(y, size), len(LEADING[size])
    powers = [sum(a[k] * b[n - k] for k in range(degree) if 0 <= n - k < degree) for n in range(2 * degree - 1)]
    for n in range(2 * degree - 2, degree - 1, -1):
        for k, factor in enumerate(LEADING[size]):
            powers[n - degree + k] += powers[n] * factor
    return _number(powers[:degree], size)
