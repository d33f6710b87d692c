"""Grad-CAM: the last feature maps of a convolutional network, weighted by how much each raises the class score."""

from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.explain._frame import Explanation, enlarged, maps_and_gradient, over_space

CARD = Card(entry="GradCAM", title="Grad-CAM", summary="Last feature maps weighted by their mean gradient",
            paper="Selvaraju et al. 2017, ICCV", tasks=("classify",), tags=("cam",))  # fmt: skip


@final
class GradCAM(Explanation):
    """relu(sum_k a_k A_k), a_k the mean over places of d score / d A_k (equations 1 and 2); enlarged linearly to the image."""

    needs = ("trunk", "classify")

    def run(self, net: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        maps, slope = maps_and_gradient(net, image, target)
        weight = slope.flatten(2).mean(2)
        return enlarged(F.relu((over_space(weight, maps) * maps).sum(1)), image.shape[2:])
