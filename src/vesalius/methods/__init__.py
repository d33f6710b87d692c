"""Ways of learning. A method says which optimisers it has and yields losses in the order in which it learns."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from torch import Tensor, nn
from torch.optim import Optimizer

from vesalius.core.shelf import Shelf
from vesalius.data.batch import Batch

METHODS = Shelf("methods")


class Method(nn.Module, ABC):
    """Abstract or final: never subclass a concrete method, write another file."""

    @abstractmethod
    def optimisers(self) -> dict[str, Optimizer]:
        """One for a U-Net, two for a GAN."""

    @abstractmethod
    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Yield (optimiser name, losses); the loop sums, does backward and step before it asks for the next."""

    def progress(self, share: float) -> None:
        """Called before each step with how much of training has passed, 0..1; parts that change on the way (a loss) are told."""
        for part in self.children():
            if callable(told := getattr(part, "progress", None)):
                told(share)

    @abstractmethod
    def infer(self, image: Tensor) -> Tensor:
        """What the trained method makes of `image` (B, C, *S): logits, an image, a score."""
