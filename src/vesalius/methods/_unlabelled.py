"""What every method that learns from images alone has beside the contract of a method: features, a score, its own clock."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from vesalius.core.environment import process_rank
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.methods import Method
from vesalius.methods._chance import Chance


class Unlabelled(Method):
    """Built as `METHODS[name](shape, learning_rate=..., weight_decay=..., seed=..., ...)`; `shape` is (C, *S) of one image.

    `infer(image)` is the image as the method would have it. What it learns lies in `self.net`, what only learning needs
    (persistent chains, the number of the step, the seed) in buffers beside. For planning a method says whether it `halves`: it was
    checked in bf16, and learns in it where that pays; and how many samples it takes in a `batch` where not as many as is usual.
    """

    halves = False
    batch = 0
    step: Tensor
    seed: Tensor

    def __init__(self, shape: Sequence[int], *, learning_rate: float, weight_decay: float, seed: int) -> None:
        super().__init__()
        if len(shape) not in (3, 4) or min(shape) < 1:
            raise UsageError(f"The shape of one image is (channels, two or three sides), all at least 1; got {tuple(shape)}.")
        self.shape = tuple(shape)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seed", torch.tensor(seed))

    @abstractmethod
    def features(self, image: Tensor) -> Tensor:
        """(B, K) numbers that say what is in `image` (B, C, *S): for a probe, a search, a classifier."""

    @abstractmethod
    def score(self, image: Tensor) -> Tensor:
        """(B,) how strange each image is; only differences mean something."""

    def anomaly_map(self, image: Tensor) -> Tensor:
        """(B, 1, *S) how strange each pixel is; the distance between an image and what the method makes of it, unless it knows better."""
        back = self.infer(image)
        if back.shape != image.shape:
            raise VesaliusError(f"{type(self).__name__} gives no images back, so it cannot say where an image is strange. "
                                "Take an autoencoder or another method with a map.")  # fmt: skip
        return (image - back).abs().mean(1, keepdim=True)

    def gather(self, images: Iterable[Tensor]) -> None:
        """What is counted once with the learned weights: called after learning with every training image, in batches (B, C, *S).
        What a method keeps of them lies in `self.net`, so that it is saved with the weights."""

    @property
    def size(self) -> int:
        """Numbers in one image."""
        return prod(self.shape)

    def chance(self) -> Chance:
        """The random numbers of this step."""
        rank, world = process_rank() if dist.is_initialized() else (0, 1)
        return Chance(int(self.seed), int(self.step), self.step.device, rank=rank, world=world)

    def checked(self, image: Tensor) -> Tensor:
        """`image` (B, C, *S) as it is; refused where it has another shape than the method was made for."""
        if tuple(image.shape[1:]) != self.shape:
            raise VesaliusError(f"This method was made for images of shape {self.shape} (channels, sides); got {tuple(image.shape[1:])}. "
                                "Crop or resample them, or make a method for that shape and train it.")  # fmt: skip
        return image

    def units(self, image: Tensor) -> Tensor:
        """`image` as one row of numbers per sample, (B, C x S)."""
        return self.checked(image).flatten(1).float()

    def as_image(self, units: Tensor) -> Tensor:
        """The inverse of `units`."""
        return units.reshape(len(units), *self.shape)


def joint_mean(values: Tensor) -> Tensor:
    """Mean over the rows of every process."""
    return joint_sum(values.float().sum(0).flatten(), len(values)).reshape(values.shape[1:])


def joint_sum(total: Tensor, rows: int) -> Tensor:
    """Mean over the rows of every process, from the sums (n,) over the `rows` of this one."""
    if not dist.is_initialized():
        return total / rows
    both = torch.cat([total, total.new_tensor([rows])])
    dist.all_reduce(both)
    return both[:-1] / both[-1]


def decayed(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimiser: weights of more than one axis are decayed, biases are not."""
    every = [p for p in net.parameters() if p.requires_grad]
    heavy, others = ([p for p in every if (p.ndim > 1) == many] for many in (True, False))
    return [{"params": heavy, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def persistent(rows: int, units: Sequence[int], generator: torch.Generator) -> Tensor:
    """Fair coins (rows, *units), uint8: where persistent chains begin."""
    return torch.randint(0, 2, (rows, *units), generator=generator, dtype=torch.uint8)


def within_unit(values: Tensor) -> Tensor:
    """`values` as they are; refused where they cannot be probabilities."""
    least, most = (float(edge) for edge in torch.aminmax(values)) if values.numel() else (0.0, 1.0)
    if least < 0 or most > 1:
        raise VesaliusError(f"0 / 1 visible units need intensities from 0 to 1; got {least:.3g} to {most:.3g}. "
                            "Scale the images, or choose gaussian visibles for standardised ones.")  # fmt: skip
    return values
