"""What every autoencoder shares: a coder, AdamW, the image decoded from its code, and how far that is from the image."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vesalius.methods._coder import Coder
from vesalius.methods._unlabelled import Unlabelled, decayed


class Coded(Unlabelled):
    """`self.net.coder` encodes and decodes; `code(image)` is what a probe looks at."""

    halves = True
    net: nn.Module

    def optimisers(self) -> dict[str, Optimizer]:
        """AdamW; weights are decayed, biases are not."""
        return {"net": self.teacher(self.net)}

    def teacher(self, *nets: nn.Module) -> Optimizer:
        """AdamW for the weights of `nets`."""
        return AdamW(decayed(nn.ModuleList(nets), self.weight_decay), lr=self.learning_rate, betas=(0.9, 0.99))

    @property
    def coder(self) -> Coder:
        """Encoder and decoder."""
        coder = self.net.coder
        assert isinstance(coder, Coder)
        return coder

    @abstractmethod
    def code(self, image: Tensor) -> Tensor:
        """(B, K) without chance: what `infer` decodes."""

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """The image decoded from its code."""
        return self.coder.decode(self.code(self.checked(image).float()))

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        return self.code(self.checked(image).float())

    def score(self, image: Tensor) -> Tensor:
        """Mean squared difference between the image and what its code says."""
        return (self.infer(image) - image).square().flatten(1).mean(1)


class Holder(nn.Module):
    """The coder under a name, so that weights of every autoencoder are laid out alike; `log_variance` of the pixels if asked for."""

    def __init__(self, coder: nn.Module, *, variance: float | None = None) -> None:
        super().__init__()
        self.coder = coder
        self.log_variance = nn.Parameter(torch.tensor(math.log(variance))) if variance else None


def missed(image: Tensor, found: Tensor) -> Tensor:
    """Mean squared error, in float32."""
    return (image.float() - found.float()).square().mean()


def log_normal(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log density of independent normal numbers, summed over all axes but the first: (B,)."""
    each = (x - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi)
    return -0.5 * each.expand_as(x).flatten(1).sum(1)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)), summed over all axes but the first: (B,) (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)
