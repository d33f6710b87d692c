"""Several networks that answer together, explained together: the mean of their logits, and the mean of their heats."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from vesalius.explain._frame import Explanation


class Ensemble(nn.Module):
    """The mean of the logits of `networks`."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Tensor:
        return torch.stack([network(image) for network in self.networks]).mean(0)


@final
class MeanHeat(Explanation):
    """The mean over the networks of an Ensemble of their heats by `method`, for the class that they answer together.

    Nothing is scaled: a network whose logits change more by a place counts more there, as it does in the answer. What is linear in the
    logits, like occlusion of logits or integrated gradients, gives the heat of the joint answer itself."""

    def __init__(self, method: Explanation) -> None:
        self.method = method

    def run(self, net: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        assert isinstance(net, Ensemble)
        return torch.stack([self.method(one, image, target) for one in net.networks]).mean(0)
