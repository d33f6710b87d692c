"""Wasserstein GAN: the critic measures how far the made images must be moved to become the real ones.

Arjovsky et al. 2017 (ICML): its slope is bounded by clipping its weights after each step; RMSprop, five turns of the critic per turn of the
generator (ours on a fresh batch each).
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Optimizer, RMSprop

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.methods._adversarial import Seen, Wasserstein
from vesalius.methods._adversaries import Design, Recipe
from vesalius.methods._unlabelled import decayed

CARD = Card(
    entry="Wgan", title="WGAN", paper="Arjovsky et al. 2017, ICML", tasks=("synthesise",),
    summary="The distance of earth movers in place of a classifier, by clipped weights.",
)  # fmt: skip

RECIPE = Recipe(norms=(True, True), spread=0.02, constant=False)


class Wgan(Wasserstein):
    """Weights of the critic stay within `clip`."""

    def __init__(
        self, shape: Sequence[int], *, design: Design | None = None, clip: float = 0.01, learning_rate: float = 5e-5,
        weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, design, RECIPE, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if clip <= 0:
            raise UsageError(f"Weights are clipped to a positive number; got {clip}.")
        self.clip = clip

    def teacher(self, net: nn.Module) -> Optimizer:
        """RMSprop, since the paper found momentum to be harmful here."""
        return RMSprop(decayed(net, self.weight_decay), lr=self.learning_rate)

    def learned(self, real: Seen) -> None:
        with torch.no_grad():
            for weight in self.net.critic.parameters():
                weight.clamp_(-self.clip, self.clip)
