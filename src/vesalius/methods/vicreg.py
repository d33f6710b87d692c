"""VICReg: descriptions of two views are near, each number of them varies over the batch, and no two vary together.

Bardes, Ponce & LeCun 2022 (ICLR, arXiv:2105.04906), as its algorithm 1 says it, with the weights 25, 25 and 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._crops import Crops
from vesalius.methods._described import Described, compared, perceptron
from vesalius.methods._trunk import Trunk, described

CARD = Card(
    entry="VICReg", title="VICReg", paper="Bardes, Ponce & LeCun 2022, ICLR, arXiv:2105.04906", tasks=("pretrain",), tags=("views",),
    summary="Near for two views, varied over images, without numbers that vary together.",
    facts={"arguments": {"trunk": {"name": "unet", "channels": (8, 16)}, "head": (16, 8)}},
)  # fmt: skip
EPS = 1e-4  # under the root of a variance (section 4.1)
WEIGHTS = (25.0, 25.0, 1.0)


class VICReg(Described):
    """`weights` of invariance, variance and covariance; `head`: widths behind the trunk (the "expander")."""

    def __init__(
        self, shape: Sequence[int], *, trunk: Trunk | None = None, views: Crops | Mapping[str, Any] | None = None,
        weights: Sequence[float] = WEIGHTS, head: Sequence[int] = (512, 512), learning_rate: float = 1e-3, weight_decay: float = 1e-4,
        seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, trunk, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if len(weights) != 3 or min(weights) < 0:
            raise UsageError(f"Three weights of at least 0 are needed (invariance, variance, covariance); got {tuple(weights)}.")
        self.views, self.weights = Crops.of(views), tuple(weights)
        self.net.pretext = self.drawn(perceptron((self.width, *head)))

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image, chance = self.checked(batch["image"]), self.chance()
        both = torch.cat([self.views(image, chance), self.views(image, chance)])
        first, second = (compared(x) for x in self.net.pretext(described(self.net, both)).chunk(2))
        near, vary, together = self.weights
        yield "net", {
            "invariance": near * (first - second).square().mean(),
            "variance": vary * (flat(first) + flat(second)),
            "covariance": together * (shared(first) + shared(second)),
        }
        self.step += 1


def flat(rows: Tensor) -> Tensor:
    """Mean over numbers of how far their standard deviation over the batch stays below 1 (eq. 1)."""
    return F.relu(1 - (rows.var(0) + EPS).sqrt()).mean()


def shared(rows: Tensor) -> Tensor:
    """Sum of squared covariances off the diagonal over how many numbers there are (eq. 3 and 4)."""
    covariance = torch.cov(rows.T).reshape(rows.shape[1], rows.shape[1])
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / rows.shape[1]
