"""Layers of units without connections inside a layer: the mathematics of RBM and DBM, exact and stateless.

    E(x) = - sum_l b_l x_l - sum_l x_l W_l x_(l+1)                     x in {0, 1} (Smolensky 1986; Salakhutdinov & Hinton 2009)
    visible Gaussian: + (x_0 - b_0)^2 / (2 s^2), and x_0 / s^2 in place of x_0 before W_0       (Cho, Ilin & Raiko 2011)

Given the layers of one parity the others are independent, so they are sampled at once and summed out in closed form. `beta`
leads from visibles alone with the bias `base` (0, where every hidden unit is a fair coin) to the machine itself (1); it may be a column
of numbers, one per row.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.methods._chance import Chance

States = dict[int, Tensor]  # layer -> (B, units)
Beta = float | Tensor


@dataclass(frozen=True)
class Layers:
    """Biases of every layer, weights (n_l, n_(l+1)) between neighbours, variance of Gaussian visibles (None: 0 / 1 visibles)."""

    biases: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    variance: Tensor | None = None
    base: Tensor | None = None

    def __len__(self) -> int:
        return len(self.biases)

    def detached(self) -> "Layers":
        """The same numbers without a gradient."""
        variance = None if self.variance is None else self.variance.detach()
        biases, weights = (tuple(x.detach() for x in group) for group in (self.biases, self.weights))
        return replace(self, biases=biases, weights=weights, variance=variance)

    def double(self) -> "Layers":
        """In float64, without a gradient."""
        other = {name: None if (value := getattr(self, name)) is None else value.detach().double() for name in ("variance", "base")}
        return Layers(tuple(b.detach().double() for b in self.biases), tuple(w.detach().double() for w in self.weights), **other)

    # -- one layer given its neighbours ----------------------------------------------------------------------------------

    def pull(self, layer: int, states: States) -> Tensor:
        """What pulls the units of `layer` to 1 at beta 1: neighbours through the weights, and the bias of a hidden layer."""
        total = self.biases[layer] if layer else None
        if layer - 1 in states:
            below = states[layer - 1]
            below = below / self.variance if layer == 1 and self.variance is not None else below
            total = _added(total, below, self.weights[layer - 1])
        if layer + 1 in states and layer + 1 < len(self):
            total = _added(total, states[layer + 1], self.weights[layer].T)
        assert total is not None
        return total.float() if total.dtype == torch.bfloat16 else total

    def mean(self, layer: int, drive: Tensor, beta: Beta = 1.0) -> Tensor:
        """Expectation of `layer` given what drives it."""
        if layer:
            return torch.sigmoid(times(drive, beta))
        middle = self.visible_bias(beta) + times(drive, beta)
        return torch.sigmoid(middle) if self.variance is None else middle

    def sample(self, layer: int, drive: Tensor, chance: Chance, *, beta: Beta = 1.0, shared: bool = False) -> Tensor:
        """`layer` drawn given what drives it."""
        mean = self.mean(layer, drive, beta)
        if layer == 0 and self.variance is not None:
            return mean + self.variance.sqrt() * chance.normal(mean.shape, shared=shared)
        return chance.bits(mean, shared=shared).to(mean.dtype)

    def visible_bias(self, beta: Beta = 1.0) -> Tensor:
        """From `base` at beta 0 to the machine's own at 1."""
        if self.base is None or (isinstance(beta, float) and beta == 1.0):
            return self.biases[0]
        return self.base * (1 - beta) + self.biases[0] * beta

    # -- many layers -----------------------------------------------------------------------------------------------------

    def others(self, states: States) -> range:
        """The layers of the other parity than those of `states`."""
        return range(1 - min(states) % 2, len(self), 2)

    def drives(self, states: States) -> States:
        """What drives the layers of the other parity."""
        return {layer: self.pull(layer, states) for layer in self.others(states)}

    def log_weight(self, states: States, drives: States | None = None, beta: Beta = 1.0) -> Tensor:
        """log of the unnormalised probability of `states` (all layers of one parity), the others summed out: (B,)."""
        drives = self.drives(states) if drives is None else drives
        total: Tensor = sum(self._own(layer, x, beta) for layer, x in states.items())  # type: ignore[assignment]
        return total + sum(self._summed(layer, drive, beta) for layer, drive in drives.items())

    def free_energy(self, visible: Tensor, drive: Tensor | None = None, beta: Beta = 1.0) -> Tensor:
        """-log of the unnormalised probability of `visible` in a machine of two layers: (B,)."""
        return -self.log_weight({0: visible}, None if drive is None else {1: drive}, beta)

    def drive(self, visible: Tensor) -> Tensor:
        """What drives the hidden units of a machine of two layers."""
        return self.pull(1, {0: visible})

    def hiddens(self, drive: Tensor, chance: Chance, *, beta: Beta = 1.0, shared: bool = False) -> Tensor:
        """The hidden units of a machine of two layers, drawn given what drives them."""
        return self.sample(1, drive, chance, beta=beta, shared=shared)

    def visibles(self, hidden: Tensor, chance: Chance, *, beta: Beta = 1.0, shared: bool = False) -> Tensor:
        """The visible units given the hidden layer above."""
        return self.sample(0, self.pull(0, {1: hidden}), chance, beta=beta, shared=shared)

    def energy(self, states: States) -> Tensor:
        """E of all layers, or its mean where units are independent and `states` their means (Gaussian visibles: themselves)."""
        total: Tensor = -sum(self._own(layer, x, 1.0) for layer, x in states.items())  # type: ignore[assignment]
        for layer, weight in enumerate(self.weights):
            below = states[layer] / self.variance if layer == 0 and self.variance is not None else states[layer]
            total = total - ((below @ weight) * states[layer + 1]).sum(1)
        return total

    def sweep(
        self, states: States, chance: Chance, *, drives: States | None = None, beta: Beta = 1.0, shared: bool = False
    ) -> States:
        """One Gibbs step on the layers of one parity: the others given these, then these given the others."""
        drives = self.drives(states) if drives is None else drives
        there = {m: self.sample(m, d, chance, beta=beta, shared=shared) for m, d in drives.items()}
        back = {layer: self.pull(layer, there) for layer in states}
        return {layer: self.sample(layer, d, chance, beta=beta, shared=shared) for layer, d in back.items()}

    def start(self, rows: int, chance: Chance, *, parity: int = 0, shared: bool = False) -> States:
        """Layers of one parity drawn exactly from beta 0."""
        zeros = {layer: self.biases[layer].new_zeros(rows, len(self.biases[layer])) for layer in range(parity, len(self), 2)}
        return {layer: self.sample(layer, zero, chance, beta=0.0, shared=shared) for layer, zero in zeros.items()}

    def log_start(self) -> Tensor:
        """log of the partition function at beta 0: in closed form."""
        hidden = sum(len(b) for b in self.biases[1:]) * math.log(2)
        return self._summed(0, torch.zeros_like(self.biases[0])[None], 0.0)[0] + hidden

    def _own(self, layer: int, x: Tensor, beta: Beta) -> Tensor:
        """The terms of log p that `layer` has by itself."""
        if layer:
            return times((x * self.biases[layer]).sum(1), _row(beta))
        if self.variance is None:
            return (x * self.visible_bias(beta)).sum(1)
        return -((x - self.visible_bias(beta)).square() / (2 * self.variance)).sum(1)

    def _summed(self, layer: int, drive: Tensor, beta: Beta) -> Tensor:
        """log of the sum (integral) over `layer` of what it adds to the weight."""
        pull = times(drive, beta)
        if layer:
            return F.softplus(pull).sum(1)
        bias = self.visible_bias(beta)
        if self.variance is None:
            return F.softplus(bias + pull).sum(1)
        return ((bias * pull + pull.square() / 2) / self.variance + 0.5 * torch.log(2 * math.pi * self.variance)).sum(1)


def _added(total: Tensor | None, x: Tensor, weight: Tensor) -> Tensor:
    if total is None:
        return x @ weight
    return torch.addmm(total, x, weight) if total.ndim == 1 else total + x @ weight


def times(x: Tensor, beta: Beta) -> Tensor:
    """`x` at inverse temperature `beta`; itself where that is 1."""
    return x if isinstance(beta, float) and beta == 1.0 else x * beta


def _row(beta: Beta) -> Beta:
    return beta.flatten() if isinstance(beta, Tensor) else beta
