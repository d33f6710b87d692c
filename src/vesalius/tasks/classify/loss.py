"""The loss of whole cases: an entry of the losses shelf that the plan names, at every head of the network.

Auxiliary heads: Szegedy et al. 2015, Going deeper with convolutions. Weights of classes: Cui et al. 2019.
"""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.core.errors import DataError, UsageError, suggest
from vesalius.data.labels import Labels
from vesalius.losses import LOSSES
from vesalius.losses._balance import effective_number_weights

AUXILIARY = 0.3  # weight of heads before the last, as in GoogLeNet
SPOKEN = {"label_smoothing": "smoothing"}  # the word of the plan and that of the shelf
BALANCED = "balanced"


class ClassLoss(nn.Module):
    """`loss(heads, target)`: heads are logits (B, K), the answer first, then auxiliary ones; target uint8 (B, 1) of indices where a
    case is one of the classes, else (B, K) of 0 / 1, 255 being unknown."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def progress(self, share: float) -> None:
        """Tell a loss that changes as training goes how much of it has passed, 0..1."""
        if callable(told := getattr(self.loss, "progress", None)):
            told(share)

    def forward(self, heads: Sequence[Tensor], target: Tensor) -> dict[str, Tensor]:
        """{name of the loss: mean over cases, "auxiliary": the weighted mean of further heads}."""
        first: dict[str, Tensor] = self.loss(heads[0], target)
        others = [torch.stack([*self.loss(logits, target).values()]).sum() for logits in heads[1:]]
        return first | ({"auxiliary": AUXILIARY * torch.stack(others).mean()} if others else {})


def named(labels: Labels, settings: Mapping[str, Any], counts: Sequence[int] | None) -> ClassLoss:
    """The loss that `settings` name: {"name": entry of the shelf, and its own words}; cross entropy, or of grades ordinal, without a
    name. `weights` are numbers in the order of the labels, or "balanced" by `counts`, the training cases with each class."""
    words = dict(settings)
    name = str(words.pop("name", None) or ("ordinal" if labels.kind == "grades" and not words else "cross_entropy"))
    entry = LOSSES[_known(name)]
    taken = [word for word in signature(entry.__init__).parameters if word not in ("self", "exclusive", "coral")]
    arguments = {SPOKEN.get(word, word): value for word, value in words.items()}
    wrong = [word for word in words if SPOKEN.get(word, word) not in taken]
    if wrong:
        spoken = {there: word for word, there in SPOKEN.items()}
        raise UsageError(f"In train.loss: {suggest(wrong[0], [spoken.get(word, word) for word in taken], f'word of the loss {name}')}")
    if arguments.get("weights") == BALANCED:
        arguments["weights"] = effective_number_weights(_counted(counts, name))
    elif isinstance(arguments.get("weights"), str):
        raise UsageError(f"In train.loss: weights are one number for each class, or \"balanced\"; got {arguments['weights']!r}.")
    if "counts" in taken and "counts" not in arguments:
        arguments["counts"] = _counted(counts, name)
    if name == "ldam":  # an ordinary network gives logits, not cosines: the margin is in nats
        arguments = {"scale": 1.0, **arguments}
    try:
        return ClassLoss(entry(labels.one_of, **arguments))
    except TypeError as problem:
        raise UsageError(f"In train.loss: {name} cannot be made of {dict(settings)}: {problem}.") from None


def _known(name: str) -> str:
    """`name`, if it is a loss of whole cases."""
    fitting = [entry for entry in LOSSES if "classify" in LOSSES.card(entry).tasks]
    if name not in fitting:
        raise UsageError(f"In train.loss: {suggest(name, fitting, 'loss')}")
    return name


def _counted(counts: Sequence[int] | None, name: str) -> Sequence[int]:
    if counts is None:
        raise DataError(f"The loss {name} weighs classes by their training cases, which are not known here. Give weights as numbers.")
    return counts
