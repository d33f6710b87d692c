"""MoCo: a view is to be nearer to another view of its image than to views of many images that a slower network has seen before.

He, Fan, Wu, Xie & Girshick 2020 (CVPR, arXiv:1911.05722): a queue of keys and an encoder that follows by momentum; the perceptron and the
stronger views are those of version 2 (Chen et al. 2020, arXiv:2003.04297). Ours does not shuffle batch normalisation: there is one device
as a rule, so the statistics of a view's batch mates stay a hint.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.core.settings import Settings
from vesalius.data.batch import Batch
from vesalius.methods._crops import Crops
from vesalius.methods._described import Described, Follower, everyone, perceptron
from vesalius.methods._trunk import Trunk, described

CARD = Card(
    entry="MoCo", title="MoCo", paper="He et al. 2020, CVPR, arXiv:1911.05722", tasks=("pretrain",),
    summary="Tells the two views of an image from a queue of views seen before; small batches will do.",
    tags=("views", "contrastive", "momentum"),
    facts={"arguments": {"trunk": {"name": "unet", "channels": (8, 16)}, "queue": {"length": 16, "temperature": 0.2, "head": (16, 8)}}},
)  # fmt: skip


class Queue(Settings):
    """`length` keys (published: 65,536, for a million images), `temperature` of the softmax, `momentum` of the encoder of keys, widths of
    the `head`, the last that of a key."""

    length: int = 1024
    temperature: float = 0.2
    momentum: float = 0.99
    head: tuple[int, ...] = (256, 128)


class MoCo(Described):
    """`queue` as `Queue` or words for one; a momentum of .99 suits thousands of steps, the published .999 hundreds of thousands."""

    keys: Tensor
    front: Tensor

    def __init__(
        self, shape: Sequence[int], *, trunk: Trunk | None = None, views: Crops | Mapping[str, Any] | None = None,
        queue: Queue | Mapping[str, Any] | None = None, learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, trunk, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.views, self.queue = Crops.of(views), queue if isinstance(queue, Queue) else Queue.checked(dict(queue or {}), where="queue")
        if self.queue.length < 1 or not 0 <= self.queue.momentum < 1 or self.queue.temperature <= 0 or not self.queue.head:
            raise UsageError(f"A queue has at least one key, a momentum in [0, 1), a temperature above 0 and a head; got {self.queue}.")
        self.net.pretext = self.drawn(perceptron((self.width, *self.queue.head)))
        self.slow = Follower(self.net)
        keys = torch.randn(self.queue.length, self.queue.head[-1], generator=torch.Generator().manual_seed(seed + 2))
        self.register_buffer("keys", F.normalize(keys, dim=1))
        self.register_buffer("front", torch.zeros((), dtype=torch.int64))

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image, chance = self.checked(batch["image"]), self.chance()
        one, other = self.views(image, chance), self.views(image, chance)
        query = F.normalize(self.net.pretext(described(self.net, one)).float(), dim=1)
        with torch.no_grad():
            key = F.normalize(self.slow.copy.pretext(described(self.slow.copy, other)).float(), dim=1)  # type: ignore[operator]
        yield "net", {"contrast": info_nce(query, key, self.keys.clone(), temperature=self.queue.temperature)}
        self.slow.follow(self.net, self.queue.momentum)
        self.enqueue(everyone(key))
        self.step += 1

    @torch.no_grad()
    def enqueue(self, key: Tensor) -> None:
        """`key` (B, K) in the place of the oldest keys."""
        key = key[-len(self.keys) :]
        place = (int(self.front) + torch.arange(len(key), device=key.device)) % len(self.keys)
        self.keys[place] = key
        self.front.copy_((self.front + len(key)) % len(self.keys))


def info_nce(query: Tensor, key: Tensor, others: Tensor, *, temperature: float) -> Tensor:
    """-log of the share that each query's own key has of exp(inner product / temperature) over it and `others` (eq. 1)."""
    alike = torch.cat([(query * key).sum(1, keepdim=True), query @ others.T], 1) / temperature
    return F.cross_entropy(alike, alike.new_zeros(len(alike), dtype=torch.int64))
