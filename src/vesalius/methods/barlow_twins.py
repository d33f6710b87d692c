"""Barlow Twins: what is said of two views is to be alike number by number, and no number is to say what another says.

Zbontar, Jing, Misra, LeCun & Deny 2021 (ICML, arXiv:2103.03230): the cross-correlation of the two descriptions over a batch is driven to
the identity. Needs neither other images to compare with nor a second network; learns with small batches, and wants a wide head.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vesalius.core.card import Card
from vesalius.data.batch import Batch
from vesalius.methods._crops import Crops
from vesalius.methods._described import Described, compared, perceptron
from vesalius.methods._trunk import Trunk, described

CARD = Card(
    entry="BarlowTwins", title="Barlow Twins", paper="Zbontar et al. 2021, ICML, arXiv:2103.03230", tasks=("pretrain",), tags=("views",),
    summary="Two views agree number by number, and numbers do not repeat each other.",
    facts={"arguments": {"trunk": {"name": "unet", "channels": (8, 16)}, "head": (16, 8)}},
)  # fmt: skip
EPS = 1e-5  # added to the variance of a number that says nothing


class BarlowTwins(Described):
    """`off`: weight of the terms off the diagonal (published .0051, for 8192 numbers); `head`: widths behind the trunk."""

    def __init__(
        self, shape: Sequence[int], *, trunk: Trunk | None = None, views: Crops | Mapping[str, Any] | None = None, off: float = 0.0051,
        head: Sequence[int] = (512, 512), learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, trunk, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.views, self.off = Crops.of(views), off
        self.net.pretext = self.drawn(perceptron((self.width, *head)))

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image, chance = self.checked(batch["image"]), self.chance()
        both = torch.cat([self.views(image, chance), self.views(image, chance)])
        first, second = self.net.pretext(described(self.net, both)).chunk(2)
        on, off = redundancy(cross_correlation(compared(first), compared(second)))
        yield "net", {"invariance": on, "redundancy": self.off * off}
        self.step += 1


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """(K, K): mean over the batch of the product of number i of the first and j of the second, each standardised over the batch (eq. 2)."""
    one, other = ((x - x.mean(0)) / (x.var(0, correction=0) + EPS).sqrt() for x in (first.float(), second.float()))
    return one.T @ other / len(first)


def redundancy(correlation: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of (1 - C_ii)^2 and, off the diagonal, of C_ij^2 (eq. 1)."""
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum(), correlation.square().sum() - diagonal.square().sum()
