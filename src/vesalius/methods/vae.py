"""Variational autoencoder: codes with a distribution, images with a likelihood, and a bound on it.

Kingma & Welling 2014 (ICLR). Pixels are normal around the decoded image with one variance that is learned (Rybkin et al. 2021), so that
the bound is one of a density and nothing is balanced by hand; `beta` other than 1 weighs the divergence (Higgins et al. 2017, beta-VAE).
Losses are in nats per number of the image.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._chance import Chance
from vesalius.methods._coder import Kind
from vesalius.methods._variational import VARIANCE, Variational, variational

CARD = Card(
    entry="Vae", title="Variational autoencoder", paper="Kingma & Welling 2014, ICLR; Higgins et al. 2017, ICLR",
    tasks=("pretrain", "anomaly"),
    summary="Codes with a distribution and a bound on the likelihood of images; beta-VAE by one setting.", tags=("beta-VAE",),
    facts={"arguments": {"code": 6, "widths": (8, 8)}},
)  # fmt: skip


class Vae(Variational):
    """`code` numbers with means and variances for each image."""

    def __init__(
        self, shape: Sequence[int], *, kind: Kind = "convolutional", code: int = 32, widths: Sequence[int] = (), beta: float = 1.0,
        learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if beta <= 0:
            raise UsageError(f"beta weighs the divergence and must be above 0; got {beta}.")
        self.beta = beta
        self.net = variational(self.shape, code, seed, kind=kind, widths=widths, variance=VARIANCE)

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        likely, away = self.terms(self.checked(batch["image"]).float(), self.chance())
        yield "net", {"reconstruction": -likely.mean() / self.size, "divergence": self.beta * away.mean() / self.size}
        self.step += 1

    def samples(self, number: int, *, seed: int = 0) -> Tensor:
        """`number` images decoded from codes of the prior."""
        return self.decoded(Chance(seed, 0, self.step.device).normal((number, self.coder.size)))
