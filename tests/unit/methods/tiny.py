"""Tiny Boltzmann machines whose every state is looked at, from the formula of the energy alone."""

import itertools

import numpy as np
import torch

from vesalius.methods._machine import Machine


def states(units):
    """All 2^units states, (2^units, units) float64."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=units)), dtype=torch.float64).reshape(2**units, units)


def machine(*sizes, seed=0, scale=1.0, **more):
    """A machine with weights, biases, offsets and variances that are far from zero, in float64."""
    random = torch.Generator().manual_seed(seed)
    made = Machine(sizes, random, **more).double()
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=random))
        for offset in made.offsets:
            offset.copy_(torch.rand(offset.shape, generator=random))
    return made


def energies(layers):
    """E of every joint state by the formula, as an array with one axis per layer (0 / 1 units)."""
    every = [states(len(b)).numpy() for b in layers.biases]
    number = len(every)
    total = np.zeros([len(x) for x in every])
    for axis, (x, bias) in enumerate(zip(every, layers.biases, strict=True)):
        total -= (x @ bias.detach().numpy()).reshape([-1 if a == axis else 1 for a in range(number)])
    for axis, weight in enumerate(layers.weights):
        between = every[axis] @ weight.detach().numpy() @ every[axis + 1].T
        total -= between.reshape([*(1,) * axis, *between.shape, *(1,) * (number - axis - 2)])
    return total


def probabilities(layers):
    """p of every joint state, one axis per layer."""
    weight = np.exp(-energies(layers))
    return weight / weight.sum()


def log_z(layers):
    return float(np.log(np.exp(-energies(layers)).sum()))
