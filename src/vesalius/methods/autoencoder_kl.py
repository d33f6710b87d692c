"""AutoencoderKL: a variational autoencoder whose code is a map, hardly held to its prior; the first stage of latent diffusion.

Rombach et al. 2022 (CVPR): residual blocks at each scale, absolute error, and the divergence from N(0, 1) at a weight of 1e-6. Ours leaves
out their perceptual and adversarial terms, which need a network pre-trained on photographs or a critic.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._coded import Holder, divergence
from vesalius.methods._coder import fresh
from vesalius.methods._maps import MapCoder, pooled
from vesalius.methods._unlabelled import Unlabelled, decayed

CARD = Card(
    entry="AutoencoderKl", title="AutoencoderKL", paper="Rombach et al. 2022, CVPR", tasks=("pretrain", "anomaly"),
    summary="Images as small maps with a distribution: the first stage of latent diffusion.",
    facts={"arguments": {"code": 3, "widths": (8, 8)}},
)  # fmt: skip

WIDEST = 20.0  # log variances are kept within -30 and this, as there
NARROWEST = -30.0


class AutoencoderKl(Unlabelled):
    """`code` channels at half the sides for each of `widths`; `weight` of the divergence, summed over the code and per pixel."""

    def __init__(
        self, shape: Sequence[int], *, code: int = 4, widths: Sequence[int] = (32, 64), weight: float = 1e-6, learning_rate: float = 1e-3,
        weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if weight < 0:
            raise UsageError(f"The weight of the divergence must not be below 0; got {weight}.")
        self.weight = weight
        self.net = Holder(fresh(MapCoder(self.shape, code, widths, outputs=2, residual=True), torch.Generator().manual_seed(seed)))

    def optimisers(self) -> dict[str, Optimizer]:
        """AdamW; weights are decayed, biases are not."""
        return {"net": torch.optim.AdamW(decayed(self.net, self.weight_decay), lr=self.learning_rate, betas=(0.9, 0.99))}

    def spread(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the map: (B, code, *s) each."""
        mean, log_variance = self.coder.encode(image).float().chunk(2, 1)
        return mean, log_variance.clamp(NARROWEST, WIDEST)

    @property
    def coder(self) -> MapCoder:
        """Encoder and decoder."""
        coder = self.net.coder
        assert isinstance(coder, MapCoder)
        return coder

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image = self.checked(batch["image"])
        mean, log_variance = self.spread(image)
        maps = mean + torch.exp(log_variance / 2) * self.chance().normal(mean.shape)
        error = (self.coder.decode(maps).float() - image).abs().mean()
        yield "net", {"reconstruction": error, "divergence": self.weight * divergence(mean, log_variance).mean() / self.size}
        self.step += 1

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """The image decoded from the mean of its map."""
        return self.coder.decode(self.spread(self.checked(image).float())[0])

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """The mean map, averaged over blocks that leave at most four to each side."""
        return pooled(self.spread(self.checked(image).float())[0])

    def score(self, image: Tensor) -> Tensor:
        """Mean squared difference between the image and what its map says."""
        return (self.infer(image) - image).square().flatten(1).mean(1)
