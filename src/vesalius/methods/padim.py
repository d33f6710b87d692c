"""PaDiM: at each place, a normal distribution of the features that normal images have there; strange is what is far from it.

Defard et al. 2021 (ICPR workshops): features of three scales, some of them chosen by chance; mean and covariance of each place; Mahalanobis
distance. Ours learns the features on the user's images, and scales what is added to the covariance by the mean variance, for features of
its own have no known scale.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from vesalius.core.card import Card
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.methods._kept import Keeper, every
from vesalius.methods._patches import LOOKED, Patches, Widths, as_rows, joined, whitening

CARD = Card(
    entry="Padim", title="PaDiM", paper="Defard et al. 2021, ICPR workshops", tasks=("anomaly",),
    summary="A normal distribution of features at each place of the image; for organs that always lie alike.",
    facts={"arguments": {"widths": (8, 8), "dimensions": 6}},
)  # fmt: skip


class Padim(Patches):
    """`dimensions` features are chosen of all (100 in the paper); `shrinkage` (0.01 there) times the mean variance is added to each."""

    net: Keeper

    def __init__(
        self, shape: Sequence[int], *, dimensions: int = 64, shrinkage: float = 0.01, widths: Widths = (),
        learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, widths=widths, looked=LOOKED, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if dimensions < 1 or shrinkage <= 0:
            raise UsageError(f"dimensions must be at least 1, and shrinkage above 0; got {dimensions} and {shrinkage}.")
        self.shrinkage = shrinkage
        number = min(dimensions, self.channels)
        chosen = torch.randperm(self.channels, generator=torch.Generator().manual_seed(seed))[:number].sort().values
        self.net = Keeper(self.drawn(), mean=torch.zeros(0, number), whitening=torch.zeros(0, number, number))
        self.net.register_buffer("chosen", chosen)

    def described(self, image: Tensor) -> Tensor:
        """(B, places, dimensions)."""
        return as_rows(joined(self.maps(image))[:, self.net.get_buffer("chosen")])

    @torch.no_grad()
    def gather(self, images: Iterable[Tensor]) -> None:
        """Mean and covariance of each place. Kept: the means, and what makes the differences from them white."""
        number, total, square, origin = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())
        for image in every(images):
            x = self.described(image.to(self.step.device)).double()
            origin = x.mean(0) if not number else origin  # sums of squares far from 0 would lose digits
            x = x - origin
            number, total, square = number + len(x), total + x.sum(0), square + torch.einsum("bpi,bpj->pij", x, x)
        if number < 2:
            raise VesaliusError(f"A covariance needs at least two training images; got {number}.")
        mean = total / number
        covariance = (square - number * mean[:, :, None] * mean[:, None]) / (number - 1)
        self.net.keep(mean=mean + origin, whitening=whitening(covariance, self.shrinkage))

    @torch.no_grad()
    def distances(self, image: Tensor) -> Tensor:
        """Mahalanobis distance of each place, (B, *s)."""
        mean, white = self.net.kept("mean"), self.net.kept("whitening")
        x = (self.described(image) - mean).transpose(0, 1)
        away: Tensor = torch.linalg.vector_norm(torch.bmm(x, white.transpose(1, 2)), dim=2)
        return away.T.reshape(len(image), *self.sides)

    def anomaly_map(self, image: Tensor) -> Tensor:
        return self.on_pixels(self.distances(image))

    def score(self, image: Tensor) -> Tensor:
        """The greatest of the map."""
        return self.anomaly_map(image).flatten(1).amax(1)
