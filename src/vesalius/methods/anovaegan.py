"""AnoVAEGAN: a variational autoencoder whose code is a map, made to decode sharp images by a critic; what it cannot give back is strange.

Baur et al. 2018 (MICCAI BrainLes): the code keeps where things are; the absolute error, the divergence of the code, and the word of a
critic that tells images from decoded ones. The weights are ours: terms per number of the image, and `weight` for the critic's word.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._adversaries import Critic, Design, Recipe, drawn
from vesalius.methods._coded import divergence
from vesalius.methods._coder import fresh
from vesalius.methods._maps import MapCoder, pooled
from vesalius.methods._unlabelled import Unlabelled, decayed

CARD = Card(
    entry="Anovaegan", title="AnoVAEGAN", paper="Baur et al. 2018, MICCAI BrainLes", tasks=("anomaly",),
    summary="A variational autoencoder with maps for a code and a critic of what it decodes.",
    facts={"arguments": {"code": 4, "widths": (8, 8)}},
)  # fmt: skip

WIDEST = 10.0  # log variances are kept within this
BETAS = (0.5, 0.999)


class Both(nn.Module):
    """The coder, and the critic of what it decodes."""

    def __init__(self, coder: MapCoder, critic: Critic) -> None:
        super().__init__()
        self.coder, self.critic = coder, critic


class Anovaegan(Unlabelled):
    """`code` channels at half the sides for each of `widths`, which the critic has too; `weight` of its word."""

    net: Both

    def __init__(
        self, shape: Sequence[int], *, code: int = 16, widths: Sequence[int] = (32, 64, 64), weight: float = 0.01,
        learning_rate: float = 1e-3, weight_decay: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if weight < 0:
            raise UsageError(f"The weight of the critic's word must not be below 0; got {weight}.")
        self.weight, generator = weight, torch.Generator().manual_seed(seed)
        coder = MapCoder(self.shape, code, widths, outputs=2)
        fresh(coder, generator)
        critic = Critic(self.shape, Design(widths=tuple(widths)), Recipe())
        drawn(critic, generator, spread=None)
        self.net = Both(coder, critic)

    def optimisers(self) -> dict[str, Optimizer]:
        """One for each network."""
        parts = {"net": self.net.coder, "critic": self.net.critic}
        return {name: AdamW(decayed(part, self.weight_decay), lr=self.learning_rate, betas=BETAS) for name, part in parts.items()}

    def spread(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the map: (B, code, *s) each."""
        mean, log_variance = self.net.coder.encode(image).float().chunk(2, 1)
        return mean, log_variance.clamp(-WIDEST, WIDEST)

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image = self.checked(batch["image"]).float()
        mean, log_variance = self.spread(image)
        code = mean + torch.exp(log_variance / 2) * self.chance().normal(mean.shape)
        made = self.net.coder.decode(code).float()
        words = {"real": F.softplus(-self.net.critic(image)[1]), "made": F.softplus(self.net.critic(made.detach())[1])}
        yield "critic", {name: word.mean() for name, word in words.items()}
        still = {name: value.detach() for name, value in self.net.critic.named_parameters()}
        taken = F.softplus(-functional_call(self.net.critic, still, (made,))[1]).mean()
        yield "net", {"reconstruction": F.l1_loss(made, image), "divergence": divergence(mean, log_variance).mean() / self.size,
                      "taken": self.weight * taken}  # fmt: skip
        self.step += 1

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """The image decoded from the mean of its map."""
        return self.net.coder.decode(self.spread(self.checked(image).float())[0])

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """The mean map, averaged over blocks that leave at most four to each side."""
        return pooled(self.spread(self.checked(image).float())[0])

    def score(self, image: Tensor) -> Tensor:
        """Mean absolute difference between the image and what its map says."""
        return (self.infer(image) - image).abs().flatten(1).mean(1)
