"""Contractive autoencoder: the code moves little where the image does.

Rifai et al. 2011 (ICML): h = sigmoid(W x + b), decoded by the same W; the loss adds the squared Frobenius norm of dh/dx, which for this
encoder is exactly sum_j (h_j (1 - h_j))^2 sum_i W_ji^2.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._coded import missed
from vesalius.methods._unlabelled import Unlabelled, decayed

CARD = Card(
    entry="ContractiveAutoencoder", title="Contractive autoencoder", paper="Rifai et al. 2011, ICML", tasks=("pretrain", "anomaly"),
    summary="A code that hardly moves with the image, by the exact norm of its Jacobian.",
    facts={"arguments": {"code": 16}},
)  # fmt: skip


class Tied(nn.Module):
    """Weights (code, n) that lead up and, transposed, down."""

    def __init__(self, size: int, code: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(code, size, generator=generator) * size**-0.5)
        self.up, self.down = nn.Parameter(torch.zeros(code)), nn.Parameter(torch.zeros(size))

    def encode(self, units: Tensor) -> Tensor:
        """(B, code) between 0 and 1."""
        return torch.sigmoid(F.linear(units, self.weight, self.up).float())

    def decode(self, code: Tensor) -> Tensor:
        """(B, n)."""
        return F.linear(code, self.weight.T, self.down)

    def contraction(self, code: Tensor) -> Tensor:
        """Squared Frobenius norm of the Jacobian of `encode` at the images with this code: (B,)."""
        return (code * (1 - code)).square() @ self.weight.float().square().sum(1)


class ContractiveAutoencoder(Unlabelled):
    """`weight` of the mean squared norm of the Jacobian beside the squared error."""

    def __init__(
        self, shape: Sequence[int], *, code: int = 256, weight: float = 1e-3, learning_rate: float = 1e-3, weight_decay: float = 1e-4,
        seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if weight <= 0 or code < 1:
            raise UsageError(f"The weight of the contraction must be above 0 and the code have a unit; got {weight} and {code}.")
        self.weight = weight
        self.net = Tied(self.size, code, torch.Generator().manual_seed(seed))

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """AdamW; weights are decayed, biases are not."""
        return {"net": torch.optim.AdamW(decayed(self.net, self.weight_decay), lr=self.learning_rate, betas=(0.9, 0.99))}

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        units = self.units(batch["image"])
        code = self.net.encode(units)
        contraction = self.weight * self.net.contraction(code).mean()
        yield "net", {"reconstruction": missed(units, self.net.decode(code)), "contraction": contraction}
        self.step += 1

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """The image decoded from its code."""
        return self.as_image(self.net.decode(self.net.encode(self.units(image))))

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        return self.net.encode(self.units(image))

    def score(self, image: Tensor) -> Tensor:
        """Mean squared difference between the image and what its code says."""
        return (self.infer(image) - image).square().flatten(1).mean(1)
