"""SimCLR: two views of one image are to be nearer to each other than to any view of another image in the batch.

Chen, Kornblith, Norouzi & Hinton 2020 (ICML, arXiv:2002.05709): the NT-Xent loss on the unit sphere, behind a perceptron that is thrown
away. The temperature is theirs for small batches (.5, appendix B.9); ours learns with AdamW in place of LARS.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._crops import Crops
from vesalius.methods._described import Described, compared, perceptron
from vesalius.methods._trunk import Trunk, described

CARD = Card(
    entry="SimCLR", title="SimCLR", paper="Chen et al. 2020, ICML, arXiv:2002.05709", tasks=("pretrain",), tags=("views", "contrastive"),
    summary="Tells the two views of an image from those of all others in the batch.",
    facts={"arguments": {"trunk": {"name": "unet", "channels": (8, 16)}, "head": (16, 8)}},
)  # fmt: skip


class SimCLR(Described):
    """`head`: widths behind the trunk, the last that of the sphere."""

    def __init__(
        self, shape: Sequence[int], *, trunk: Trunk | None = None, views: Crops | Mapping[str, Any] | None = None, temperature: float = 0.5,
        head: Sequence[int] = (256, 128), learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, trunk, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if temperature <= 0:
            raise UsageError(f"A temperature is above 0; got {temperature}.")
        self.views, self.temperature = Crops.of(views), temperature
        self.net.pretext = self.drawn(perceptron((self.width, *head)))

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image, chance = self.checked(batch["image"]), self.chance()
        both = torch.cat([self.views(image, chance), self.views(image, chance)])
        first, second = self.net.pretext(described(self.net, both)).chunk(2)
        yield "net", {"contrast": nt_xent(compared(first), compared(second), self.temperature)}
        self.step += 1


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Mean over all 2B views of -log of the share that the other view has of exp(cosine / temperature) over all but itself (eq. 1)."""
    points = F.normalize(torch.cat([first, second]).float(), dim=1)
    alike = points @ points.T / temperature
    alike = alike.masked_fill(torch.eye(len(alike), dtype=torch.bool, device=alike.device), -torch.inf)
    other = torch.arange(len(points), device=points.device).roll(len(first))
    return F.cross_entropy(alike, other)
