"""Auxiliary classifier GAN: the critic names the class too, and both networks want it to be right.

Odena et al. 2017 (ICML): L_S + L_C for the critic, L_C - L_S for the generator, with the non-saturating form of L_S. It favours images that
are easy to classify: look at the coverage of each class.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.methods._adversarial import Classed, Losses, Seen, at_least_two
from vesalius.methods._adversaries import Design, Recipe
from vesalius.methods._chance import Chance

CARD = Card(
    entry="AcGan", title="AC-GAN", paper="Odena et al. 2017, ICML", tasks=("synthesise",),
    summary="Images of a class that is asked for, from a critic that classifies.",
    facts={"arguments": {"classes": 2}},
)  # fmt: skip


class AcGan(Classed):
    """Labels are `batch["label"]` (B,), 0 to `classes` - 1; `infer` gives the word and the logits of the classes."""

    def __init__(
        self, shape: Sequence[int], *, classes: int, design: Design | None = None, learning_rate: float = 2e-4,
        weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        recipe = Recipe(told=at_least_two(classes), answers=1 + classes, norms=(True, True), spread=0.02)
        super().__init__(shape, design, recipe, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.classes = classes

    def judge(self, real: Seen, fake: Seen, chance: Chance) -> Losses:
        named = F.cross_entropy(real.answers[:, 1:], real.label) + F.cross_entropy(fake.answers[:, 1:], fake.label)
        return {**super().judge(real, fake, chance), "class": named}

    def persuade(self, real: Tensor, fake: Seen) -> Losses:
        return {**super().persuade(real, fake), "class": F.cross_entropy(fake.answers[:, 1:], fake.label)}
