"""What methods share that give images back with a whole U-Net: its weights, its features, how far an image is from what it should be."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from vesalius.methods._trunk import Trunk, dense, described
from vesalius.methods._unlabelled import Unlabelled, decayed


class Restoring(Unlabelled):
    """`self.net` is a U-Net whose last layer lies at `pretext`; features are the encoder's last maps in blocks."""

    halves = True
    net: Any

    def __init__(self, shape: Sequence[int], trunk: Trunk | None, *, learning_rate: float, weight_decay: float, seed: int) -> None:
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.net = dense(self.shape, trunk, torch.Generator().manual_seed(seed))

    def optimisers(self) -> dict[str, Optimizer]:
        """AdamW; weights are decayed, biases and norms are not."""
        return {"net": AdamW(decayed(self.net, self.weight_decay), lr=self.learning_rate, betas=(0.9, 0.99))}

    def restored(self, image: Tensor) -> Tensor:
        """What the network makes of `image` (B, C, *S)."""
        found: Tensor = self.net.pretext(self.net.features(image)[0])
        return found

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        return described(self.net, self.checked(image).float()).float()

    def score(self, image: Tensor) -> Tensor:
        """Mean squared difference between the image and what it should be."""
        return (self.infer(image) - image).square().flatten(1).mean(1)
