"""VQ-VAE: codes are places in a small dictionary, one for each block of the image.

van den Oord, Vinyals & Kavukcuoglu 2017 (NeurIPS): each vector of the encoder's map is replaced by the nearest entry; the gradient of the
decoder passes straight through to the encoder, entries move to the vectors they stand for, and vectors keep to their entries (weight .25).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._coded import missed
from vesalius.methods._coder import fresh
from vesalius.methods._maps import MapCoder, pooled
from vesalius.methods._unlabelled import Unlabelled, decayed

CARD = Card(
    entry="VqVae", title="VQ-VAE", paper="van den Oord et al. 2017, NeurIPS", tasks=("pretrain", "anomaly"),
    summary="Images as maps of entries of a learned dictionary.",
    facts={"arguments": {"code": 4, "entries": 16, "widths": (8, 8)}},
)  # fmt: skip

COMMITMENT = 0.25


class Dictionary(nn.Module):
    """`entries` vectors of `code` numbers beside the coder."""

    def __init__(self, shape: Sequence[int], code: int, widths: Sequence[int], *, entries: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.coder = MapCoder(shape, code, widths)
        fresh(self.coder, generator)
        self.entries = nn.Parameter((2 * torch.rand(entries, code, generator=generator) - 1) / entries)  # as van den Oord et al.

    def nearest(self, maps: Tensor) -> Tensor:
        """Index of the nearest entry to each vector of `maps` (B, K, *s): (B, *s)."""
        rows = maps.movedim(1, -1)
        away = self.entries.square().sum(1) - 2 * rows @ self.entries.T  # the vector's own length is the same for all entries
        return away.argmin(-1)

    def entry(self, index: Tensor) -> Tensor:
        """The entries at `index`, as maps (B, K, *s)."""
        return self.entries[index].movedim(-1, 1)


class VqVae(Unlabelled):
    """`entries` of `code` numbers; the map has half the sides of the image for each of `widths`."""

    def __init__(
        self, shape: Sequence[int], *, code: int = 16, entries: int = 256, widths: Sequence[int] = (32, 64), learning_rate: float = 1e-3,
        weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if entries < 2 or code < 1:
            raise UsageError(f"A dictionary has at least two entries of at least one number; got {entries} of {code}.")
        self.net = Dictionary(self.shape, code, widths, entries=entries, seed=seed)

    def optimisers(self) -> dict[str, Optimizer]:
        """AdamW; weights are decayed, biases are not."""
        return {"net": torch.optim.AdamW(decayed(self.net, self.weight_decay), lr=self.learning_rate, betas=(0.9, 0.99))}

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image = self.checked(batch["image"])
        maps = self.net.coder.encode(image).float()
        entry = self.net.entry(self.net.nearest(maps.detach()))
        found = self.net.coder.decode(straight_through(maps, entry))
        pulled = F.mse_loss(entry, maps.detach()), F.mse_loss(maps, entry.detach())
        yield "net", {"reconstruction": missed(image, found), "dictionary": pulled[0], "commitment": COMMITMENT * pulled[1]}
        self.step += 1

    @torch.no_grad()
    def codes(self, image: Tensor) -> Tensor:
        """Index of the entry at each place of the map: (B, *s)."""
        return self.net.nearest(self.net.coder.encode(self.checked(image).float()))

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """The image decoded from the nearest entries."""
        return self.net.coder.decode(self.net.entry(self.codes(image)))

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """The entries, averaged over blocks that leave at most four to each side."""
        return pooled(self.net.entry(self.codes(image)))

    def score(self, image: Tensor) -> Tensor:
        """Mean squared difference between the image and what its entries say."""
        return (self.infer(image) - image).square().flatten(1).mean(1)


def straight_through(maps: Tensor, entry: Tensor) -> Tensor:
    """The value of `entry` with the gradient of `maps`."""
    return maps + (entry - maps).detach()
