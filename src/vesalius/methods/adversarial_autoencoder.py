"""Adversarial autoencoder: a critic that knows the prior keeps the codes to it.

Makhzani et al. 2016 (ICLR workshop): each step the coder learns the images, the critic learns to tell codes from draws of N(0, 1), and the
encoder learns to be taken for the prior.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._chance import Chance
from vesalius.methods._coded import Coded, Holder, missed
from vesalius.methods._coder import Coder, Kind, fresh, plain_linear

CARD = Card(
    entry="AdversarialAutoencoder", title="Adversarial autoencoder", paper="Makhzani et al. 2016, ICLR workshop",
    tasks=("pretrain", "anomaly", "generate"),
    summary="Codes that a critic cannot tell from draws of a normal distribution.",
    facts={"arguments": {"code": 6, "widths": (8, 8)}},
)  # fmt: skip

CRITIC = 128  # units of its two hidden layers


class AdversarialAutoencoder(Coded):
    """`weight` of being taken for the prior beside the squared error."""

    halves = False  # two networks against each other were checked in fp32

    def __init__(
        self, shape: Sequence[int], *, kind: Kind = "convolutional", code: int = 32, widths: Sequence[int] = (), weight: float = 0.01,
        learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if weight <= 0:
            raise UsageError(f"The weight of the critic's word must be above 0; got {weight}. Use autoencoder for none.")
        self.weight = weight
        generator = torch.Generator().manual_seed(seed)
        self.net = Holder(Coder(self.shape, code, generator, kind=kind, widths=widths))
        sizes = (code, CRITIC, CRITIC)
        layers = [layer for a, b in pairwise(sizes) for layer in (plain_linear(a, b), nn.LeakyReLU(0.2))]
        self.critic = fresh(nn.Sequential(*layers, plain_linear(CRITIC, 1)), generator)

    def optimisers(self) -> dict[str, Optimizer]:
        """One for the coder, one for the critic."""
        return {"net": self.teacher(self.net), "critic": self.teacher(self.critic)}

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image, chance = self.checked(batch["image"]), self.chance()
        yield "net", {"reconstruction": missed(image, self.coder.decode(self.coder.encode(image)))}
        code = self.coder.encode(image).detach().float()
        prior = chance.normal(code.shape)
        yield "critic", {"prior": judged(self.critic(prior), 1.0) / 2, "codes": judged(self.critic(code), 0.0) / 2}
        yield "net", {"taken": self.weight * judged(self.critic(self.coder.encode(image)), 1.0)}
        self.step += 1

    def code(self, image: Tensor) -> Tensor:
        return self.coder.encode(image)

    @torch.no_grad()
    def samples(self, number: int, *, seed: int = 0) -> Tensor:
        """`number` images decoded from draws of the prior."""
        return self.coder.decode(Chance(seed, 0, self.step.device).normal((number, self.coder.size)))


def judged(logits: Tensor, truth: float) -> Tensor:
    """Mean cross-entropy of the critic's logits where all are `truth`."""
    return F.binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, truth, dtype=torch.float32))
