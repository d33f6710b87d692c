"""Spectrally normalised GAN: every layer of the critic has greatest singular value 1, so its slope is bounded everywhere.

Miyato et al. 2018 (ICLR), with the hinge loss (Lim & Ye 2017): what is told well is not learned from. The answer has no constant: inside
the margin no gradient would teach it.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.methods._adversarial import Adversarial, Losses, Seen
from vesalius.methods._adversaries import Design, Recipe
from vesalius.methods._chance import Chance

CARD = Card(
    entry="SnGan", title="SN-GAN", paper="Miyato et al. 2018, ICLR", tasks=("synthesise",),
    summary="Hinge loss and a critic whose every layer is normalised by its greatest singular value.",
)  # fmt: skip

RECIPE = Recipe(spectral=True, constant=False)


class SnGan(Adversarial):
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))) for the critic, -E D(G(z)) for the generator."""

    betas = (0.0, 0.9)

    def __init__(
        self, shape: Sequence[int], *, design: Design | None = None, learning_rate: float = 2e-4, weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, design, RECIPE, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)

    def judge(self, real: Seen, fake: Seen, chance: Chance) -> Losses:
        return {"real": F.relu(1 - real.word).mean(), "made": F.relu(1 + fake.word).mean()}

    def persuade(self, real: Tensor, fake: Seen) -> Losses:
        return {"taken": -fake.word.mean()}
