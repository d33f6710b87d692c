"""PatchCore: a memory of the patches of normal images, thinned out; strange is what is far from all of them.

Roth et al. 2022 (CVPR): features of two scales, each meaned with its neighbours; the greedy k-centre on a random projection chooses what is
kept; the distance to the nearest, and for the image that of its strangest patch, weighed by how alone its neighbour stands (equation 7).
Ours learns the features on the user's images, whitens them, and is bounded in memory however many images there are.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.methods._chance import Chance
from vesalius.methods._coreset import centres, nearest, projected, squared
from vesalius.methods._kept import Keeper, every
from vesalius.methods._patches import SHRINKAGE, Patches, Widths, around, as_rows, joined, whitening

CARD = Card(
    entry="Patchcore", title="PatchCore", paper="Roth et al. 2022, CVPR", tasks=("anomaly",),
    summary="Distance of each patch to the nearest in a memory of normal ones, wherever that was.",
    facts={"arguments": {"widths": (8, 8)}},
)  # fmt: skip

POOL = 200_000  # patches, drawn from all, among which the memory is chosen


class Patchcore(Patches):
    """A `share` of all patches, at most `most`, is kept; `neighbours` of the nearest one weigh the score of an image."""

    net: Keeper

    def __init__(
        self, shape: Sequence[int], *, share: float = 0.1, most: int = 10_000, neighbours: int = 9, widths: Widths = (),
        learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, widths=widths, looked=2, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if not 0 < share <= 1 or min(most, neighbours) < 1:
            found = f"{share}, {most} and {neighbours}"
            raise UsageError(f"share lies in 0..1, not 0; most and neighbours are at least 1; got {found}.")
        self.share, self.most, self.neighbours = share, most, neighbours
        self.net = Keeper(self.drawn(), bank=torch.zeros(0, self.channels), whitening=torch.zeros(0, *(self.channels,) * 2))

    def described(self, image: Tensor) -> Tensor:
        """(B, places, K): each place with its neighbours, two scales."""
        return as_rows(joined([around(maps) for maps in self.maps(image)], linear=True))

    @torch.no_grad()
    def gather(self, images: Iterable[Tensor]) -> None:
        """Every patch, or as many of them drawn by chance as memory may hold; kept are those that lie close to all."""
        rows, total = self.drawn_patches(images)
        white = whitening(torch.cov(rows.double().T).reshape(1, self.channels, self.channels), SHRINKAGE).float()
        rows, number = rows @ white[0].T, max(1, min(self.most, round(self.share * total), len(rows)))
        self.net.keep(bank=rows[centres(projected(rows, seed=int(self.seed)), number)], whitening=white)

    def drawn_patches(self, images: Iterable[Tensor]) -> tuple[Tensor, int]:
        """At most POOL patches (N, K) in the order of a lot that each draws, and how many there were."""
        rows, lots, total = self.net.get_buffer("bank")[:0], self.step.new_zeros(0, dtype=torch.float32), 0
        for number, image in enumerate(every(images)):
            found = self.described(image.to(self.step.device)).flatten(0, 1)
            total += len(found)
            lots = torch.cat([lots, Chance(int(self.seed), number, self.step.device).uniform((len(found),))])
            order = torch.argsort(lots, stable=True)[:POOL]
            rows, lots = torch.cat([rows, found])[order], lots[order]
        return rows, total

    @torch.no_grad()
    def compared(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """White patches (B, places, K), the distance of each to the nearest kept one, and which that is, (B, places) each."""
        rows = self.described(image) @ self.net.kept("whitening")[0].T
        away, which = nearest(rows.flatten(0, 1), self.net.kept("bank"))
        return rows, away.reshape(rows.shape[:2]), which.reshape(rows.shape[:2])

    def anomaly_map(self, image: Tensor) -> Tensor:
        return self.on_pixels(self.compared(image)[1].reshape(len(image), *self.sides))

    @torch.no_grad()
    def score(self, image: Tensor) -> Tensor:
        """The distance of the strangest patch, weighed down where its nearest neighbour is one of many alike."""
        rows, away, which = self.compared(image)
        most, place = away.max(1)
        each = torch.arange(len(rows), device=rows.device)
        return most * alone(rows[each, place], which[each, place], self.net.kept("bank"), neighbours=self.neighbours)


def alone(patch: Tensor, nearest: Tensor, bank: Tensor, *, neighbours: int) -> Tensor:
    """1 - exp|x - m*| / sum of exp|x - m| over the `neighbours` m nearest to m* in the bank, itself among them: (B,) (Roth et al. 2022,
    equation 7); 1 where there are no others."""
    number = min(neighbours, len(bank))
    if number < 2:
        return torch.ones(len(patch), device=patch.device)
    apart = squared(bank[nearest], bank)
    apart[torch.arange(len(patch), device=patch.device), nearest] = -1  # itself first, whatever lies at the same place
    about = bank[apart.topk(number, largest=False).indices]
    return 1 - torch.softmax((patch[:, None] - about).norm(dim=2), 1)[:, 0]
