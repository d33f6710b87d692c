"""Generative adversarial network: a generator learns from a critic that learns to tell its images from real ones.

Goodfellow et al. 2014 (NeurIPS), with the generator's loss that does not fade while the critic is ahead (their section 3,
"non-saturating"). Ours has convolutions and batch normalisation in the generator in place of dense layers.
"""

from collections.abc import Sequence

from vesalius.core.card import Card
from vesalius.methods._adversarial import Logistic
from vesalius.methods._adversaries import Design, Recipe

CARD = Card(
    entry="Gan", title="GAN", paper="Goodfellow et al. 2014, NeurIPS", tasks=("synthesise",),
    summary="Images made of noise, learned from a critic that tells made from real.",
)  # fmt: skip

class Gan(Logistic):
    """-E log D(x) - E log(1 - D(G(z))) for the critic, -E log D(G(z)) for the generator."""

    def __init__(
        self, shape: Sequence[int], *, design: Design | None = None, learning_rate: float = 2e-4, weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, design, Recipe(), learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
