"""A Boltzmann machine of layers and what methods that learn one share. Centred (Montavon & Mueller 2012, Melchior et al. 2016): units count
from their means.

Centring is a change of variables: the machine with offsets m is the plain one with biases a_l = b_l - W_l m_(l+1) - m_(l-1) W_(l-1).
So everything is computed in plain form, and autograd through a_l gives the gradient of the centred machine.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from vesalius.core.errors import UsageError
from vesalius.methods._layers import Layers
from vesalius.methods._unlabelled import Unlabelled, decayed, within_unit

EDGE = 0.01  # visible means are kept this far from 0 and 1 where their log odds are taken
FOLLOW, EVERY = 0.01, 10  # how fast offsets follow mean activities (Melchior et al. 2016, a step of each), and how often
MOMENTUM = 0.5
SPREAD = 0.01  # standard deviation of fresh weights (Hinton 2010, a practical guide)


class Machine(nn.Module):
    """`sizes[l]` units in layer l. `mask` (n_0, n_1) says which of the first weights there are; `gaussian` pixels learn variances."""

    mask: Tensor | None

    def __init__(
        self, sizes: Sequence[int], generator: torch.Generator, *, gaussian: bool = False, centred: bool = True, mask: Tensor | None = None
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise UsageError(f"A Boltzmann machine has visible and hidden layers of at least one unit; got {tuple(sizes)}.")
        self.centred = centred
        self.weights = nn.ParameterList(SPREAD * torch.randn(a, b, generator=generator) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(torch.zeros(n) for n in sizes)
        self.log_variance = nn.Parameter(torch.zeros(sizes[0])) if gaussian else None
        self.register_buffer("mask", mask)
        self.named = [f"offset{layer}" for layer in range(len(sizes))]
        for layer, n in enumerate(sizes):
            self.register_buffer(f"offset{layer}", torch.full((n,), 0.0 if gaussian and not layer else 0.5))

    @property
    def offsets(self) -> list[Tensor]:
        """Mean activity of each layer."""
        return [getattr(self, name) for name in self.named]

    def layers(self) -> Layers:
        """The plain machine as functions of the parameters; `base` is what the visible means say alone."""
        with torch.autocast(self.biases[0].device.type, enabled=False):
            return self.plain(self.base())

    def plain(self, base: Tensor | None) -> Layers:
        """`layers` where nothing is cast."""
        weights, variance = self._plain()
        biases: list[Tensor] = [*self.biases]
        if self.centred:
            biases = _shifted(biases, weights, variance, offsets=self.offsets, sign=-1)
        return Layers(tuple(biases), tuple(weights), variance, base)

    def _plain(self) -> tuple[list[Tensor], Tensor | None]:
        """Weights that there are, and the variance."""
        weights: list[Tensor] = [*self.weights]
        if self.mask is not None:
            weights[0] = weights[0] * self.mask
        return weights, None if self.log_variance is None else self.log_variance.exp()

    def base(self) -> Tensor:
        """Biases of visibles that are independent and have the means of the data."""
        mean = self.offsets[0]
        return mean if self.log_variance is not None else torch.logit(mean.clamp(EDGE, 1 - EDGE))

    @torch.no_grad()
    def begin(self, mean: Tensor) -> None:
        """Visible biases and offsets from the mean of the data (n_0,): what is known before learning need not be learned."""
        self.offsets[0].copy_(mean)
        self.biases[0].copy_(self.base())

    def follow(self, means: Callable[[], Sequence[Tensor]], step: int) -> None:
        """Offsets follow mean activities, at every `EVERY`-th step only: each time costs a pass through all weights."""
        if step % EVERY == 0:
            self.recentre(means(), 1 - (1 - FOLLOW) ** EVERY)

    @torch.no_grad()
    def recentre(self, means: Sequence[Tensor], rate: float) -> None:
        """Offsets a step of `rate` nearer to the mean activities `means`; the biases follow, so that the machine stays what it is."""
        with torch.autocast(self.biases[0].device.type, enabled=False):
            moves = [rate * (mean.float() - offset) for mean, offset in zip(means, self.offsets, strict=True)]
            for offset, move in zip(self.offsets, moves, strict=True):
                offset += move
            if self.centred:
                for bias, moved in zip(self.biases, _shifted([*self.biases], *self._plain(), offsets=moves, sign=1), strict=True):
                    bias.copy_(moved)


class Undirected(Unlabelled):
    """What methods that learn one machine share; `net` is the machine."""

    net: Machine

    def optimisers(self) -> dict[str, Optimizer]:
        """Stochastic gradient descent with momentum; weights are decayed, biases are not."""
        return {"net": SGD(decayed(self.net, self.weight_decay), lr=self.learning_rate, momentum=MOMENTUM, fused=True)}

    def visible(self, image: Tensor) -> Tensor:
        """(B, n) of `image`; refused where it holds what the visible units cannot."""
        units = self.units(image)
        return units if self.net.log_variance is not None else within_unit(units)

    def machine(self) -> Layers:
        """The plain machine, for what is asked of it outside learning."""
        return self.net.layers().detached()


def _shifted(
    biases: Sequence[Tensor], weights: Sequence[Tensor], variance: Tensor | None, *, offsets: Sequence[Tensor], sign: int
) -> list[Tensor]:
    """Biases with (`sign` 1) or without (-1) what offsets do to them through the weights."""
    made = [*biases]
    for layer, weight in enumerate(weights):
        below = offsets[0] / variance if layer == 0 and variance is not None else offsets[layer]
        made[layer] = torch.addmv(made[layer], weight, offsets[layer + 1], alpha=sign)
        made[layer + 1] = torch.addmv(made[layer + 1], weight.T, below, alpha=sign)
    return made
