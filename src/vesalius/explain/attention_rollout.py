"""Attention rollout: how much of each patch reaches the answer of a transformer if attention is followed through all layers."""

from math import prod
from typing import final

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.explain._frame import Explanation, enlarged

CARD = Card(entry="AttentionRollout", title="Attention rollout",
            summary="Attention of all layers multiplied, with the residual way beside it",
            paper="Abnar and Zuidema 2020, ACL", tasks=("classify",), tags=("attention",))  # fmt: skip


@final
class AttentionRollout(Explanation):
    """The product over layers of 0.5 A + 0.5 I, A the mean over heads; then the row of the class token, or the mean row where there is
    none; modalities are summed. It shows where a transformer looked, whatever the class."""

    needs = ("attentions", "grid")
    by_class = False

    def run(self, net: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            layers: list[Tensor] = net.attentions(image)  # type: ignore[operator]
        grid, extra = net.grid(tuple(image.shape[2:]))  # type: ignore[operator]
        before, tokens = len(grid) - (image.ndim - 2), layers[0].shape[-1] if layers else 0
        if tokens != prod(grid) + extra or before < 0:
            raise UsageError(f"Attention rollout expected {extra} + {prod(grid)} tokens, as the grid {grid} says; got {tokens}.")
        heat = rollout(layers)
        row = heat[:, 0, extra:] if extra else heat.mean(1)
        return enlarged(row.reshape(len(image), prod(grid[:before]), *grid[before:]).sum(1), image.shape[2:])


def rollout(layers: list[Tensor]) -> Tensor:
    """(B, N, N), rows sum to 1: how much of token j is in token i after all layers; each of `layers` is (B, heads, N, N)."""
    total = torch.eye(layers[0].shape[-1], device=layers[0].device, dtype=layers[0].dtype).expand(len(layers[0]), -1, -1)
    for attention in layers:
        mixed = attention.mean(1)
        mixed = 0.5 * mixed + 0.5 * torch.eye(mixed.shape[-1], device=mixed.device, dtype=mixed.dtype)
        total = mixed / mixed.sum(-1, keepdim=True) @ total
    return total
