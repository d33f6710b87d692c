"""Weights averaged over the last part of a run (Polyak & Juditsky 1992, exponentially): how they follow, and a method that carries them."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vesalius.engine.state import Weights
from vesalius.methods import Method


class State:
    """What `module` keeps, by the names of its `state_dict` but without a walk through the modules each time.

    Parameters and buffers are looked up where they hang, so one that was put in another's place is seen; a module that keeps more
    than those is walked through."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.places = {
            f"{prefix}{'.' if prefix else ''}{key}": (holder, key)
            for prefix, part in module.named_modules(remove_duplicate=False)
            for holder in (part._parameters, part._buffers)
            for key, value in holder.items()
            if value is not None and key not in part._non_persistent_buffers_set
        }
        self.whole = self.places.keys() == module.state_dict().keys()

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        if not self.whole:
            return iter(self.module.state_dict().items())
        return ((name, value) for name, (holder, key) in self.places.items() if (value := holder[key]) is not None)


@torch.no_grad()
def follow(average: Weights, state: State, keep: float) -> None:
    """Every number of `average` keeps the part `keep` of itself; whole numbers are those of `state`."""
    for name, value in state:
        kept = average[name]
        kept.lerp_(value, 1 - keep) if kept.is_floating_point() else kept.copy_(value)


class averaged:
    """Inside `with averaged(method, weights) as m`, m carries `weights` and is in evaluation mode."""

    def __init__(self, method: Method, weights: Weights) -> None:
        self.method, self.weights = method, weights

    def __enter__(self) -> Method:
        self.own = {name: value.detach().clone() for name, value in self.method.state_dict().items()}
        self.method.load_state_dict(self.weights)
        return self.method.eval()

    def __exit__(self, *problem: object) -> None:
        self.method.load_state_dict(self.own)
        self.method.train()
