"""What the maps of a network will be, worked out before any is computed: their channels and sides, from steps and shapes of weights.

Kernels in C believe what they are told of the memory they are given. Steps and weights come from files, so they are looked at here first:
every weight suits its step and the maps that this takes, and maps that meet are alike.
"""

from collections.abc import Mapping, Sequence
from math import prod

from vesalius.core.errors import VesaliusError
from vesalius.core.space import Array
from vesalius.export.steps import IMAGE, LONGEST, Sides, Step, Steps

WIDEST = 2**16  # channels of a map
LARGEST = 2**31  # voxels of a tile
FINER = 2  # times that the sides of a map may be those of the image


def channels_of(steps: Steps, weights: Mapping[str, Array]) -> int:
    """How many channels the answer has; an error where a weight does not suit its step or what this takes."""
    known = {IMAGE: steps.channels}
    for step in steps.steps:
        given = [known[name] for name in step.takes]
        made = _channels(step, given, weights, ndim=steps.ndim)
        _need(made <= WIDEST, step, f"makes {made} channels, more than {WIDEST}")
        known[step.makes] = made
    return known[steps.steps[-1].makes]


def _channels(step: Step, given: Sequence[int], weights: Mapping[str, Array], *, ndim: int) -> int:
    """Of the map that a step makes of maps with so many."""
    shape = weights[step.weight].shape if step.weight else ()
    made = sum(given)
    if step.kind == "sum":
        made = given[0]
        _need(len(set(given)) == 1, step, f"takes maps of {given} channels")
    elif step.kind == "convolution":
        alike = len(shape) == ndim + 2 and shape[1] == made and min(shape) > 0
        _need(alike and all(p < side for p, side in zip(step.pad, shape[2:], strict=True)), step,
              f"takes {made} channels and pads {step.pad}; its weights are {shape}")  # fmt: skip
        made = shape[0]
    elif step.kind == "transposed":
        _need(len(shape) == ndim + 2 and shape[0] == made and shape[2:] == step.step and shape[1] > 0, step,
              f"takes {made} channels in steps {step.step}; its weights are {shape}")  # fmt: skip
        made = shape[1]
    elif step.kind == "normalisation" and step.weight:
        _need(shape == (made,), step, f"takes {made} channels; its weights are {shape}")
    if step.bias:
        _need(weights[step.bias].shape == (made,), step, f"makes {made} channels; its bias is {weights[step.bias].shape}")
    return made


def check_sides(steps: Steps, weights: Mapping[str, Array], sides: Sides) -> None:
    """An error where of an image of these `sides` maps that meet would not be alike, one would have no voxels or far too many, or the
    answer would not lie on the image; `weights` suit the steps."""
    if max(sides) > LONGEST or prod(sides) > LARGEST:
        raise VesaliusError(f"Expected tiles of at most {LONGEST} voxels a side and {LARGEST} in all; got {sides}.")
    known = {IMAGE: sides}
    for step in steps.steps:
        given = [known[name] for name in step.takes]
        _need(len(set(given)) == 1, step, f"takes maps of the sides {sorted(set(given))} where tiles are {sides}")
        made = _sides(step, given[0], weights)
        _need(min(made) > 0 and all(new <= FINER * old for new, old in zip(made, sides, strict=True)), step,
              f"makes a map of the sides {made} where tiles are {sides}")  # fmt: skip
        known[step.makes] = made
    _need(made == sides, steps.steps[-1], f"answers on the sides {made} where tiles are {sides}")


def _sides(step: Step, given: Sides, weights: Mapping[str, Array]) -> Sides:
    """Of the map that a step makes of maps of these."""
    if step.kind == "convolution":
        places = zip(given, step.pad, weights[step.weight].shape[2:], step.step, strict=True)
        return tuple((side + 2 * pad - kernel) // by + 1 for side, pad, kernel, by in places)
    if step.kind == "transposed":
        return tuple(side * by for side, by in zip(given, step.step, strict=True))
    return tuple(side // by for side, by in zip(given, step.step, strict=True)) if step.step else given


def _need(true: bool, step: Step, what: str) -> None:
    if not true:
        raise VesaliusError(f"The model does not fit together: its step {step.makes!r} ({step.kind}) {what}. "
                            "Copy it again, or export it again: vesalius export RUN")  # fmt: skip
