"""A batch: named plain tensors and a kind for each, so that a transform knows what to do with which."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor


class Kind(StrEnum):
    """How a tensor answers to a transform."""

    IMAGE = "image"  # (B, C, *S) float, resampled linearly, intensities change
    MASK = "mask"  # (B, K, *S) uint8 indices or 0 / 1, 255 = ignored; nearest neighbour
    LABEL = "label"  # (B, ...) unchanged by transforms
    BOXES = "boxes"
    FIELD = "field"
    POINTS = "points"
    KSPACE = "kspace"


@dataclass(frozen=True)
class Batch:
    """`tensors[name]` has kind `kinds[name]`; the first axis of each is the sample."""

    tensors: dict[str, Tensor]
    kinds: dict[str, Kind]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def of(self, kind: Kind) -> list[str]:
        """Names of the tensors of `kind`."""
        return [name for name in self.tensors if self.kinds[name] == kind]

    def mapped(self, change: Callable[[str, Tensor], Tensor]) -> "Batch":
        """A batch with `change(name, tensor)` in place of each tensor."""
        return Batch({name: change(name, tensor) for name, tensor in self.tensors.items()}, self.kinds)

    def part(self, start: int, step: int) -> "Batch":
        """Samples start, start + step, ...: one process's share of a joint batch."""
        return self.mapped(lambda _, tensor: tensor[start::step])
