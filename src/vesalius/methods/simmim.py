"""SimMIM: parts of an image are hidden and a single layer behind the trunk tells their intensities.

Xie et al. 2022 (CVPR, arXiv:2111.09886): 60 % of large cells (a sixth of the side), L1 on what is hidden. Ours takes any trunk: a learned
intensity stands in the image where the authors put a learned token behind the patches, so convolutions can learn by it too.
"""

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._coder import fresh
from vesalius.methods._masks import cells, covers
from vesalius.methods._trunk import Trunk, blocks, headless, mapped, spread, to_pixels
from vesalius.methods._unlabelled import Unlabelled, decayed

CARD = Card(
    entry="SimMIM", title="SimMIM", paper="Xie et al. 2022, CVPR, arXiv:2111.09886", tasks=("pretrain", "anomaly"),
    summary="Tells the intensities of hidden cells by one layer behind any trunk.", tags=("masked",),
    facts={"arguments": {"trunk": {"name": "unet", "channels": (8, 16)}, "mask": 0.3}},
)  # fmt: skip
CELLS = 6  # along each axis
PARTS = 4  # in which an image is hidden, one after another, when it is answered


class SimMIM(Unlabelled):
    """`mask`: part of the cells that is hidden. What is strange: each cell is hidden once and compared with what is told of it."""

    halves = True
    net: Any

    def __init__(
        self, shape: Sequence[int], *, trunk: Trunk | None = None, mask: float = 0.6, learning_rate: float = 1e-3,
        weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if not 0 < mask < 1:
            raise UsageError(f"Between none (0) and all (1) of the cells are hidden; got {mask}.")
        self.mask = mask
        self.net, width = headless(self.shape, trunk, torch.Generator().manual_seed(seed), read=mapped)
        step: Sequence[int] = getattr(self.net, "patch", (1,) * (len(self.shape) - 1))
        self.cell = tuple(ceil(max(1, side // CELLS) / s) * s for side, s in zip(self.shape[1:], step, strict=True))
        self.net.pretext = fresh(to_pixels(self.net, self.shape, width), torch.Generator().manual_seed(seed + 1))
        self.net.pretext.hidden = nn.Parameter(torch.zeros(self.shape[0]))

    def optimisers(self) -> dict[str, Optimizer]:
        """AdamW; weights are decayed, biases and norms are not."""
        return {"net": AdamW(decayed(self.net, self.weight_decay), lr=self.learning_rate, betas=(0.9, 0.99))}

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image = self.checked(batch["image"]).float()
        hidden = cells(self.shape[1:], self.cell, self.mask, rows=len(image), chance=self.chance())
        away = (self.told(image, hidden) - image).abs() * hidden
        yield "net", {"hidden": (away.flatten(1).sum(1) / (hidden.flatten(1).sum(1) * self.shape[0])).mean()}
        self.step += 1

    def told(self, image: Tensor, hidden: Tensor) -> Tensor:
        """(B, C, *S) told from `image` without its `hidden` (B or 1, 1, *S) pixels."""
        value = self.net.pretext.hidden.reshape(-1, *(1,) * (image.ndim - 2))
        return spread(self.net.pretext(mapped(self.net, torch.where(hidden, value, image))), self.shape)

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """Each part of the image as it is told when it is hidden."""
        image, found = self.checked(image).float(), torch.zeros_like(image, dtype=torch.float32)
        for hidden in covers(self.shape[1:], self.cell, PARTS).to(image.device):
            found = torch.where(hidden, self.told(image, hidden[None]), found)
        return found

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """Means of the last maps over the halves of each side: of a map that is normalised by itself one mean says nothing."""
        return blocks(mapped(self.net, self.checked(image).float())).float()

    def score(self, image: Tensor) -> Tensor:
        """Mean absolute difference between the image and what is told of it."""
        return (self.infer(image) - image).abs().flatten(1).mean(1)
