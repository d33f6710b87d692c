"""Autoencoder: an image through a narrow code and back, judged by the squared error.

Rumelhart, Hinton & Williams 1986; Hinton & Salakhutdinov 2006 (Science 313). A linear one learns the subspace of principal components
(Baldi & Hornik 1989). Convolutional by default.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vesalius.core.card import Card
from vesalius.data.batch import Batch
from vesalius.methods._coded import Coded, Holder, missed
from vesalius.methods._coder import Coder, Kind

CARD = Card(
    entry="Autoencoder", title="Autoencoder", paper="Hinton & Salakhutdinov 2006, Science 313", tasks=("pretrain", "anomaly"),
    summary="Images through a narrow code and back: linear, dense or convolutional.", tags=("convolutional", "linear", "dense"),
    facts={"arguments": {"code": 8, "widths": (8, 8)}},
)  # fmt: skip


class Autoencoder(Coded):
    """`code` numbers for each image; `widths` as in `Coder`."""

    def __init__(
        self, shape: Sequence[int], *, kind: Kind = "convolutional", code: int = 64, widths: Sequence[int] = (),
        learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.net = Holder(Coder(self.shape, code, torch.Generator().manual_seed(seed), kind=kind, widths=widths))

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image = self.checked(batch["image"])
        yield "net", {"reconstruction": missed(image, self.coder.decode(self.coder.encode(image)))}
        self.step += 1

    def code(self, image: Tensor) -> Tensor:
        return self.coder.encode(image)
