"""Convolutional restricted Boltzmann machine: each hidden map looks at every place of the image with the same small filter.

Lee, Grosse, Ranganath & Ng 2009 (ICML), Desjardins & Bengio 2008. Ours has 0 / 1 or Gaussian (unit variance) pixels, "same" padding, no
probabilistic pooling, and is centred: it is the RBM whose weight matrix the filters spell out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import pi, prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._chance import Chance
from vesalius.methods._dream import Dream, dreamt
from vesalius.methods._layers import Beta
from vesalius.methods._unlabelled import Unlabelled, decayed, joint_mean, persistent, within_unit

CARD = Card(
    entry="ConvolutionalRbm", title="Convolutional RBM", paper="Lee et al. 2009, ICML", tasks=("pretrain", "anomaly", "generate"),
    summary="A Boltzmann machine whose hidden maps share small filters over the whole image.",
    facts={"arguments": {"maps": 6, "kernel": 5}},
)  # fmt: skip

ACROSS = {2: F.conv2d, 3: F.conv3d}
POOL: dict[int, Any] = {2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
MOMENTUM = 0.5
Visible = Literal["bernoulli", "gaussian"]


@dataclass(frozen=True)
class Maps:
    """Visible bias (C, 1...), hidden bias (K, 1...) and filters (K, C, *kernel) at one instant; `base` as in `Layers`."""

    visible_bias: Tensor
    hidden_bias: Tensor
    filters: Tensor
    base: Tensor
    gaussian: bool = False

    @property
    def padding(self) -> list[int]:
        """Half a filter, so that maps have the sides of the image."""
        return [side // 2 for side in self.filters.shape[2:]]

    def drive(self, visible: Tensor) -> Tensor:
        """(B, K, *S)."""
        return ACROSS[self.filters.ndim - 2](visible, self.filters, padding=self.padding).float() + self.hidden_bias

    def pull(self, hidden: Tensor) -> Tensor:
        """What the maps add to the visibles, the adjoint of `drive`: (B, C, *S). The offsets of a filter along the first axis are so many
        channels of one convolution along the others, which are then moved to their places: a transposed convolution to one channel
        leaves most of a processor's width idle."""
        length, channels, n = self.filters.shape[2], self.filters.shape[1], self.filters.ndim - 2
        turned = self.filters.flip(tuple(range(3, 2 + n))).movedim((2, 1), (0, 1)).flatten(0, 1).unsqueeze(2)
        parts = ACROSS[n](hidden, turned, padding=[0, *self.padding[1:]]).float()
        return moved(parts.reshape(len(parts), length, channels, *parts.shape[2:]), length)

    def bias(self, beta: Beta) -> Tensor:
        """Of the visibles, from `base` at beta 0."""
        return self.base * (1 - beta) + self.visible_bias * beta

    def free_energy(self, visible: Tensor, drive: Tensor | None = None, beta: Beta = 1.0) -> Tensor:
        """-log of the unnormalised probability of `visible`: (B,)."""
        drive = self.drive(visible) if drive is None else drive
        hidden = F.softplus(drive * beta).flatten(1).sum(1)
        if not self.gaussian:
            return -(visible * self.bias(beta)).flatten(1).sum(1) - hidden
        return (visible - self.bias(beta)).square().flatten(1).sum(1) / 2 - hidden

    def hiddens(self, drive: Tensor, chance: Chance, *, beta: Beta = 1.0, shared: bool = False) -> Tensor:
        """Maps given what drives them: the draws of `chance.bits`, into memory that is there already."""
        probability = (drive * beta).sigmoid_()
        return torch.lt(chance.uniform(probability.shape, shared=shared), probability, out=probability)

    def mean(self, hidden: Tensor, beta: Beta = 1.0) -> Tensor:
        """Expected visibles."""
        middle = self.bias(beta) + self.pull(hidden) * beta
        return middle if self.gaussian else torch.sigmoid(middle)

    def visibles(self, hidden: Tensor, chance: Chance, *, beta: Beta = 1.0, shared: bool = False) -> Tensor:
        """Visibles given the maps."""
        mean = self.mean(hidden, beta)
        return mean + chance.normal(mean.shape, shared=shared) if self.gaussian else chance.bits(mean, shared=shared)

    def log_start(self, sides: Sequence[int]) -> Tensor:
        """log of the partition function at beta 0 for images of `sides`."""
        places, maps = prod(sides), len(self.hidden_bias)
        own = F.softplus(self.base) if not self.gaussian else torch.full_like(self.base, 0.5).mul(torch.log(torch.tensor(2 * pi)))
        return places * (own.sum() + maps * torch.log(torch.tensor(2.0)))


def moved(parts: Tensor, length: int) -> Tensor:
    """(B, C, *S): sum of `parts` (B, length, C, *S), part d moved by d - length // 2 along the first axis; what leaves is lost."""
    side, total = parts.shape[3], parts[:, length // 2].clone()
    for number in range(length):
        step = number - length // 2
        if step and (left := side - abs(step)) > 0:
            total.narrow(2, max(step, 0), left).add_(parts[:, number].narrow(2, max(-step, 0), left))
    return total


class Filters(nn.Module):
    """Parameters of the machine, counted from the mean of each channel and map."""

    mean: Tensor
    activity: Tensor

    def __init__(self, shape: Sequence[int], maps: int, kernel: int, *, generator: torch.Generator, gaussian: bool) -> None:
        super().__init__()
        channels, ones = shape[0], (1,) * (len(shape) - 1)
        self.gaussian = gaussian
        self.filters = nn.Parameter(0.01 * torch.randn(maps, channels, *(kernel,) * len(ones), generator=generator))
        self.visible_bias = nn.Parameter(torch.zeros(channels))
        self.hidden_bias = nn.Parameter(torch.zeros(maps))
        self.register_buffer("mean", torch.full((channels, *ones), 0.0 if gaussian else 0.5))
        self.register_buffer("activity", torch.full((maps, *ones), 0.5))

    def maps(self) -> Maps:
        """The plain machine: biases less what the means do through the whole filters. (At the border, where filters stand over the
        edge, this is a choice of where to count from, no approximation.)"""
        ones = (1,) * (self.filters.ndim - 2)
        with torch.autocast(self.filters.device.type, enabled=False):
            whole = self.filters.flatten(2).sum(2)
            visible = self.visible_bias - whole.T @ self.activity.flatten()
            hidden = self.hidden_bias - whole @ self.mean.flatten()
        return Maps(visible.reshape(-1, *ones), hidden.reshape(-1, *ones), self.filters, self.base(), self.gaussian)

    def base(self) -> Tensor:
        """Visible biases that say the means of the data alone."""
        return self.mean if self.gaussian else torch.logit(self.mean.clamp(0.01, 0.99))

    @torch.no_grad()
    def begin(self, mean: Tensor) -> None:
        """Start at the channel means of the data."""
        self.mean.copy_(mean.reshape(self.mean.shape))
        self.visible_bias.copy_(self.base().flatten())


class ConvolutionalRbm(Unlabelled):
    """`maps` hidden maps with filters of `kernel` (odd) to each side, over images in [0, 1] (bernoulli) or standardised ones (gaussian)."""

    def __init__(
        self, shape: Sequence[int], *, maps: int = 32, kernel: int = 7, visible: Visible = "bernoulli", dream: Dream | None = None,
        learning_rate: float = 0.001, weight_decay: float = 1e-3, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if maps < 1 or kernel % 2 == 0 or kernel < 1:
            raise UsageError(f"A convolutional RBM has at least one map and an odd kernel; got {maps} maps and a kernel of {kernel}.")
        if visible not in ("bernoulli", "gaussian"):
            raise UsageError(f"Visible units are bernoulli (intensities from 0 to 1) or gaussian (standardised); got {visible!r}.")
        generator = torch.Generator().manual_seed(seed)
        self.dream = dream or Dream(chains=16)
        self.net = Filters(self.shape, maps, kernel, generator=generator, gaussian=visible == "gaussian")
        self.register_buffer("kept", persistent(self.dream.rows, (maps, *self.shape[1:]), generator))

    def optimisers(self) -> dict[str, Optimizer]:
        """Stochastic gradient descent with momentum; filters are decayed."""
        return {"net": SGD(decayed(self.net, self.weight_decay), lr=self.learning_rate, momentum=MOMENTUM, fused=True)}

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Free energies per place, so that rates do not depend on the size of the image."""
        chance, data = self.chance(), self.visible(batch["image"])
        if not self.step:
            self.net.begin(joint_mean(data.flatten(2).mean(2)))
        pair, places = self.net.maps(), prod(self.shape[1:]) ** 0.5
        drive, dream, after = self.dream.next(pair, data, kept=self.get_buffer("kept"), chance=chance)
        yield "net", {"data": pair.free_energy(data, drive).mean() / places, "dream": -pair.free_energy(dream, after).mean() / places}
        self.step += 1

    def visible(self, image: Tensor) -> Tensor:
        """`image` as float; refused where it holds what the visible units cannot."""
        units = self.checked(image).float()
        return units if self.net.gaussian else within_unit(units)

    def machine(self) -> Maps:
        """The plain machine at this instant."""
        return self.net.maps()

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """Up and down once by expectations."""
        pair = self.machine()
        return pair.mean(torch.sigmoid(pair.drive(self.checked(image).float())))

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """Probabilities of the maps, averaged over blocks that leave at most four to each side."""
        maps = torch.sigmoid(self.machine().drive(self.checked(image).float()))
        pooled: Tensor = POOL[maps.ndim - 2](maps, [min(4, side) for side in maps.shape[2:]])
        return pooled.flatten(1)

    @torch.no_grad()
    def score(self, image: Tensor) -> Tensor:
        """Free energy: -log p(image) up to a constant."""
        return self.machine().free_energy(self.checked(image).float())

    def samples(self, number: int, *, sweeps: int = 1000, seed: int = 0) -> Tensor:
        """`number` dreamt images, expectations of the last sweep."""
        pair, like = self.machine(), self.step.new_zeros((number, *self.shape), dtype=torch.float32)
        with torch.no_grad():
            hidden = self.step.new_zeros((number, len(pair.hidden_bias), *self.shape[1:]), dtype=torch.float32)
            start = pair.visibles(hidden, Chance(seed, 0, like.device), beta=0.0)
            return pair.mean(dreamt(pair, start, sweeps=sweeps, seed=seed))
