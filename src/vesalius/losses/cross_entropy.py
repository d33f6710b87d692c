"""Cross entropy per voxel or image: softmax where classes exclude each other, sigmoid where they overlap.

Label smoothing after Szegedy et al. 2016: the truth is held to be certain by 1 - smoothing, the rest is spread over the classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import VesaliusError
from vesalius.losses._counts import class_weights, flat, require_weights, sample_mean, voxel_cross_entropy, weighted

CARD = Card(
    entry="CrossEntropy",
    title="Cross entropy",
    summary="Negative log likelihood of the true class, meaned over voxels or images; with label smoothing and class weights.",
    paper="Good 1952, J. R. Stat. Soc. B 14, 107-114; Szegedy et al. 2016, CVPR (label smoothing)",
    tasks=("segment", "classify"),
)


class CrossEntropy(nn.Module):
    """`loss(logits, target)` with target uint8 (B, 1, *S) indices if `exclusive`, else (B, K, *S) of 0 / 1; 255 is ignored.

    `smoothing` in 0..1 is the share of the truth that is spread evenly over the K classes (of overlapping ones: over yes
    and no). `weights` (K,) multiply what is truly in class k; the mean is over cases, not over weights, so that a batch
    without the rare class weighs less.
    """

    weights: Tensor | None

    def __init__(self, exclusive: bool, *, smoothing: float = 0.0, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise VesaliusError(f"Expected label smoothing of 0 or more and below 1; got {smoothing}.")
        self.exclusive, self.smoothing = exclusive, smoothing
        self.register_buffer("weights", class_weights(weights), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """{"cross_entropy": nats, mean over what is not ignored in each sample, then over samples}."""
        require_weights(self.weights, logits)
        logits, target = flat(logits, target, self.exclusive)
        entropy, valid = voxel_cross_entropy(logits, target, self.exclusive)
        if self.smoothing:
            entropy = (1 - self.smoothing) * entropy + self.smoothing * self._even(logits) * valid
        return {"cross_entropy": sample_mean(weighted(entropy, target, self.weights, exclusive=self.exclusive), valid)}

    def _even(self, logits: Tensor) -> Tensor:
        """Cross entropy of an even distribution."""
        if self.exclusive:
            return -logits.log_softmax(1).mean(1, keepdim=True)
        return (nn.functional.softplus(logits) + nn.functional.softplus(-logits)) / 2
