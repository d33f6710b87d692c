"""Restricted Boltzmann machine: visible units and one layer of hidden ones, without connections inside either.

Smolensky 1986; Hinton 2002 (contrastive divergence), Tieleman 2008 (persistent), Desjardins et al. 2010 (parallel tempering); Gaussian
visibles with their own variances after Cho, Ilin & Raiko 2011. Ours is centred and learns by plain autograd: the gradient of
free_energy(data) - free_energy(dream) is that of the likelihood, estimated.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._chance import Chance
from vesalius.methods._contrast import contrast
from vesalius.methods._dream import Dream, dreamt
from vesalius.methods._machine import Machine, Undirected
from vesalius.methods._partition import Estimate, likelihood
from vesalius.methods._unlabelled import joint_mean, joint_sum, persistent

CARD = Card(
    entry="Rbm", title="Restricted Boltzmann machine", paper="Hinton 2002, Neural Computation 14; Tieleman 2008, ICML",
    tasks=("pretrain", "anomaly", "generate"),
    summary="Visible and hidden units that learn the distribution of images, with 0 / 1 or Gaussian pixels.",
    facts={"arguments": {"hidden": 24}},
)  # fmt: skip

Visible = Literal["bernoulli", "gaussian"]


class Rbm(Undirected):
    """`hidden` units over images of `shape` (C, *S): intensities in [0, 1] (bernoulli), or standardised ones (gaussian)."""

    halves = True  # products of 0 / 1 units in bf16: after as many steps the likelihood is the same
    batch = 256  # chains need not be as many as data; in equal time the likelihood is better than with batches of 100

    def __init__(
        self, shape: Sequence[int], *, hidden: int = 500, visible: Visible = "bernoulli", dream: Dream | None = None,
        centred: bool = True, learning_rate: float = 0.05, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if visible not in ("bernoulli", "gaussian"):
            raise UsageError(f"Visible units are bernoulli (intensities from 0 to 1) or gaussian (standardised); got {visible!r}.")
        generator = torch.Generator().manual_seed(seed)
        self.dream = dream or Dream()
        self.net = Machine((self.size, hidden), generator, gaussian=visible == "gaussian", centred=centred)
        self.register_buffer("kept", persistent(self.dream.rows, (hidden,), generator))

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        chance, data = self.chance(), self.visible(batch["image"])
        step = int(self.step)
        if not step:
            self.net.begin(joint_mean(data))
        if self.net.log_variance is None:
            losses, sums = contrast(self.net, data, dream=self.dream, kept=self.get_buffer("kept"), chance=chance)
        else:
            losses, sums = self._by_graph(data, chance)
        yield "net", losses
        self.net.follow(lambda: joint_sum(sums, len(data)).tensor_split([self.size]), step)
        self.step += 1

    def _by_graph(self, data: Tensor, chance: Chance) -> tuple[dict[str, Tensor], Tensor]:
        """Losses, and the sums of both layers over the data, where pixels are Gaussian: variances learn too."""
        pair = self.net.layers()
        drive, dream, after = self.dream.next(pair, data, kept=self.get_buffer("kept"), chance=chance)
        losses = {"data": pair.free_energy(data, drive).mean(), "dream": -pair.free_energy(dream, after).mean()}
        return losses, torch.cat([data, torch.sigmoid(drive.detach())], 1).sum(0)

    def infer(self, image: Tensor) -> Tensor:
        """Down and up once by expectations."""
        pair = self.machine()
        return self.as_image(pair.mean(0, pair.pull(0, {1: torch.sigmoid(pair.drive(self.units(image)))})))

    def features(self, image: Tensor) -> Tensor:
        """Probability of each hidden unit."""
        return torch.sigmoid(self.machine().drive(self.units(image)))

    def score(self, image: Tensor) -> Tensor:
        """Free energy: -log p(image) up to a constant."""
        return self.machine().free_energy(self.units(image))

    def likelihood(self, image: Tensor, *, temperatures: int = 1000, chains: int = 100, seed: int = 0) -> dict[str, Estimate]:
        """Mean log p(image) in nats: optimistic by AIS, conservative by RAISE, exact where there are few hidden units."""
        return likelihood(self.machine(), self.units(image), temperatures=temperatures, chains=chains, seed=seed)

    def samples(self, number: int, *, sweeps: int = 1000, seed: int = 0) -> Tensor:
        """`number` images (expectations of the last sweep) that the machine dreams, from chains that start at the pixels' means."""
        machine = self.machine()
        hidden = dreamt(machine, machine.start(number, Chance(seed, 0, self.step.device))[0], sweeps=sweeps, seed=seed)
        return self.as_image(machine.mean(0, machine.pull(0, {1: hidden})))

    def filters(self) -> Tensor:
        """(hidden, C, *S): the weights of each hidden unit as an image."""
        return self.as_image(self.machine().weights[0].T)
