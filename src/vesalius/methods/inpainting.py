"""Inpainting: boxes are cut out of the image and a U-Net fills them from what is around.

Pathak et al. 2016, context encoders (CVPR, arXiv:1604.07379), their random boxes and the L2 part of their loss; the adversarial part, which
makes what is filled in sharper and features no better by their own account, is left out. Ours is a U-Net: its whole is learned, for
`--init` of a segmentation. What is strange: each part of the image is hidden in turn and compared with what would be expected there.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._masks import boxes, covers
from vesalius.methods._restoring import Restoring
from vesalius.methods._trunk import Trunk

CARD = Card(
    entry="Inpainting", title="Inpainting (context encoder)", paper="Pathak et al. 2016, CVPR, arXiv:1604.07379",
    summary="Fills boxes that were cut out of an image; learns a whole U-Net.", tasks=("pretrain", "anomaly"), tags=("dense",),
    facts={"arguments": {"trunk": {"name": "unet", "channels": (8, 16)}, "size": (0.2, 0.4)}},
)  # fmt: skip
CELLS, PARTS = 4, 4  # of the grid, along each axis, that is hidden when an image is answered, and in how many turns


class Inpainting(Restoring):
    """`number` boxes, their sides between two parts (`size`) of the image's."""

    def __init__(
        self, shape: Sequence[int], *, trunk: Trunk | None = None, number: int = 4, size: tuple[float, float] = (0.125, 0.35),
        learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, trunk, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if number < 1 or not 0 < size[0] <= size[1] < 1:
            raise UsageError(f"At least one box, with sides between two parts of the image's (0 to 1), is cut out; got {number} of {size}.")
        self.number, self.size_of_boxes = number, tuple(size)

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image = self.checked(batch["image"]).float()
        low, high = self.size_of_boxes
        hidden = boxes(self.shape[1:], self.number, (low, high), rows=len(image), chance=self.chance())
        away = (self.filled(image, hidden) - image).square() * hidden
        yield "net", {"filling": (away.flatten(1).sum(1) / (hidden.flatten(1).sum(1) * self.shape[0])).mean()}
        self.step += 1

    def filled(self, image: Tensor, hidden: Tensor) -> Tensor:
        """What the network makes of `image` where `hidden` (B or 1, 1, *S) pixels were replaced by the mean of the others."""
        seen = (~hidden).float()
        mean = (image * seen).flatten(2).sum(2) / seen.flatten(2).sum(2).clamp(min=1)
        return self.restored(torch.where(hidden, mean.reshape(*mean.shape, *(1,) * (image.ndim - 2)), image))

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """Each part of the image as it is filled when it is hidden."""
        image = self.checked(image).float()
        found = torch.zeros_like(image)
        for hidden in covers(self.shape[1:], [-(-side // CELLS) for side in self.shape[1:]], PARTS).to(image.device):
            found = torch.where(hidden, self.filled(image, hidden[None]), found)
        return found
