"""InfoGAN: part of the noise must be read back from the image, so it comes to mean something without any label.

Chen et al. 2016 (NeurIPS), equation 6: a lower bound of the mutual information of code and image, for one code of several classes and for
numbers in -1 to 1 (normal around what the critic reads, with unit variance). Both networks climb it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.methods._adversarial import Logistic, Losses, Seen, wished
from vesalius.methods._adversaries import Design, Recipe
from vesalius.methods._chance import Chance

CARD = Card(
    entry="InfoGan", title="InfoGAN", paper="Chen et al. 2016, NeurIPS", tasks=("synthesise",),
    summary="Codes that mean something, found without labels.",
    facts={"arguments": {"classes": 3}},
)  # fmt: skip

NUMBER = 0.1  # weight of each number of the code


class InfoGan(Logistic):
    """`classes` of the one code, and how many `numbers`, each weighed by 0.1; `infer` gives the word and what is read of both."""

    def __init__(
        self, shape: Sequence[int], *, design: Design | None = None, classes: int = 10, numbers: int = 2, learning_rate: float = 2e-4,
        weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        if classes < 2 or numbers < 0:
            raise UsageError(f"The code has at least two classes and no fewer than zero numbers; got {classes} and {numbers}.")
        codes = classes + numbers
        recipe = Recipe(told=codes, answers=1 + codes, norms=(True, True), spread=0.02)
        super().__init__(shape, design, recipe, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.classes, self.numbers = classes, numbers

    def told(self, label: Tensor, chance: Chance) -> Tensor:
        drawn = (chance.uniform((len(label), 1)) * self.classes).long().squeeze(1)
        picked = F.one_hot(torch.where(label < 0, drawn, label), self.classes)
        return torch.cat([picked, 2 * chance.uniform((len(label), self.numbers)) - 1], 1)

    def asked(self, number: int, label: int | None) -> Tensor:
        return wished(number, label, classes=self.classes, device=self.step.device)

    def unread(self, fake: Seen) -> Tensor:
        """How badly the code is read from the images, in nats up to a constant."""
        class_, number = fake.told[:, : self.classes], fake.told[:, self.classes :]
        logits, mean = fake.answers[:, 1 : 1 + self.classes], fake.answers[:, 1 + self.classes :]
        return F.cross_entropy(logits, class_) + NUMBER * (mean - number).square().sum(1).mean() / 2

    def judge(self, real: Seen, fake: Seen, chance: Chance) -> Losses:
        return {**super().judge(real, fake, chance), "code": self.unread(fake)}

    def persuade(self, real: Tensor, fake: Seen) -> Losses:
        return {**super().persuade(real, fake), "code": self.unread(fake)}
