"""The plain gradient of a class score: where a small change of the image would change the answer most."""

from typing import final

from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.explain._frame import Explanation, input_gradient

CARD = Card(entry="Gradient", title="Gradient", summary="Size of the gradient of the class score, the largest over channels",
            paper="Simonyan, Vedaldi and Zisserman 2014, ICLR workshop", tasks=("classify",), tags=("gradient",))  # fmt: skip


@final
class Gradient(Explanation):
    """|d score / d image|, the largest over the channels."""

    def run(self, net: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        return input_gradient(net, image, target).abs().amax(1)
