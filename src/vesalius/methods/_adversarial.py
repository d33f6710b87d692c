"""What every adversarial method shares: a generator and a critic in turns, noise, the views of the critic, samples.

In each step the critic learns from a batch and as many images made of noise; then, every `critic_turns` steps, the generator learns from
the critic's word on the same images, the critic's weights held still. `infer` is the critic's answer, `features` what it judges by.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.data.batch import Batch
from vesalius.methods._adversaries import Adversaries, Design, Recipe, bounded
from vesalius.methods._chance import Chance
from vesalius.methods._unlabelled import Unlabelled, decayed, joint_mean

Losses = dict[str, Tensor]
TINY = 1e-12


@dataclass(frozen=True)
class Seen:
    """Images as the critic was shown them, its features and answers, and what the generator was told: (B, ...) each.

    `label` is -1 where unknown, and for images that were made without one."""

    image: Tensor
    features: Tensor
    answers: Tensor
    told: Tensor
    label: Tensor

    @property
    def word(self) -> Tensor:
        """How real, (B,): the first answer."""
        return self.answers[:, 0]


class Adversarial(Unlabelled):
    """Built as `METHODS[name](shape, design=Design(...), learning_rate=..., weight_decay=..., seed=...)`."""

    critic_turns: ClassVar[int] = 1
    betas: ClassVar[tuple[float, float]] = (0.5, 0.999)
    boundary: ClassVar[float | None] = 0.0  # between the words on real and made images; None where the loss knows none
    slopes: ClassVar[bool] = False  # whether the critic's gradient at training images is asked for
    probability: Tensor

    def __init__(
        self, shape: Sequence[int], design: Design | None, recipe: Recipe, *, learning_rate: float, weight_decay: float, seed: int
    ) -> None:
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.design = design = design or Design()
        if design.views and design.views.target is not None and self.boundary is None:
            raise UsageError("This critic's word has no zero between real and made, so the probability of augmentation cannot follow it. "
                             "Fix it: Views(probability=0.2, target=None).")  # fmt: skip
        self.net = Adversaries(self.shape, design, recipe, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("probability", torch.tensor(design.views.probability if design.views else 0.0))

    # -- learning ----------------------------------------------------------------------------------------------------------

    @abstractmethod
    def judge(self, real: Seen, fake: Seen, chance: Chance) -> Losses:
        """What the critic loses."""

    @abstractmethod
    def persuade(self, real: Tensor, fake: Seen) -> Losses:
        """What the generator loses; `real` are the training images as the critic was shown them."""

    def optimisers(self) -> dict[str, Optimizer]:
        """One for each network."""
        return {"critic": self.teacher(self.net.critic), "generator": self.teacher(self.net.generator)}

    def teacher(self, net: nn.Module) -> Optimizer:
        """AdamW with little or no memory of gradients, since the other network moves."""
        return AdamW(decayed(net, self.weight_decay), lr=self.learning_rate, betas=self.betas)

    def steps(self, batch: Batch) -> Iterator[tuple[str, Losses]]:
        image, label, chance = self.within(self.checked(batch["image"])), self.labels(batch), self.chance()
        told, turn = self.told(label, chance), (int(self.step) + 1) % self.critic_turns == 0
        with torch.set_grad_enabled(turn):
            made = self.net.generator(torch.cat([chance.normal((len(image), self.design.latent)), told], 1))
        shown = self.shown(image, chance)
        real = self.looked(shown.detach().requires_grad_() if self.slopes else shown, told, label)
        fake = self.looked(self.shown(made.detach(), chance), told, label)
        yield "critic", self.judge(real, fake, chance)
        self.learned(real)
        if turn:
            yield "generator", self.persuade(shown, self.looked(self.shown(made, chance), told, label, held=True))
        self.step += 1

    def learned(self, real: Seen) -> None:
        """After the critic's step: the probability of augmentation follows how sure it was of the training images."""
        if self.design.views and self.boundary is not None:
            sign, world = joint_mean(torch.sign(real.word.detach() - self.boundary)), dist.get_world_size() if dist.is_initialized() else 1
            self.probability.copy_(self.design.views.next(self.probability, sign, len(real.image) * world))

    def looked(self, image: Tensor, told: Tensor, label: Tensor, *, held: bool = False) -> Seen:
        """What the critic makes of `image`; `held` keeps its weights out of the gradient."""
        weights = {name: value.detach() for name, value in self.net.critic.named_parameters()} if held else {}
        features, answers = functional_call(self.net.critic, weights, (image,))
        return Seen(image, features, self.judged(answers, told), told, label)

    def judged(self, answers: Tensor, told: Tensor) -> Tensor:
        """The critic's answers with the word on real or made first: as they are."""
        return answers

    def word(self, image: Tensor, told: Tensor) -> Tensor:
        """How real each image is, (B,)."""
        label = torch.full((len(image),), -1, device=image.device)
        return self.looked(image, told, label).word

    def shown(self, image: Tensor, chance: Chance) -> Tensor:
        """`image` through the views, if there are any."""
        if self.design.views is None:
            return image
        return self.design.views.shown(image, self.probability, chance, bounds=self.design.bounds or (-1.0, 1.0))

    # -- what the generator is told ------------------------------------------------------------------------------------------

    def labels(self, batch: Batch) -> Tensor:
        """(B,), -1 where unknown: methods with classes look at `batch["label"]`."""
        return torch.full((len(batch["image"]),), -1, device=batch["image"].device)

    def told(self, label: Tensor, chance: Chance) -> Tensor:
        """Numbers (B, told) beside the noise: here none."""
        return torch.zeros(len(label), 0, device=label.device)

    # -- answering -----------------------------------------------------------------------------------------------------------

    def within(self, image: Tensor) -> Tensor:
        """`image` as it is, in float32; refused where intensities lie outside the bounds that the generator can reach."""
        return bounded(image, self.design.bounds)

    @torch.no_grad()
    def samples(self, number: int, *, seed: int = 0, label: int | None = None) -> Tensor:
        """`number` made images; of class `label` where the method knows classes (None: classes in turn)."""
        chance, was = Chance(seed, 0, self.step.device), self.training
        labels = self.asked(number, label)
        code = torch.cat([chance.normal((number, self.design.latent)), self.told(labels, chance)], 1)
        self.eval()
        made = [self.net.generator(part) for part in torch.split(code, 256)]
        self.train(was)
        return torch.cat(made) if made else torch.zeros(0, *self.shape)

    @torch.no_grad()
    def between(self, number: int, steps: int, *, seed: int = 0) -> Tensor:
        """(number, steps, C, *S): from one made image to another of its class, turning the noise from one to the other in even steps."""
        chance, was = Chance(seed, 1, self.step.device), self.training
        ends, told = chance.normal((2, number, self.design.latent)), self.told(self.asked(number, None), chance)
        angle = torch.linspace(0, 1, steps, device=ends.device)[None, :, None] * torch.pi / 2
        code = torch.cos(angle) * ends[0, :, None] + torch.sin(angle) * ends[1, :, None]
        self.eval()
        made: Tensor = self.net.generator(torch.cat([code, told[:, None].expand(-1, steps, -1)], 2).flatten(0, 1))
        self.train(was)
        return made.reshape(number, steps, *self.shape)

    def asked(self, number: int, label: int | None) -> Tensor:
        """Labels of samples; here there are none."""
        if label is not None:
            raise UsageError(f"This method knows no classes, so no sample of class {label} can be asked for. "
                             "Use conditional_gan or ac_gan.")  # fmt: skip
        return torch.full((number,), -1, device=self.step.device)

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """The critic's answers, (B, answers)."""
        answers: Tensor = self.net.critic(self.checked(image).float())[1]
        return answers

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        features: Tensor = self.net.critic(self.checked(image).float())[0]
        return features

    def score(self, image: Tensor) -> Tensor:
        """How little real it looks to the critic."""
        return -self.infer(image)[:, 0]


class Logistic(Adversarial):
    """The critic is a classifier of real and made; the generator climbs the logarithm of being taken for real (Goodfellow et al. 2014)."""

    def judge(self, real: Seen, fake: Seen, chance: Chance) -> Losses:
        return {"real": F.softplus(-real.word).mean(), "made": F.softplus(fake.word).mean()}

    def persuade(self, real: Tensor, fake: Seen) -> Losses:
        return {"taken": F.softplus(-fake.word).mean()}


class Wasserstein(Adversarial):
    """The difference of the critic's means is the distance of the two distributions, if its slope is at most 1 (Arjovsky et al. 2017)."""

    critic_turns = 5
    boundary = None

    def judge(self, real: Seen, fake: Seen, chance: Chance) -> Losses:
        return {"distance": fake.word.mean() - real.word.mean()}

    def persuade(self, real: Tensor, fake: Seen) -> Losses:
        return {"taken": -fake.word.mean()}


class Classed(Logistic):
    """A generator that is told the class of each image; `classes` is set by who learns so."""

    classes: int

    def labels(self, batch: Batch) -> Tensor:
        return class_labels(batch, self.classes)

    def told(self, label: Tensor, chance: Chance) -> Tensor:
        return F.one_hot(label, self.classes).float()

    def asked(self, number: int, label: int | None) -> Tensor:
        return wished(number, label, classes=self.classes, device=self.step.device)


def squared_slope(word: Tensor, image: Tensor) -> Tensor:
    """Squared norm of the gradient of `word` (B,) with respect to its `image`, (B,), itself with a gradient."""
    (gradient,) = torch.autograd.grad(word.sum(), image, create_graph=True)
    return gradient.float().flatten(1).square().sum(1)


def away_from_one(squared: Tensor) -> Tensor:
    """Mean of (slope - 1)^2 (Gulrajani et al. 2017)."""
    return ((squared + TINY).sqrt() - 1).square().mean()


def class_labels(batch: Batch, classes: int, *, unknown: bool = False) -> Tensor:
    """Labels (B,) of `batch`; refused where there are none, or no such class; -1 (`unknown`) only where that may be."""
    if "label" not in batch.tensors:
        raise VesaliusError("This method learns from images with classes, and the batch has no \"label\". Use r1_gan for images alone.")
    label = batch["label"].long().flatten()
    least = -1 if unknown else 0
    if int(label.max()) >= classes or int(label.min()) < least:
        raise VesaliusError(f"Labels must be {least} to {classes - 1}; got {int(label.min())} to {int(label.max())}. "
                            "Make the method with as many classes as there are.")  # fmt: skip
    return label


def at_least_two(classes: int) -> int:
    """`classes` as they are; refused where there is nothing to tell apart."""
    if classes < 2:
        raise UsageError(f"There must be at least two classes to tell apart; got {classes}.")
    return classes


def wished(number: int, label: int | None, *, classes: int, device: torch.device) -> Tensor:
    """Labels of `number` samples: all `label`, or every class in turn."""
    if label is not None and not 0 <= label < classes:
        raise UsageError(f"Classes are 0 to {classes - 1}; got {label}.")
    return torch.arange(number, device=device) % classes if label is None else torch.full((number,), label, device=device)
