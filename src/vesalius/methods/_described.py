"""What methods share that learn to describe images and give none back: a trunk of the shelf, its head, what is usual among descriptions."""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim import AdamW, Optimizer

from vesalius.core.environment import process_rank
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.methods._adversaries import BatchNorm, Joined
from vesalius.methods._coder import fresh, plain_linear
from vesalius.methods._trunk import Trunk, described, headless
from vesalius.methods._unlabelled import Unlabelled, decayed

TINY = 1e-6
Turn = tuple[str, dict[str, Tensor]]
Turns = Iterator[Turn]


class Usual(nn.Module):
    """Mean and spread of the features of training images."""

    mean: Tensor
    spread: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))


class Described(Unlabelled):
    """`self.net` is the trunk, with the head at `pretext`; `infer` and `features` are what the trunk says of an image, (B, K).

    How strange an image is: how far its features are from those of training images, in their spread, once these were gathered."""

    halves = True
    net: Any

    def __init__(self, shape: Sequence[int], trunk: Trunk | None, *, learning_rate: float, weight_decay: float, seed: int) -> None:
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.net, self.width = headless(self.shape, trunk, torch.Generator().manual_seed(seed), read=described)
        self.net.usual = Usual(self.width)

    def optimisers(self) -> dict[str, Optimizer]:
        """AdamW; weights are decayed, biases and norms are not."""
        return {"net": AdamW(decayed(self.net, self.weight_decay), lr=self.learning_rate, betas=(0.9, 0.99))}

    def drawn(self, head: nn.Module) -> nn.Module:
        """`head` with weights of its own."""
        return fresh(head, torch.Generator().manual_seed(int(self.seed) + 1))

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        return described(self.net, self.checked(image).float()).float()

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        return self.infer(image)

    def score(self, image: Tensor) -> Tensor:
        usual: Usual = self.net.usual
        return ((self.features(image) - usual.mean) / (usual.spread + TINY)).square().mean(1)

    def gather(self, images: Iterable[Tensor]) -> None:
        """Mean and spread of the features of training images."""
        was = self.training
        self.eval()
        found = torch.cat([self.features(image) for image in images])
        self.train(was)
        usual: Usual = self.net.usual
        usual.mean.copy_(found.mean(0))
        usual.spread.copy_(found.std(0, correction=0))


class Follower(nn.Module):
    """A copy of a network that follows it by an exponential moving average and is never taught (He et al. 2020)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.copy: Any = deepcopy(net)
        self.copy.requires_grad_(False)

    @torch.no_grad()
    def follow(self, net: nn.Module, keep: float) -> None:
        """weight <- keep x weight + (1 - keep) x that of `net`; counts and running means are taken as they are."""
        for own, other in zip(self.copy.parameters(), net.parameters(), strict=True):
            own.lerp_(other, 1 - keep)
        for kept, now in zip(self.copy.buffers(), net.buffers(), strict=True):
            kept.copy_(now)


def perceptron(widths: Sequence[int], *, normed_end: bool = False) -> nn.Sequential:
    """Dense layers with batch normalisation (over every process) and a rectifier between them, at the end on wish a norm alone."""
    if min(widths) < 1:
        raise UsageError(f"A head has widths of at least 1; got {tuple(widths)}.")
    layers: list[nn.Module] = []
    for number, (a, b) in enumerate(pairwise(widths), start=2):
        layers.append(plain_linear(a, b))
        if number < len(widths) or normed_end:
            layers.append(BatchNorm(b))
        if number < len(widths):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def compared(rows: Tensor) -> Tensor:
    """`rows` of every process, for a loss that holds images of a batch against each other: one alone teaches nothing, or NaN."""
    joint = everyone(rows)
    if len(joint) < 2:
        raise VesaliusError("This method holds the images of a batch against each other; got one image. Set patch.batch to 2 or more, best "
                            "to 32 or more, or choose moco, byol or simmim.")  # fmt: skip
    return joint


def everyone(rows: Tensor) -> Tensor:
    """`rows` (B, ...) of every process in the order of the joint batch, float32, with a gradient to each."""
    if not dist.is_initialized():
        return rows.float()
    rank, world = process_rank()
    count = torch.tensor([len(rows)], device=rows.device)
    dist.all_reduce(count)
    own = torch.zeros(int(count), *rows.shape[1:], device=rows.device)
    place = torch.arange(len(rows), device=rows.device) * world + rank
    joint: Tensor = Joined.apply(own.index_put((place,), rows.float()))  # type: ignore[no-untyped-call]
    return joint
