"""What variational autoencoders share: means and variances of a code, a draw of it, and the two terms of the bound."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vesalius.methods._chance import Chance
from vesalius.methods._coded import Coded, Holder, divergence, log_normal
from vesalius.methods._coder import Coder, Kind

VARIANCE = 0.1  # of the pixels around the decoded image, before learning
WIDEST = 10.0  # log variances of codes are kept within this


class Variational(Coded):
    """The encoder gives mean and log variance of each number of the code."""

    net: Holder

    def spread(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the code: (B, K) each."""
        mean, log_variance = self.coder.encode(image).float().chunk(2, 1)
        return mean, log_variance.clamp(-WIDEST, WIDEST)

    def code(self, image: Tensor) -> Tensor:
        return self.spread(image)[0]

    def terms(self, image: Tensor, chance: Chance) -> tuple[Tensor, Tensor]:
        """log p(image | a drawn code), and what the code costs: (B,) each."""
        mean, log_variance = self.spread(image)
        code = mean + torch.exp(log_variance / 2) * chance.normal(mean.shape)
        return self.log_likelihood(image, code), self.cost(mean, log_variance, code)

    def cost(self, mean: Tensor, log_variance: Tensor, code: Tensor) -> Tensor:
        """Divergence of the code's distribution from the prior: here in closed form from N(0, 1)."""
        return divergence(mean, log_variance)

    def log_likelihood(self, image: Tensor, code: Tensor) -> Tensor:
        """log p(image | code): (B,)."""
        assert self.net.log_variance is not None
        return log_normal(image, self.coder.decode(code).float(), self.net.log_variance)

    @torch.no_grad()
    def bound(self, image: Tensor, *, draws: int = 10, seed: int = 0) -> Tensor:
        """log p(image) is at least this, on average over draws: (B,) in nats."""
        image = self.checked(image).float()
        total = torch.zeros(len(image), device=image.device)
        for draw in range(draws):
            likely, away = self.terms(image, Chance(seed, draw, image.device))
            total = total + likely - away
        return total / draws

    def ways(self, number: int, steps: int, *, seed: int = 0) -> Tensor:
        """(number, steps, C, *S): from one image to another, turning one standard normal code to another in even steps."""
        ends = Chance(seed, 1, self.step.device).normal((2, number, self.coder.size))
        angle = torch.linspace(0, 1, steps, device=ends.device)[None, :, None] * torch.pi / 2
        code = torch.cos(angle) * ends[0, :, None] + torch.sin(angle) * ends[1, :, None]
        return self.decoded(code.flatten(0, 1)).reshape(number, steps, *self.shape)

    @torch.no_grad()
    def score(self, image: Tensor) -> Tensor:
        """Minus the bound on log p(image) with the mean code in place of a draw, in nats per number of the image."""
        image = self.checked(image).float()
        mean, log_variance = self.spread(image)
        return (self.cost(mean, log_variance, mean) - self.log_likelihood(image, mean)) / self.size

    @torch.no_grad()
    def decoded(self, code: Tensor) -> Tensor:
        """Images of codes."""
        return self.coder.decode(code)


def variational(
    shape: Sequence[int], code: int, seed: int, *, kind: Kind, widths: Sequence[int], variance: float = VARIANCE
) -> Holder:
    """A coder that gives two numbers for each of the code, and the variance of the pixels."""
    return Holder(Coder(shape, code, torch.Generator().manual_seed(seed), kind=kind, widths=widths, outputs=2), variance=variance)
