"""Integrated gradients: slopes along the straight way from a baseline to the image, times the way. They add up to the change of score."""

from typing import final

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.explain._frame import Explanation, input_gradient

CARD = Card(entry="IntegratedGradients", title="Integrated gradients",
            summary="Gradients from a baseline to the image, summed; they add up to the change of the class score",
            paper="Sundararajan, Taly and Yan 2017, ICML", tasks=("classify",), tags=("gradient", "complete"))  # fmt: skip


@final
class IntegratedGradients(Explanation):
    """`baseline` is a grey value, or an image that broadcasts to (B, C, *S); 0 is the mean of an image that was normalised. The integral is
    taken by the midpoint rule of `steps` pieces; channels are summed."""

    signed = True

    def __init__(self, *, baseline: float | Tensor = 0.0, steps: int = 48) -> None:
        if steps < 1:
            raise UsageError(f"Integrated gradients need at least one step; got {steps}.")
        self.baseline, self.steps = baseline, steps

    def run(self, net: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        return self.by_channel(net, image, target).sum(1)

    def by_channel(self, net: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """(B, C, *S): what each channel (sequence, phase) contributed at each place."""
        start = torch.as_tensor(self.baseline, dtype=image.dtype, device=image.device).expand_as(image)
        way = image - start
        total = torch.zeros_like(image)
        for k in range(self.steps):
            total += input_gradient(net, start + (k + 0.5) / self.steps * way, target)
        return way * total / self.steps
