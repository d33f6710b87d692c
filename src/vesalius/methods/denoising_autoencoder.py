"""Denoising autoencoder: the code of a spoilt image must bring back the clean one.

Vincent et al. 2008 (ICML), 2010 (JMLR 11): Gaussian noise of a standard deviation, or a part of the pixels set to 0.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._coded import Coded, Holder, missed
from vesalius.methods._coder import Coder, Kind
from vesalius.methods._spoil import Spoil

CARD = Card(
    entry="DenoisingAutoencoder", title="Denoising autoencoder", paper="Vincent et al. 2010, JMLR 11", tasks=("pretrain", "anomaly"),
    summary="Learns codes that bring a clean image back from a spoilt one.",
    facts={"arguments": {"code": 8, "widths": (8, 8)}},
)  # fmt: skip


class DenoisingAutoencoder(Coded):
    """`spoil` says how images are spoilt while learning; answers are for images as they are."""

    def __init__(
        self, shape: Sequence[int], *, spoil: Spoil | None = None, kind: Kind = "convolutional", code: int = 64, widths: Sequence[int] = (),
        learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.spoil = spoil or Spoil()
        if self.spoil.amount <= 0:
            raise UsageError(f"A denoising autoencoder needs some noise; got an amount of {self.spoil.amount}. Use autoencoder for none.")
        self.net = Holder(Coder(self.shape, code, torch.Generator().manual_seed(seed), kind=kind, widths=widths))

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image = self.checked(batch["image"])
        spoilt = self.spoil(image, self.chance())
        yield "net", {"reconstruction": missed(image, self.coder.decode(self.coder.encode(spoilt)))}
        self.step += 1

    def code(self, image: Tensor) -> Tensor:
        return self.coder.encode(image)
