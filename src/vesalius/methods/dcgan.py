"""Deep convolutional GAN: what made convolutional generators learn at all.

Radford et al. 2016 (ICLR): strides in place of pooling, batch normalisation in both networks (but not where images enter and leave), first
weights of spread 0.02, Adam with beta 0.5.
"""

from collections.abc import Sequence

from vesalius.core.card import Card
from vesalius.methods._adversarial import Logistic
from vesalius.methods._adversaries import Design, Recipe

CARD = Card(
    entry="Dcgan", title="DCGAN", paper="Radford et al. 2016, ICLR", tasks=("synthesise",),
    summary="The recipe of layers, norms and first weights by which a convolutional GAN learns.",
)  # fmt: skip

RECIPE = Recipe(norms=(True, True), spread=0.02)


class Dcgan(Logistic):
    """The loss of `gan`, the paper's networks."""

    def __init__(
        self, shape: Sequence[int], *, design: Design | None = None, learning_rate: float = 2e-4, weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, design, RECIPE, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
