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

from collections.abc import Mapping
from typing import Literal

from pydantic import model_validator

from vesalius.core.settings import Settings

Sides = tuple[int, ...]
KINDS = ("convolution", "transposed", "normalisation", "leaky", "joined", "sum", "mean_pool", "max_pool")
TAKES = {"sum": 2}  # maps; others take one, `convolution` and `joined` one or more
IMAGE = "image"


class Step(Settings):
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


class Steps(Settings):
    """All steps of a network in their order. It is given the map "image" with `channels`, whose `ndim` sides are multiples of `pooling`,
    and what it answers with is the map that the last step makes."""

    ndim: Literal[2, 3]
    channels: int
    pooling: Sides
    steps: tuple[Step, ...]

    @model_validator(mode="after")
    def _whole(self) -> "Steps":
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
        if not self.steps or len(self.pooling) != self.ndim or self.channels < 1 or min(self.pooling) < 1:
            raise ValueError("a network has steps, channels and a pooling along each axis")
        return self

    def _lies(self, step: Step) -> bool:
        pads = step.pad if step.kind == "convolution" else (0,) * self.ndim
        return len(step.step) == len(pads) == self.ndim and min(step.step) > 0 and min(pads) >= 0

    @property
    def last_use(self) -> Mapping[str, int]:
        """The number of the step that takes each map last."""
        return {name: number for number, step in enumerate(self.steps) for name in step.takes}


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
            made.append(gone[step.takes[0]].model_copy(update={"makes": step.makes, "slope": step.slope}))
        else:
            takes = [name for taken in step.takes for name in (gone[taken].takes if taken in gone else (taken,))]
            made.append(step.model_copy(update={"takes": tuple(takes)}))
    return tuple(made)
