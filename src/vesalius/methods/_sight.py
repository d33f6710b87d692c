"""What a network of the shelf sees at each of its stages, as it is: the features of a run that has learned, with labels or without."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.methods._trunk import decodes, described, headless, mapped


def sighted(shape: Sequence[int], features: Mapping[str, Any], seed: int) -> nn.Module:
    """The network that `features` names ({"name": "resnet", "depth": 18, ...}) for images (C, *S), without its answer."""
    net = headless(shape, features, torch.Generator().manual_seed(seed), read=described)[0]
    return net.eval()


@torch.no_grad()
def seen(net: nn.Module, image: Tensor) -> list[Tensor]:
    """(B, K, *s) for each fineness that the network goes through, the finest first: what leaves the last stage of that fineness."""
    found: list[Tensor] = []
    stages = net.down if decodes(net) else getattr(net, "stages", ())
    hooks = [stage.register_forward_hook(lambda _, given, out: found.append(out)) for stage in stages]  # type: ignore[union-attr]
    try:
        last = mapped(net.eval(), image)
    finally:
        for hook in hooks:
            hook.remove()
    maps = {tuple(one.shape[2:]): one.float() for one in [*found, last] if one.ndim == image.ndim}
    return sorted(maps.values(), key=lambda one: -one.shape[2:].numel())


def chosen(maps: Sequence[Tensor], *, finest: int, most: int) -> tuple[int, ...]:
    """Numbers of the `most` finest maps without a side above `finest`; that of the coarsest where all are finer."""
    found = [k for k, one in enumerate(maps) if max(one.shape[2:]) <= finest]
    return tuple(found[:most]) or (len(maps) - 1,)
