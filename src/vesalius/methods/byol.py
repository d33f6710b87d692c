"""BYOL: from one view, what a slower network says of the other view is to be foretold; no other image is needed to compare with.

Grill et al. 2020 (NeurIPS, arXiv:2006.07733). Ours begins at a momentum of .99, not .996, since runs are of thousands of steps, not a
million; it rises to 1 as published.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._crops import Crops
from vesalius.methods._described import Described, Follower, perceptron
from vesalius.methods._trunk import Trunk, described

CARD = Card(
    entry="BYOL", title="BYOL", paper="Grill et al. 2020, NeurIPS, arXiv:2006.07733", tasks=("pretrain",), tags=("views", "momentum"),
    summary="Foretells what a slower copy of itself says of another view; needs no other images to compare with.",
    facts={"arguments": {"trunk": {"name": "unet", "channels": (8, 16)}, "head": (16, 8), "momentum": 0.9}},
)  # fmt: skip


class BYOL(Described):
    """`head`: hidden and last width of the projection; the predictor has the same. `momentum` at the start of learning."""

    def __init__(
        self, shape: Sequence[int], *, trunk: Trunk | None = None, views: Crops | Mapping[str, Any] | None = None, momentum: float = 0.99,
        head: Sequence[int] = (512, 128), learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, trunk, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if not 0 <= momentum < 1 or len(head) != 2:
            raise UsageError(f"BYOL needs a momentum in [0, 1) and two widths of its head; got {momentum} and {tuple(head)}.")
        self.views, self.momentum, self.share = Crops.of(views), momentum, 0.0
        self.net.pretext = self.drawn(perceptron((self.width, *head)))
        self.slow = Follower(self.net)
        self.net.predictor = self.drawn(perceptron((head[1], *head)))

    def progress(self, share: float) -> None:
        self.share = share

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image, chance = self.checked(batch["image"]), self.chance()
        both = torch.cat([self.views(image, chance), self.views(image, chance)])
        told = self.net.predictor(self.net.pretext(described(self.net, both)))
        with torch.no_grad():
            first, second = self.slow.copy.pretext(described(self.slow.copy, both)).chunk(2)  # type: ignore[operator]
        yield "net", {"foretelling": 2 * apart(told, torch.cat([second, first])).mean()}
        own = {name: part for name, part in self.net.named_children() if name != "predictor"}
        self.slow.follow(torch.nn.ModuleDict(own), kept(self.share, self.momentum))
        self.step += 1


def apart(told: Tensor, said: Tensor) -> Tensor:
    """Squared distance on the unit sphere, 2 - 2 cos (eq. 2): (B,)."""
    return 2 - 2 * F.cosine_similarity(told.float(), said.float(), dim=1)


def kept(share: float, start: float) -> float:
    """The momentum after `share` of learning: from `start` to 1 along a cosine (section 3.3)."""
    return 1 - (1 - start) * (math.cos(math.pi * share) + 1) / 2
