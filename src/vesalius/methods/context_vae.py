"""Context-encoding VAE: beside its bound, it brings the whole image back from one with a box missing.

Zimmerer et al. 2018 (arXiv:1812.05941): the mean code of the spoilt image, not a draw, is decoded; both branches share the coder and
weigh alike. Its map of anomalies is the product that the authors combine (Zimmerer et al. 2019, MICCAI).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._chance import Chance
from vesalius.methods._coder import Kind
from vesalius.methods._spoil import boxed
from vesalius.methods._variational import Variational, variational

CARD = Card(
    entry="ContextVae", title="Context-encoding VAE", paper="Zimmerer et al. 2018, arXiv:1812.05941",
    tasks=("pretrain", "anomaly", "generate"),
    summary="A variational autoencoder that also fills in what is missing from an image.",
    facts={"arguments": {"code": 6, "widths": (8, 8)}},
)  # fmt: skip


class ContextVae(Variational):
    """`share` of each side is the box that is missing."""

    def __init__(
        self, shape: Sequence[int], *, share: float = 0.5, kind: Kind = "convolutional", code: int = 32, widths: Sequence[int] = (),
        learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if not 0 < share < 1:
            raise UsageError(f"The box that is missing has a share of each side between 0 and 1; got {share}.")
        self.share = share
        self.net = variational(self.shape, code, seed, kind=kind, widths=widths)

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image, chance = self.checked(batch["image"]).float(), self.chance()
        likely, away = self.terms(image, chance)
        context = self.log_likelihood(image, self.code(boxed(image, chance, share=self.share)))
        losses = {"reconstruction": -likely.mean(), "divergence": away.mean(), "context": -context.mean()}
        yield "net", {word: loss / (2 * self.size) for word, loss in losses.items()}
        self.step += 1

    def anomaly_map(self, image: Tensor) -> Tensor:
        """The residual times the size of the divergence's gradient: what is badly given back where the code finds the image unlikely."""
        with torch.inference_mode(False), torch.enable_grad():
            asked = self.checked(image).float().detach().clone().requires_grad_()
            mean, log_variance = self.spread(asked)
            (slope,) = torch.autograd.grad(self.cost(mean, log_variance, mean).sum(), [asked])
        return super().anomaly_map(image) * slope.abs().mean(1, keepdim=True)

    def samples(self, number: int, *, seed: int = 0) -> Tensor:
        """`number` images decoded from codes of the prior."""
        return self.decoded(Chance(seed, 0, self.step.device).normal((number, self.coder.size)))

    def between(self, number: int, steps: int, *, seed: int = 0) -> Tensor:
        """(number, steps, C, *S): from one image to another."""
        return self.ways(number, steps, seed=seed)
