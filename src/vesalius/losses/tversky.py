"""Tversky loss: Dice with unlike prices for false positives and false negatives; focal Tversky with an exponent."""

from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.losses._counts import first_class, flat, soft_counts

CARD = Card(
    entry="Tversky",
    title="Tversky loss",
    summary="Dice with its own price for a miss and for a false alarm; favours sensitivity for small lesions.",
    paper="Salehi, Erdogmus, Gholipour 2017, MLMI; Abraham and Khan 2019, ISBI (focal exponent)",
    tasks=("segment",),
)


class Tversky(nn.Module):
    """`loss(logits, target)` with target uint8 (B, 1, *S) indices if `exclusive`, else (B, K, *S) of 0 / 1; 255 is ignored.

    1 - TP / (TP + `false_positive` FP + `false_negative` FN), raised to `exponent` per class; .3 and .7 are the paper's
    best, .5 and .5 give soft Dice. Class 0 is left out where classes exclude each other.
    """

    def __init__(self, exclusive: bool, *, false_positive: float = 0.3, false_negative: float = 0.7, exponent: float = 1.0) -> None:
        super().__init__()
        self.exclusive, self.exponent, self.smooth = exclusive, exponent, 1e-5
        self.false_positive, self.false_negative = false_positive, false_negative

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """{"tversky": mean over classes and samples, in 0..1}."""
        start = first_class(self.exclusive, background=False)
        counts = soft_counts(*flat(logits, target, self.exclusive), self.exclusive)
        both, predicted, actual = (c[:, start:] for c in counts)
        price = both + self.false_positive * (predicted - both) + self.false_negative * (actual - both)
        wrong = 1 - (both + self.smooth) / (price + self.smooth)
        # Rounding can take 1 - 1 below zero, where a fractional power is not a number.
        return {"tversky": (wrong if self.exponent == 1 else wrong.clamp_min(1e-7) ** self.exponent).mean()}
