"""DRAGAN: the critic's slope is drawn to 1 around the real images alone.

Kodali et al. 2017 (arXiv:1705.07215), with the noise of their code: up to half a standard deviation of the batch, towards brighter.
"""

from collections.abc import Sequence

import torch

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.methods._adversarial import Logistic, Losses, Seen, away_from_one, squared_slope
from vesalius.methods._adversaries import Design, Recipe
from vesalius.methods._chance import Chance
from vesalius.methods._unlabelled import joint_mean

CARD = Card(
    entry="Dragan", title="DRAGAN", paper="Kodali et al. 2017, arXiv:1705.07215", tasks=("synthesise",),
    summary="A penalty on the slope of the critic around real images.",
)  # fmt: skip

AROUND = 0.5  # of the standard deviation of the batch


class Dragan(Logistic):
    """`penalty` times (slope - 1)^2 at real images with noise."""

    def __init__(
        self, shape: Sequence[int], *, design: Design | None = None, penalty: float = 10.0, learning_rate: float = 2e-4,
        weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, design, Recipe(), learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if penalty <= 0:
            raise UsageError(f"The penalty must be above 0; got {penalty}.")
        self.penalty = penalty

    def judge(self, real: Seen, fake: Seen, chance: Chance) -> Losses:
        image = real.image.detach()
        lot, along = chance.uniform(image.shape), chance.uniform((len(image), *(1,) * (image.ndim - 1)))
        moments = joint_mean(torch.stack([image, image.square()], 1).flatten(2).mean(2))
        near = (image + AROUND * (moments[1] - moments[0].square()).sqrt() * lot * along).requires_grad_()
        steep = squared_slope(self.word(near, real.told), near)
        return {**super().judge(real, fake, chance), "penalty": self.penalty * away_from_one(steep)}
