"""Learning from targets: one network, one optimiser, the loss of the task at every decoder scale.

AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101); norms and biases are not decayed.
"""

from collections.abc import Iterator
from typing import Any, Self

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vesalius.core.card import Card
from vesalius.data.batch import Batch
from vesalius.methods import Method
from vesalius.methods._stages import frozen, layers
from vesalius.nets._prior import corrected, seen

CARD = Card(
    entry="Supervised", title="Supervised learning", summary="A network learns the targets that people drew.", tasks=("segment", "classify")
)


class Supervised(Method):
    """`net` with `heads(image) -> logits per scale`; `loss(heads, target) -> named terms`. The last `prior` channels of an image are log
    odds that the net corrects (nets/_prior.py). Of a batch of mixed cases (mixup) the losses of both targets count by their shares."""

    def __init__(self, net: nn.Module, loss: nn.Module, *, learning_rate: float, weight_decay: float, layer_decay: float = 1.0,
                 freeze: int = 0, prior: int = 0) -> None:  # fmt: skip
        super().__init__()
        self.prior = prior
        self.net, self.loss = net, loss
        self.learning_rate, self.weight_decay, self.layer_decay = learning_rate, weight_decay, layer_decay
        frozen(net, freeze)

    def optimisers(self) -> dict[str, Optimizer]:
        """AdamW; weights of more than one axis are decayed, norms and biases are not. The rate of each layer is `layer_decay` times
        that of the next; the last layers come first in the list."""
        stages = [list(self.net.parameters())] if self.layer_decay == 1 else list(reversed(layers(self.net)))
        groups: list[dict[str, Any]] = []
        for depth, stage in enumerate(stages):
            learned, rate = [p for p in stage if p.requires_grad], self.learning_rate * self.layer_decay**depth
            for weights, decay in (([p for p in learned if p.ndim > 1], self.weight_decay), ([p for p in learned if p.ndim <= 1], 0.0)):
                groups += [{"params": weights, "weight_decay": decay, "lr": rate}] if weights else []
        return {"net": AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.99), fused=True)}

    def train(self, mode: bool = True) -> Self:
        """As of any module; norms of frozen layers keep their means."""
        super().train(mode)
        for part in self.net.modules():
            weights = list(part.parameters())
            if weights and not any(p.requires_grad for p in weights):
                part.eval()
        return self

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image = batch["image"]
        heads = corrected(self.net.heads(seen(image, self.prior)), image, self.prior)  # type: ignore[operator]
        terms = self.loss(heads, batch["target"])
        if "mate" in batch.tensors:
            share, other = batch["share"][0], self.loss(heads, batch["mate"])
            terms = {name: share * term + (1 - share) * other[name] for name, term in terms.items()}
        yield "net", terms

    def infer(self, image: Tensor) -> Tensor:
        return corrected([self.net(seen(image, self.prior))], image, self.prior)[0]
