"""Grad-CAM++: feature maps weighted place by place, so that several small objects of a class count as much as one large one."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.explain._frame import Explanation, enlarged, maps_and_gradient, over_space

CARD = Card(entry="GradCAMPlusPlus", title="Grad-CAM++", summary="Last feature maps weighted by their positive gradients, place by place",
            paper="Chattopadhay et al. 2018, WACV", tasks=("classify",), tags=("cam",))  # fmt: skip


@final
class GradCAMPlusPlus(Explanation):
    """relu(sum_k w_k A_k), w_k = sum over places of alpha relu(d score / d A) with alpha of equation 19.

    The score is exp(logit), whose second and third derivatives are powers of the first where `classify` is piecewise linear; the factor
    exp(logit) itself scales the whole heat and is left out.
    """

    needs = ("trunk", "classify")

    def run(self, net: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        maps, slope = maps_and_gradient(net, image, target)
        square, cube = slope**2, slope**3
        below = 2 * square + over_space(maps.flatten(2).sum(2), maps) * cube
        alpha = torch.where(below.abs() > 1e-12, square / torch.where(below.abs() > 1e-12, below, 1), 0)
        weight = (alpha * F.relu(slope)).flatten(2).sum(2)
        return enlarged(F.relu((over_space(weight, maps) * maps).sum(1)), image.shape[2:])
