"""GAN with the R1 penalty: the critic is flat where the real images are, so that learning comes to rest there.

Mescheder et al. 2018 (ICML), section 4.1: gamma / 2 times the squared slope at real images. The default where nothing else is known.
"""

from collections.abc import Sequence

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.methods._adversarial import Logistic, Losses, Seen, squared_slope
from vesalius.methods._adversaries import Design, Recipe
from vesalius.methods._chance import Chance

CARD = Card(
    entry="R1Gan", title="GAN with R1", paper="Mescheder et al. 2018, ICML", tasks=("synthesise",),
    summary="A GAN that converges: the critic is kept flat at real images.",
)  # fmt: skip

class R1Gan(Logistic):
    """`gamma` is the weight of the penalty: 10 in the paper, less for smaller images (Karras et al. 2020: 0.0002 x pixels / batch)."""

    betas = (0.0, 0.99)
    slopes = True

    def __init__(
        self, shape: Sequence[int], *, design: Design | None = None, gamma: float = 1.0, learning_rate: float = 1e-3,
        weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, design, Recipe(), learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if gamma <= 0:
            raise UsageError(f"gamma must be above 0; got {gamma}. Use gan for no penalty.")
        self.gamma = gamma

    def judge(self, real: Seen, fake: Seen, chance: Chance) -> Losses:
        steep = squared_slope(real.word, real.image)
        return {**super().judge(real, fake, chance), "penalty": self.gamma / 2 * steep.mean()}
