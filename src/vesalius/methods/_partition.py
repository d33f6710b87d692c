"""How probable a Boltzmann machine says images are: log Z exactly for few units, and between two estimates for many.

Annealed importance sampling (Neal 2001; Salakhutdinov & Murray 2008) leads chains from visibles alone to the machine. Its log Z is too low
on average, so likelihoods are too good. Led back from states of the machine it is too high; led back from the test images
themselves (RAISE: Burda, Grosse & Salakhutdinov 2015) it gives likelihoods that are too bad on average. The truth lies between.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from vesalius.core.errors import UsageError
from vesalius.methods._chance import Chance
from vesalius.methods._layers import Layers, States

LIMIT = 20  # units whose states are all looked at
DRAWS = 1000  # of the bootstrap


@dataclass(frozen=True)
class Estimate:
    """In nats, with a 95 % bootstrap interval over the chains (of a likelihood: over the images)."""

    value: float
    low: float
    high: float


@torch.no_grad()
def log_partition(layers: Layers) -> float:
    """log Z by enumeration of the even or the odd layers, whichever are 0 / 1 units and fewer; at most 20."""
    number = {parity: sum(len(layers.biases[layer]) for layer in range(parity, len(layers), 2)) for parity in (0, 1)}
    if layers.variance is not None:
        del number[0]
    parity = min(number, key=lambda p: number[p])
    if number[parity] > LIMIT:
        raise UsageError(f"log Z is enumerated for at most {LIMIT} units; this machine has {number[parity]}. Estimate it by annealing.")
    exact = layers.double()
    sizes = [len(exact.biases[layer]) for layer in range(parity, len(exact), 2)]
    parts = [exact.log_weight(_enumerated(codes, sizes, parity)) for codes in torch.split(torch.arange(2 ** number[parity]), 2**14)]
    return float(torch.logsumexp(torch.cat(parts), 0))


def _enumerated(codes: Tensor, sizes: list[int], parity: int) -> States:
    """The states of the layers of one parity whose bits are `codes`."""
    bits = (codes[:, None] >> torch.arange(sum(sizes))) & 1
    return {parity + 2 * k: x for k, x in enumerate(torch.split(bits.double(), sizes, 1))}


def annealed(layers: Layers, *, temperatures: int = 1000, chains: int = 100, seed: int = 0) -> Estimate:
    """log Z, on average too low: chains from visibles alone to the machine."""
    weights = forward_weights(layers, temperatures=temperatures, chains=chains, seed=seed)
    return bootstrapped(weights, lambda drawn: _log_mean(drawn))


def reverse_annealed(layers: Layers, states: States, *, temperatures: int = 1000, seed: int = 0) -> Estimate:
    """log Z, on average too high where `states` (the even layers) are drawn from the machine: chains from it to visibles alone."""
    weights = backward_weights(layers, states, temperatures=temperatures, seed=seed)
    return bootstrapped(weights, lambda drawn: -_log_mean(-drawn))


@torch.no_grad()
def forward_weights(layers: Layers, *, temperatures: int, chains: int, seed: int) -> Tensor:
    """log of an unbiased estimate of Z from each chain, float64 (chains,)."""
    states = layers.start(chains, Chance(seed, 0, layers.biases[0].device))
    total = torch.zeros(chains, dtype=torch.float64, device=layers.biases[0].device)
    for k, (before, now) in enumerate(pairwise(_betas(temperatures)), start=1):
        drives = layers.drives(states)
        total += (layers.log_weight(states, drives, now) - layers.log_weight(states, drives, before)).double()
        states = layers.sweep(states, Chance(seed, k, total.device), drives=drives, beta=now)
    return total + layers.log_start().double()


@torch.no_grad()
def backward_weights(layers: Layers, states: States, *, temperatures: int, seed: int) -> Tensor:
    """log Z as each chain sees it on its way back from `states`: exp(-it) is an unbiased estimate of 1 / Z for states of the machine."""
    total = torch.zeros(len(states[0]), dtype=torch.float64, device=layers.biases[0].device)
    for k, (before, now) in enumerate(pairwise(reversed(_betas(temperatures))), start=1):
        states = layers.sweep(states, Chance(seed, k, total.device), beta=before)
        drives = layers.drives(states)
        total += (layers.log_weight(states, drives, before) - layers.log_weight(states, drives, now)).double()
    return total + layers.log_start().double()


def conservative(
    layers: Layers, states: States, *, log_proposal: float | Tensor = 0.0, temperatures: int = 1000, chains: int = 10, seed: int = 0
) -> Tensor:
    """log p of each visible state by RAISE, too low on average: (B,) float64.

    `states` are its even layers; those above the visible one were drawn with probability exp(`log_proposal`).
    """
    many = {layer: x.repeat(chains, 1) for layer, x in states.items()}
    weights = backward_weights(layers, many, temperatures=temperatures, seed=seed).reshape(chains, -1)
    with torch.no_grad():
        own = layers.log_weight(states).double() - log_proposal
    return own + torch.logsumexp(-weights, 0) - math.log(chains)


def likelihood(layers: Layers, visible: Tensor, *, temperatures: int = 1000, chains: int = 100, seed: int = 0) -> dict[str, Estimate]:
    """Mean log p of `visible` (B, n) for a machine of two layers: `optimistic` by AIS, `conservative` by RAISE; `exact` where it can be."""
    with torch.no_grad():
        own = layers.log_weight({0: visible}).double()
    z = annealed(layers, temperatures=temperatures, chains=chains, seed=seed)
    low = conservative(layers, {0: visible}, temperatures=temperatures, chains=max(1, chains // 10), seed=seed + 1)
    mean = bootstrapped(own, lambda drawn: drawn.mean(-1))
    spread = math.hypot(mean.high - mean.low, z.high - z.low) / 2
    found = {"optimistic": Estimate(mean.value - z.value, mean.value - z.value - spread, mean.value - z.value + spread),
             "conservative": bootstrapped(low, lambda drawn: drawn.mean(-1))}  # fmt: skip
    if len(layers.biases[1]) <= LIMIT:
        exact = log_partition(layers)
        found["exact"] = Estimate(mean.value - exact, mean.low - exact, mean.high - exact)
    return found


def bootstrapped(values: Tensor, statistic: Callable[[Tensor], Tensor]) -> Estimate:
    """`statistic` over the last axis of `values` (N,), with a 95 % interval over draws with replacement."""
    picks = torch.from_numpy(np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values))))
    drawn = statistic(values.cpu()[picks])
    low, high = (float(torch.quantile(drawn, q)) for q in (0.025, 0.975))
    return Estimate(float(statistic(values.cpu())), low, high)


def _log_mean(logs: Tensor) -> Tensor:
    return torch.logsumexp(logs, -1) - math.log(logs.shape[-1])


def _betas(temperatures: int) -> list[float]:
    if temperatures < 1:
        raise UsageError(f"Annealing takes at least one step; got {temperatures}.")
    return [k / temperatures for k in range(temperatures)] + [1.0]
