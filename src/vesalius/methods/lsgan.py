"""Least-squares GAN: squared distances from 0 and 1 in place of a logarithm, which do not fade far from the border.

Mao et al. 2017 (ICCV), equation 9: made images are 0, real ones 1, and 1 is what the generator wants.
"""

from collections.abc import Sequence

from torch import Tensor

from vesalius.core.card import Card
from vesalius.methods._adversarial import Adversarial, Losses, Seen
from vesalius.methods._adversaries import Design, Recipe
from vesalius.methods._chance import Chance

CARD = Card(
    entry="Lsgan", title="LSGAN", paper="Mao et al. 2017, ICCV", tasks=("synthesise",),
    summary="A critic that regresses to 0 and 1.",
)  # fmt: skip

RECIPE = Recipe(norms=(True, True), spread=0.02)


class Lsgan(Adversarial):
    """E (D(x) - 1)^2 / 2 + E D(G(z))^2 / 2 for the critic, E (D(G(z)) - 1)^2 / 2 for the generator."""

    boundary = 0.5

    def __init__(
        self, shape: Sequence[int], *, design: Design | None = None, learning_rate: float = 2e-4, weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, design, RECIPE, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)

    def judge(self, real: Seen, fake: Seen, chance: Chance) -> Losses:
        return {"real": (real.word - 1).square().mean() / 2, "made": fake.word.square().mean() / 2}

    def persuade(self, real: Tensor, fake: Seen) -> Losses:
        return {"taken": (fake.word - 1).square().mean() / 2}
