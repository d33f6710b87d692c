"""Sparse autoencoder: each unit of the code is on for few images, on average `rate` of the time.

Ng 2011 (CS294A lecture notes): the divergence KL(rate || mean activity) of every unit, over the joint batch, is part of the loss; rate .05,
as there.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._coded import Coded, Holder, missed
from vesalius.methods._coder import Coder, Kind
from vesalius.methods._unlabelled import joint_mean

CARD = Card(
    entry="SparseAutoencoder", title="Sparse autoencoder", paper="Ng 2011, CS294A lecture notes", tasks=("pretrain", "anomaly"),
    summary="Each unit of the code speaks for few images.",
    facts={"arguments": {"code": 12, "kind": "dense", "widths": (16,)}},
)  # fmt: skip

RATE = 0.05
EDGE = 1e-4  # mean activities are kept this far from 0 and 1


class SparseAutoencoder(Coded):
    """Sigmoid codes; `weight` of the divergence beside the squared error."""

    def __init__(
        self, shape: Sequence[int], *, kind: Kind = "dense", code: int = 256, widths: Sequence[int] = (), weight: float = 1e-3,
        learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if weight <= 0:
            raise UsageError(f"The weight of sparsity must be above 0; got {weight}. Use autoencoder for none.")
        self.weight = weight
        self.net = Holder(Coder(self.shape, code, torch.Generator().manual_seed(seed), kind=kind, widths=widths))

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image = self.checked(batch["image"])
        code = self.code(image)
        yield "net", {"reconstruction": missed(image, self.coder.decode(code)), "sparsity": self.weight * sparsity(jointly(code))}
        self.step += 1

    def code(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.coder.encode(image).float())


def sparsity(activity: Tensor, rate: float = RATE) -> Tensor:
    """Sum over units of KL(rate || activity), both chances to be on."""
    activity = activity.clamp(EDGE, 1 - EDGE)
    on, off = torch.log(rate / activity), torch.log((1 - rate) / (1 - activity))
    return (rate * on + (1 - rate) * off).sum()


def jointly(code: Tensor) -> Tensor:
    """Mean over the samples of every process, with the gradient of this one's."""
    own = code.mean(0)
    return joint_mean(code.detach()) + own - own.detach()
