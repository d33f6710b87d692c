"""The layers of any network from its image to its answer, by the names of its weights: what learns slower, and what is frozen."""

from itertools import groupby

from torch import nn

from vesalius.core.errors import UsageError

BESIDE = ("trunks", "deciders", "positions")  # lists whose entries stand side by side, one per modality


def layers(net: nn.Module) -> list[list[nn.Parameter]]:
    """Groups of weights, the first next to the image.

    A group is what bears one number in a list (`stages.2`, `transformer.blocks.7`); layers without a number join those around them, and
    norms and biases that stand alone the group before.
    """
    found: dict[str, list[nn.Parameter]] = {}
    run = [(key, name, weight) for name, weight in net.named_parameters() for key in [_key(name)]]
    for number, (key, group) in enumerate(groupby(run, lambda entry: entry[0])):
        found.setdefault(key or f"without a number, run {number}", []).extend(weight for *_, weight in group)
    made: list[list[nn.Parameter]] = []
    for weights in found.values():
        alone = made and all(weight.ndim <= 1 for weight in weights)
        if alone:
            made[-1] = [*made[-1], *weights]
        else:
            made.append(weights)
    return made


def _key(name: str) -> str:
    """The name up to its first number, those of lists side by side left out; "" without one."""
    parts = name.split(".")[:-1]
    kept = [part for k, part in enumerate(parts) if not (part.isdigit() and k and parts[k - 1] in BESIDE)]
    first = next((k for k, part in enumerate(kept) if part.isdigit()), None)
    return "" if first is None else ".".join(kept[: first + 1])


def frozen(net: nn.Module, number: int) -> None:
    """The first `number` groups of `net` learn no more; one group at least has to."""
    found = layers(net) if number else []
    if found and number >= len(found):
        raise UsageError(f"The network has {len(found)} groups of layers; at most {len(found) - 1} can be frozen: train.freeze={number}.")
    for weight in (weight for group in found[:number] for weight in group):
        weight.requires_grad_(False)
