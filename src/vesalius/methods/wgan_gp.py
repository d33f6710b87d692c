"""Wasserstein GAN with a gradient penalty: the critic's slope is drawn to 1 between real and made images.

Gulrajani et al. 2017 (NeurIPS), algorithm 1: no batch normalisation in the critic, because the penalty is one of each sample.
"""

from collections.abc import Sequence

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.methods._adversarial import Losses, Seen, Wasserstein, away_from_one, squared_slope
from vesalius.methods._adversaries import Design, Recipe
from vesalius.methods._chance import Chance

CARD = Card(
    entry="WganGp", title="WGAN-GP", paper="Gulrajani et al. 2017, NeurIPS", tasks=("synthesise",),
    summary="The distance of earth movers, by a penalty on the slope of the critic.",
)  # fmt: skip

class WganGp(Wasserstein):
    """`penalty` times (slope - 1)^2 at a random place between a real and a made image."""

    betas = (0.0, 0.9)

    def __init__(
        self, shape: Sequence[int], *, design: Design | None = None, penalty: float = 10.0, learning_rate: float = 1e-4,
        weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, design, Recipe(constant=False), learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if penalty <= 0:
            raise UsageError(f"The penalty must be above 0; got {penalty}.")
        self.penalty = penalty

    def judge(self, real: Seen, fake: Seen, chance: Chance) -> Losses:
        lot = chance.uniform((len(real.image), *(1,) * (real.image.ndim - 1)))
        between = real.image.detach().lerp(fake.image, lot).requires_grad_()
        steep = squared_slope(self.word(between, real.told), between)
        return {**super().judge(real, fake, chance), "penalty": self.penalty * away_from_one(steep)}
