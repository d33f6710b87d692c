"""Gaussian-mixture VAE: the prior of the codes is a mixture of normals that is learned, so that images fall into groups.

Jiang et al. 2017 (IJCAI, VaDE), Dilokthanakul et al. 2016. Ours takes what a code costs, log q(z | x) - log p(z), at the drawn code with
the groups summed out, which is unbiased and needs no second encoder.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._chance import Chance
from vesalius.methods._coded import Holder, log_normal
from vesalius.methods._coder import Coder, Kind
from vesalius.methods._variational import VARIANCE, Variational, variational

CARD = Card(
    entry="GaussianMixtureVae", title="Gaussian-mixture VAE", paper="Jiang et al. 2017, IJCAI; Dilokthanakul et al. 2016",
    tasks=("pretrain", "anomaly"), summary="A variational autoencoder whose codes fall into groups.",
    facts={"arguments": {"code": 6, "groups": 3, "widths": (8, 8)}},
)  # fmt: skip


class Mixture(Holder):
    """The coder, and weights, means and log variances (groups, code) of the prior."""

    def __init__(self, coder: Coder, groups: int, generator: torch.Generator) -> None:
        super().__init__(coder, variance=VARIANCE)
        self.weight = nn.Parameter(torch.zeros(groups))
        self.mean = nn.Parameter(torch.randn(groups, coder.size, generator=generator))
        self.spread = nn.Parameter(torch.zeros(groups, coder.size))

    def log_prior(self, code: Tensor) -> Tensor:
        """log p(group, code): (B, groups)."""
        rows = [log_normal(code, mean, spread) for mean, spread in zip(self.mean, self.spread, strict=True)]
        return torch.stack(rows, 1) + torch.log_softmax(self.weight, 0)


class GaussianMixtureVae(Variational):
    """`groups` normals in the space of the codes."""

    net: Mixture

    def __init__(
        self, shape: Sequence[int], *, groups: int = 10, kind: Kind = "convolutional", code: int = 32, widths: Sequence[int] = (),
        learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if groups < 1:
            raise UsageError(f"A mixture has at least one group; got {groups}.")
        holder = variational(self.shape, code, seed, kind=kind, widths=widths)
        assert isinstance(holder.coder, Coder)
        self.net = Mixture(holder.coder, groups, torch.Generator().manual_seed(seed + 1))

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        likely, away = self.terms(self.checked(batch["image"]).float(), self.chance())
        yield "net", {"reconstruction": -likely.mean() / self.size, "divergence": away.mean() / self.size}
        self.step += 1

    def cost(self, mean: Tensor, log_variance: Tensor, code: Tensor) -> Tensor:
        """log q(code | image) - log p(code): its mean over draws is the divergence."""
        return log_normal(code, mean, log_variance) - torch.logsumexp(self.net.log_prior(code), 1)

    @torch.no_grad()
    def groups(self, image: Tensor) -> Tensor:
        """Probability of each group given the mean code: (B, groups)."""
        return torch.softmax(self.net.log_prior(self.code(self.checked(image).float())), 1)

    @torch.no_grad()
    def samples(self, number: int, *, group: int, seed: int = 0) -> Tensor:
        """`number` images decoded from codes of one group."""
        if not 0 <= group < len(self.net.weight):
            raise UsageError(f"Groups are 0 to {len(self.net.weight) - 1}; got {group}.")
        noise = Chance(seed, 0, self.step.device).normal((number, self.coder.size))
        return self.decoded(self.net.mean[group] + torch.exp(self.net.spread[group] / 2) * noise)
