"""Discriminative restricted Boltzmann machine: the class is a visible unit too, so one machine classifies, dreams, and learns from
images without a label.

Larochelle & Bengio 2008 (ICML): p(y | x) is exact, from the free energies of x with each class. The loss is -log p(y | x) plus
`generative` times the likelihood of the pair; for an image without a label (-1, or a batch without labels) that of the image alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from vesalius.core.card import Card
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.data.batch import Batch
from vesalius.methods._chance import Chance
from vesalius.methods._dream import Dream
from vesalius.methods._layers import Beta, Layers
from vesalius.methods._machine import SPREAD, Machine
from vesalius.methods._unlabelled import Unlabelled, decayed, joint_mean, persistent, within_unit

CARD = Card(
    entry="DiscriminativeRbm", title="Discriminative RBM", paper="Larochelle & Bengio 2008, ICML", tasks=("pretrain",),
    summary="A Boltzmann machine of images and their classes, which learns from labelled and unlabelled images together.",
    facts={"arguments": {"classes": 2, "hidden": 24}},
)  # fmt: skip

MOMENTUM = 0.5


@dataclass(frozen=True)
class Labelled:
    """A dense machine of images at one instant, with class biases (Y,) and class weights (Y, hidden)."""

    image: Layers
    bias: Tensor
    weight: Tensor

    def by_class(self, visible: Tensor) -> Tensor:
        """-free energy of `visible` with each class: (B, Y)."""
        drive = self.image.drive(visible)
        own = (visible * self.image.biases[0]).sum(1, keepdim=True)
        return own + self.bias + F.softplus(drive[:, None] + self.weight).sum(2)

    def drive(self, both: Tensor) -> Tensor:
        """What drives the hiddens; `both` are visibles with one column per class beside."""
        visible, label = self.parted(both)
        return self.image.drive(visible) + label @ self.weight

    def free_energy(self, both: Tensor, drive: Tensor | None = None, beta: Beta = 1.0) -> Tensor:
        """Of image and class together: (B,)."""
        visible, label = self.parted(both)
        drive = self.drive(both) if drive is None else drive
        scale = beta.flatten() if isinstance(beta, Tensor) else beta
        return -(visible * self.image.visible_bias(beta)).sum(1) - label @ self.bias * scale - F.softplus(drive * beta).sum(1)

    def hiddens(self, drive: Tensor, chance: Chance, *, beta: Beta = 1.0, shared: bool = False) -> Tensor:
        """Hiddens given what drives them."""
        return self.image.hiddens(drive, chance, beta=beta, shared=shared)

    def visibles(self, hidden: Tensor, chance: Chance, *, beta: Beta = 1.0, shared: bool = False) -> Tensor:
        """Image and one class given the hiddens."""
        visible = self.image.visibles(hidden, chance, beta=beta, shared=shared)
        chances = torch.softmax((hidden @ self.weight.T + self.bias) * beta, 1).cumsum(1)
        lot = chance.uniform((len(hidden), 1), shared=shared)
        picked = (lot >= chances[:, :-1]).sum(1)
        return torch.cat([visible, F.one_hot(picked, len(self.bias)).to(visible.dtype)], 1)

    def parted(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Visibles, and the columns of the class."""
        return both[:, : -len(self.bias)], both[:, -len(self.bias) :]


class Weights(nn.Module):
    """Parameters: the machine of images, and biases (Y,) and weights (Y, hidden) of the classes."""

    def __init__(self, image: Machine, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.image = image
        self.bias = nn.Parameter(torch.zeros(classes))
        self.weight = nn.Parameter(SPREAD * torch.randn(classes, len(image.biases[1]), generator=generator))


class DiscriminativeRbm(Unlabelled):
    """`classes` over images in [0, 1]; labels are `batch["label"]` (B,), -1 where unknown."""

    def __init__(
        self, shape: Sequence[int], *, classes: int, hidden: int = 500, generative: float = 0.01, dream: Dream | None = None,
        learning_rate: float = 0.05, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if classes < 2:
            raise UsageError(f"There must be at least two classes to tell apart; got {classes}.")
        generator = torch.Generator().manual_seed(seed)
        self.generative, self.dream = generative, dream or Dream()
        self.net = Weights(Machine((self.size, hidden), generator), classes, generator)
        self.register_buffer("kept", persistent(self.dream.rows, (hidden,), generator))

    def optimisers(self) -> dict[str, Optimizer]:
        """Stochastic gradient descent with momentum; weights are decayed."""
        return {"net": SGD(decayed(self.net, self.weight_decay), lr=self.learning_rate, momentum=MOMENTUM, fused=True)}

    def machine(self) -> Labelled:
        """The plain machine at this instant."""
        return Labelled(self.net.image.layers(), self.net.bias, self.net.weight)

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        chance, data = self.chance(), within_unit(self.units(batch["image"]))
        if not self.step:
            self.net.image.begin(joint_mean(data))
        machine = self.machine()
        logits = machine.by_class(data)
        label = self.labels(batch, logits)
        known = label >= 0
        one = F.one_hot(torch.where(known, label, _picked(logits, chance)), logits.shape[1]).to(data.dtype)
        both = torch.cat([data, one], 1)
        drive, dream, after = self.dream.next(machine, both, kept=self.get_buffer("kept"), chance=chance)
        pair = torch.where(known, logits.gather(1, label.clamp(min=0)[:, None])[:, 0], torch.logsumexp(logits, 1))
        share = torch.where(known, self.generative, 1.0)
        told = F.cross_entropy(logits, label, ignore_index=-1, reduction="sum") / len(label)
        weight = joint_mean(share[:, None]).squeeze()
        yield "net", {"class": told, "data": -(share * pair).mean(), "dream": -weight * machine.free_energy(dream, after).mean()}
        self.net.image.follow(lambda: [joint_mean(data), joint_mean(torch.sigmoid(drive.detach()))], int(self.step))
        self.step += 1

    @staticmethod
    def labels(batch: Batch, logits: Tensor) -> Tensor:
        """Labels of `batch`, -1 where it has none; refused where there is no such class."""
        if "label" not in batch.tensors:
            return torch.full((len(logits),), -1, device=logits.device)
        label = batch["label"].long().flatten()
        if int(label.max()) >= logits.shape[1] or int(label.min()) < -1:
            raise VesaliusError(f"Labels must be 0 to {logits.shape[1] - 1}, or -1 for unknown; got {int(label.min())} to "
                                f"{int(label.max())}. Make the method with as many classes as there are.")  # fmt: skip
        return label

    @torch.no_grad()
    def classify(self, image: Tensor) -> Tensor:
        """log p(class | image) up to a constant per image: (B, classes), exact."""
        return self.machine().by_class(self.units(image))

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """Up and down once by expectations, with the class that the machine expects."""
        machine, units = self.machine(), self.units(image)
        hidden = torch.sigmoid(self._drive(machine, units))
        return self.as_image(machine.image.mean(0, machine.image.pull(0, {1: hidden})))

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """Probability of each hidden unit, with the class that the machine expects."""
        return torch.sigmoid(self._drive(self.machine(), self.units(image)))

    @torch.no_grad()
    def score(self, image: Tensor) -> Tensor:
        """Free energy of the image, whatever its class."""
        return -torch.logsumexp(self.machine().by_class(self.units(image)), 1)

    @staticmethod
    def _drive(machine: Labelled, units: Tensor) -> Tensor:
        return machine.drive(torch.cat([units, torch.softmax(machine.by_class(units), 1)], 1))


@torch.no_grad()
def _picked(logits: Tensor, chance: Chance) -> Tensor:
    """A class drawn from softmax of `logits` (B, Y)."""
    lot = chance.uniform((len(logits), 1))
    return (lot >= torch.softmax(logits, 1).cumsum(1)[:, :-1]).sum(1)
