"""Soft Dice loss on logits: 1 - 2 |P T| / (|P| + |T|) with probabilities for P.

Milletari et al. 2016; without their squares, as in Drozdzal et al. 2016 and nnU-Net. Ignored voxels count on neither side.
"""

from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.losses._counts import first_class, flat, soft_counts

CARD = Card(
    entry="Dice",
    title="Soft Dice",
    summary="One minus the overlap of probabilities and truth; indifferent to how rare a class is.",
    paper="Milletari, Navab, Ahmadi 2016, V-Net, 3DV; Drozdzal et al. 2016, DLMIA",
    tasks=("segment",),
)


class Dice(nn.Module):
    """`loss(logits, target)` with target uint8 (B, 1, *S) indices if `exclusive`, else (B, K, *S) of 0 / 1; 255 is ignored.

    `batch_dice` counts over the whole batch as if it were one image (steadier for small patches, but then the loss of a
    joint batch is not the mean of its halves). `background` counts class 0 too. `smooth` makes an absent class that is
    not predicted a perfect one.
    """

    def __init__(self, exclusive: bool, *, batch_dice: bool = False, background: bool = False, smooth: float = 1e-5) -> None:
        super().__init__()
        self.exclusive, self.batch_dice, self.background, self.smooth = exclusive, batch_dice, background, smooth

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """{"dice": mean over classes and samples, in 0..1}."""
        start = first_class(self.exclusive, self.background)
        counts = soft_counts(*flat(logits, target, self.exclusive), self.exclusive)
        both, predicted, actual = (c.sum(0, True)[:, start:] if self.batch_dice else c[:, start:] for c in counts)
        return {"dice": 1 - ((2 * both + self.smooth) / (predicted + actual + self.smooth)).mean()}
