"""Learning from targets: one network, one optimiser, the loss of the task at every decoder scale.

AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101); norms and biases are not decayed.
"""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vesalius.core.card import Card
from vesalius.data.batch import Batch
from vesalius.methods import Method

CARD = Card(
    entry="Supervised", title="Supervised learning", summary="A network learns the targets that people drew.", tasks=("segment", "classify")
)


class Supervised(Method):
    """`net` with `heads(image) -> logits per scale`; `loss(heads, target) -> named terms`."""

    def __init__(self, net: nn.Module, loss: nn.Module, *, learning_rate: float, weight_decay: float) -> None:
        super().__init__()
        self.net, self.loss = net, loss
        self.learning_rate, self.weight_decay = learning_rate, weight_decay

    def optimisers(self) -> dict[str, Optimizer]:
        """AdamW; weights of more than one axis are decayed, norms and biases are not."""
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        others = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": others, "weight_decay": 0.0}]
        return {"net": AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.99), fused=True)}

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        heads = self.net.heads(batch["image"])  # type: ignore[operator]
        yield "net", self.loss(heads, batch["target"])

    def infer(self, image: Tensor) -> Tensor:
        logits: Tensor = self.net(image)
        return logits
