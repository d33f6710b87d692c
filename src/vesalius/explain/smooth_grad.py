"""SmoothGrad: the gradient averaged over noisy copies of the image, which takes away its speckle."""

from typing import final

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.explain._frame import Explanation, input_gradient, over_space

CARD = Card(entry="SmoothGrad", title="SmoothGrad", summary="Gradients of noisy copies of the image, averaged",
            paper="Smilkov et al. 2017, arXiv 1706.03825", tasks=("classify",), tags=("gradient",))  # fmt: skip


@final
class SmoothGrad(Explanation):
    """`noise` is the standard deviation relative to the range of each image; 0.1 to 0.2 is the paper's advice, 50 its number of samples."""

    def __init__(self, *, samples: int = 25, noise: float = 0.15, seed: int = 0) -> None:
        if samples < 1 or noise < 0:
            raise UsageError(f"SmoothGrad needs at least one sample and noise of 0 or more; got {samples} and {noise}.")
        self.samples, self.noise, self.seed = samples, noise, seed

    def run(self, net: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        flat = image.flatten(1)
        spread = over_space(self.noise * (flat.amax(1) - flat.amin(1)), image)
        total = torch.zeros_like(image)
        for _ in range(self.samples):
            # One draw serves the whole batch, so that a sample does not depend on its batch mates.
            drawn = torch.randn(image.shape[1:], generator=generator).to(image)
            total += input_gradient(net, image + spread * drawn, target)
        return (total / self.samples).abs().amax(1)
