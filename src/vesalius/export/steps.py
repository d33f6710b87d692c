"""A network as a list of steps from one map to the next, as plain JSON.

A map is (B, *S, C): channels lie together. Steps name the maps they take and the one they make, and the weights (as torch lays them out)
by name. What can be done:

`convolution`    zeros beyond the border; `step` and `pad` per axis; of several maps as one with the channels of all
`transposed`     a transposed convolution whose kernel is its `step`
`normalisation`  every channel of every sample by its own mean and deviation, `added` to the variance, then weight and bias
`leaky`          what is below 0 times `slope`
`joined`         maps beside each other, channel after channel
`sum`            of two maps
`mean_pool`, `max_pool`  over blocks of `step` voxels
"""

from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

from vesalius.core.values import Values, defaults

Sides = tuple[int, ...]
KINDS = ("convolution", "transposed", "normalisation", "leaky", "joined", "sum", "mean_pool", "max_pool")
TAKES = {"sum": 2}  # maps; others take one, `convolution` and `joined` one or more
USES = {  # what else a step of each kind goes by
    "convolution": {"weight", "bias", "step", "pad"},
    "transposed": {"weight", "bias", "step"},
    "normalisation": {"weight", "bias", "added", "slope"},
    "leaky": {"slope"},
    "joined": set[str](),
    "sum": {"slope"},
    "mean_pool": {"step"},
    "max_pool": {"step"},
}
IMAGE = "image"
LONGEST = 2**16  # side of a map, and step along it


@dataclass(frozen=True, kw_only=True)
class Step(Values):
    """One step; numbers that its kind does not need keep their defaults."""

    kind: Literal["convolution", "transposed", "normalisation", "leaky", "joined", "sum", "mean_pool", "max_pool"]
    takes: tuple[str, ...]
    makes: str
    weight: str = ""
    bias: str = ""
    step: Sides = ()
    pad: Sides = ()
    added: float = 0.0
    slope: float = 1.0

    def check(self) -> None:
        """Only what its kind goes by is said, and that is numbers."""
        surplus = {name for name, default in defaults(type(self)).items() if name not in USES[self.kind] and getattr(self, name) != default}
        if surplus:
            raise ValueError(f"a step of the kind {self.kind} has no {' and no '.join(sorted(surplus))}")
        if not (isfinite(self.slope) and isfinite(self.added) and self.added >= 0):
            raise ValueError(f"slope and what is added are finite, and that is not below 0; got {self.slope} and {self.added}")
        if self.kind in ("convolution", "transposed") and not self.weight:
            raise ValueError(f"a step of the kind {self.kind} needs weights")


@dataclass(frozen=True, kw_only=True)
class Steps(Values):
    """All steps of a network in their order. It is given the map "image" with `channels`, whose `ndim` sides are multiples of `pooling`,
    and what it answers with is the map that the last step makes."""

    ndim: Literal[2, 3]
    channels: int
    pooling: Sides
    steps: tuple[Step, ...]

    def check(self) -> None:
        """Every map is made once, before it is taken, and numbers suit the axes."""
        known = {IMAGE}
        for step in self.steps:
            if not step.takes or not known.issuperset(step.takes) or step.makes in known:
                raise ValueError(f"the step that makes {step.makes!r} of {step.takes} does not follow from those before it")
            if len(step.takes) != TAKES.get(step.kind, 1) and step.kind not in ("convolution", "joined"):
                raise ValueError(f"a step of the kind {step.kind} takes {TAKES.get(step.kind, 1)} maps; got {len(step.takes)}")
            if step.kind in ("convolution", "transposed", "mean_pool", "max_pool") and not self._lies(step):
                raise ValueError(f"the step that makes {step.makes!r} has no place along each of {self.ndim} axes: {step.step}, {step.pad}")
            known.add(step.makes)
        whole = len(self.pooling) == self.ndim and 1 <= min(self.pooling) <= max(self.pooling) <= LONGEST
        if not self.steps or self.channels < 1 or not whole:
            raise ValueError("a network has steps, channels and a pooling along each axis")

    @property
    def weights(self) -> set[str]:
        """The names of all weights that it needs."""
        return {name for step in self.steps for name in (step.weight, step.bias) if name}

    def _lies(self, step: Step) -> bool:
        pads = step.pad if step.kind == "convolution" else (0,) * self.ndim
        return len(step.step) == len(pads) == self.ndim and 0 < min(step.step) <= max(step.step) <= LONGEST and min(pads) >= 0


def fused(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The same with every `leaky` in the normalisation or sum before it, and every `joined` in the convolution behind it, where nothing
    else takes what lies between."""
    takers: dict[str, list[Step]] = {}
    for step in steps:
        for name in step.takes:
            takers.setdefault(name, []).append(step)
    made: list[Step] = []
    gone: dict[str, Step] = {}  # maps that are never made, by the step that would have
    for step in steps:
        only = takers.get(step.makes, [])
        behind = only[0] if len(only) == 1 else None
        if step.kind == "joined" and behind and behind.kind == "convolution":
            gone[step.makes] = step
        elif step.kind in ("normalisation", "sum") and behind and behind.kind == "leaky" and step.slope == 1:
            gone[step.makes] = step
        elif step.kind == "leaky" and step.takes[0] in gone:
            made.append(replace(gone[step.takes[0]], makes=step.makes, slope=step.slope))
        else:
            takes = [name for taken in step.takes for name in (gone[taken].takes if taken in gone else (taken,))]
            made.append(replace(step, takes=tuple(takes)))
    return tuple(made)
