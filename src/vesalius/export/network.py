"""A network that numpy and the kernels in C run, from its steps and weights."""

from collections.abc import Mapping

import numpy as np

from vesalius.core.errors import VesaliusError
from vesalius.core.kernels import in_use
from vesalius.core.kernels.filtering import Number
from vesalius.core.space import Array
from vesalius.export.flow import channels_of, check_sides
from vesalius.export.layers import Layer
from vesalius.export.numbers import Singles
from vesalius.export.steps import IMAGE, Sides, Steps, fused


def able(wished: Number) -> Number:
    """The kind of number to compute in: bf16 where it is wished for and the processor multiplies it."""
    return "bf16" if wished == "bf16" and in_use() == "avx512bf16" else "fp32"


class Network:
    """Logits (B, K, *S) of tiles (B, C, *S) in float32; a view of memory in which channels lie together, of bf16 as uint16."""

    def __init__(self, steps: Steps, weights: Mapping[str, Singles], *, number: Number = "fp32", threads: int = 1) -> None:
        for says, names in (("lacks the", steps.weights - set(weights)), ("has no step for the", set(weights) - steps.weights)):
            if names:
                raise VesaliusError(f"The model {says} weights {', '.join(sorted(names)[:3])}. Export it again: vesalius export RUN")
        self.classes = channels_of(steps, weights)
        self.steps, self.weights, self.suited, order = steps, weights, set[Sides](), fused(steps.steps)
        self.layers = [Layer(step, weights.get(step.weight), weights.get(step.bias), number, threads) for step in order]
        self.last = {name: k for k, step in enumerate(order) for name in step.takes}

    def __call__(self, tiles: Singles) -> Array:
        """Maps go as soon as no step takes them any more."""
        self._check(tiles)
        maps: dict[str, Array] = {IMAGE: np.moveaxis(tiles, 1, -1)}
        if not self.layers[0].number == "bf16":
            maps[IMAGE] = np.ascontiguousarray(maps[IMAGE])
        for number, layer in enumerate(self.layers):
            takes = layer.step.takes
            given = [maps[name] for name in takes]
            for name in set(takes):
                if self.last[name] == number:
                    del maps[name]
            made = layer(given, own=self.last[takes[0]] == number and takes[0] != IMAGE)
            del given
            maps[layer.step.makes] = made
        return np.moveaxis(made, -1, 1)

    def suits(self, sides: Sides) -> None:
        """An error where tiles of these sides cannot go through."""
        if sides not in self.suited:
            check_sides(self.steps, self.weights, sides)
            self.suited.add(sides)

    def _check(self, tiles: Singles) -> None:
        wrong = [side for side, by in zip(tiles.shape[2:], self.steps.pooling, strict=False) if side % by]
        if tiles.ndim != self.steps.ndim + 2 or tiles.shape[1] != self.steps.channels or wrong or tiles.dtype != np.float32:
            raise VesaliusError(f"Expected tiles of float32 (B, {self.steps.channels}, *S) with {self.steps.ndim} sides, multiples of "
                                f"{self.steps.pooling}; got {tiles.dtype} {tiles.shape}.")  # fmt: skip
        self.suits(tiles.shape[2:])
