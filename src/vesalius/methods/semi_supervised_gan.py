"""Semi-supervised GAN: a classifier of K classes that learns from made images too, as the class K + 1.

Salimans et al. 2016 (NeurIPS), section 5: the logit of "made" is 0, so that D(x) = Z / (Z + 1) with Z the sum of exp of the logits; the
generator matches the mean features of real images. What is wanted is the classifier: few labels, many images.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.data.batch import Batch
from vesalius.methods._adversarial import Logistic, Losses, Seen, at_least_two, class_labels
from vesalius.methods._adversaries import Design, Recipe
from vesalius.methods._chance import Chance
from vesalius.methods._unlabelled import joint_mean

CARD = Card(
    entry="SemiSupervisedGan", title="Semi-supervised GAN", paper="Salimans et al. 2016, NeurIPS", tasks=("synthesise",),
    summary="A classifier that learns from unlabelled images by telling them from made ones.",
    facts={"arguments": {"classes": 2}},
)  # fmt: skip

class SemiSupervisedGan(Logistic):
    """Labels are `batch["label"]` (B,), -1 where unknown; `infer` gives the logits of the `classes`."""

    told_classes = False  # the critic reads them; no image of a class can be asked for

    def __init__(
        self, shape: Sequence[int], *, classes: int, design: Design | None = None, learning_rate: float = 3e-4,
        weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        recipe = Recipe(answers=at_least_two(classes))
        super().__init__(shape, design, recipe, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.classes = classes

    def labels(self, batch: Batch) -> Tensor:
        return class_labels(batch, self.classes, unknown=True)

    def judged(self, answers: Tensor, told: Tensor) -> Tensor:
        """log Z, the logit of being real, before the logits of the classes."""
        return torch.cat([answers.logsumexp(1, keepdim=True), answers], 1)

    def judge(self, real: Seen, fake: Seen, chance: Chance) -> Losses:
        named = F.cross_entropy(real.answers[:, 1:], real.label, ignore_index=-1, reduction="sum") / len(real.label)
        return {**super().judge(real, fake, chance), "class": named}

    def persuade(self, real: Tensor, fake: Seen) -> Losses:
        with torch.no_grad():
            wanted = joint_mean(self.looked(real, fake.told, fake.label).features)
        own = fake.features.mean(0)
        found = joint_mean(fake.features.detach()) + own - own.detach()  # every process's mean, with this one's gradient
        return {"features": (found - wanted).square().sum()}

    def score(self, image: Tensor) -> Tensor:
        return -self.infer(image).logsumexp(1)
