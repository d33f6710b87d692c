"""Conditional GAN: both networks are told the class, so images of a class can be asked for.

Mirza & Osindero 2014 (arXiv:1411.1784): the class beside the noise. The critic is told by projection (Miyato & Koyama 2018, ICLR): its
word is that on any image plus the product of its features with a vector of the class. R1 keeps it steady (Mescheder et al. 2018).
"""

from collections.abc import Sequence

from torch import Tensor

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.methods._adversarial import Classed, Losses, Seen, at_least_two, squared_slope
from vesalius.methods._adversaries import Design, Recipe
from vesalius.methods._chance import Chance

CARD = Card(
    entry="ConditionalGan", title="Conditional GAN", tasks=("synthesise",),
    paper="Mirza & Osindero 2014, arXiv:1411.1784; Miyato & Koyama 2018, ICLR", summary="Images of a class that is asked for.",
    facts={"arguments": {"classes": 2}},
)  # fmt: skip

class ConditionalGan(Classed):
    """Labels are `batch["label"]` (B,), 0 to `classes` - 1; `gamma` weighs R1."""

    betas = (0.0, 0.99)
    slopes = True

    def __init__(
        self, shape: Sequence[int], *, classes: int, design: Design | None = None, gamma: float = 1.0, learning_rate: float = 1e-3,
        weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        recipe = Recipe(told=at_least_two(classes), answers=1 + classes)
        super().__init__(shape, design, recipe, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if gamma < 0:
            raise UsageError(f"gamma weighs a penalty and is at least 0; got {gamma}.")
        self.classes, self.gamma = classes, gamma

    def judged(self, answers: Tensor, told: Tensor) -> Tensor:
        """The projection: the common answer plus the one of the class."""
        return answers[:, :1] + (answers[:, 1:] * told).sum(1, keepdim=True)

    def judge(self, real: Seen, fake: Seen, chance: Chance) -> Losses:
        steep = squared_slope(real.word, real.image)
        return {**super().judge(real, fake, chance), "penalty": self.gamma / 2 * steep.mean()}
