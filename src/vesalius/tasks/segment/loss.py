"""The loss of voxels: an entry of the losses shelf that the plan names, at every scale that the network answers on."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from torch import nn

from vesalius.core.errors import UsageError, VesaliusError, suggest
from vesalius.data.labels import Labels
from vesalius.losses import LOSSES

USUAL = "dice_cross_entropy"


def named(labels: Labels, settings: Mapping[str, Any]) -> nn.Module:
    """The loss that `settings` name: {"name": entry of the shelf, and its own words}; without a name soft Dice plus cross entropy.
    `weights` are one number per logit, background first where classes exclude each other."""
    words = dict(settings)
    name = str(words.pop("name", None) or USUAL)
    fitting = [entry for entry in LOSSES if "segment" in LOSSES.card(entry).tasks and "wrapper" not in LOSSES.card(entry).tags]
    if name not in fitting:
        raise UsageError(f"In train.loss: {suggest(name, fitting, 'loss')}")
    entry = LOSSES[name]
    taken = [word for word in signature(entry.__init__).parameters if word not in ("self", "exclusive")]
    for word in words:
        if word not in taken:
            raise UsageError(f"In train.loss: {suggest(word, taken, f'word of the loss {name}')}")
    weights = words.get("weights")
    if weights is not None and (not isinstance(weights, list | tuple) or len(weights) != labels.out_channels):
        raise UsageError(f"In train.loss: weights are {labels.out_channels} numbers, {'background and ' if labels.exclusive else ''}"
                         f"{', '.join(labels.names)}; got {weights!r}.")  # fmt: skip
    try:
        made: nn.Module = LOSSES["deep_supervision"](entry(labels.exclusive, **words))
    except (TypeError, ValueError, VesaliusError) as problem:
        raise UsageError(f"In train.loss: {name} cannot be made of {dict(settings)}: {problem}.") from None
    return made
