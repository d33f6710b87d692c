"""Dropout and stochastic depth whose masks come from a stream of their own.

The seed of the stream is drawn with the weights and the count of masks is saved beside them, so a run that was killed goes on with the
masks that it would have drawn, and nothing is taken from the global generator.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.core.errors import UsageError


class Chance(nn.Module, ABC):
    """Multiplies by 0 with probability `rate` and by 1 / (1 - rate) otherwise while learning; does nothing after."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise UsageError(f"A rate of dropping lies in [0, 1); got {rate}.")
        self.rate, self.seed, self.count = rate, 0, 0

    def draw(self, generator: torch.Generator) -> None:
        """A new stream."""
        self.seed, self.count = int(torch.randint(2**40, (1,), generator=generator)), 0

    @abstractmethod
    def shape(self, x: Tensor) -> tuple[int, ...]:
        """Shape of the mask for `x`."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        stream = torch.Generator(x.device).manual_seed(self.seed + self.count)
        self.count += 1
        keep = 1 - self.rate
        return x * torch.empty(self.shape(x), device=x.device, dtype=x.dtype).bernoulli_(keep, generator=stream).div_(keep)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}stream"] = torch.tensor([self.seed, self.count])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Weights from elsewhere have no stream: then this one goes on."""
        if (stream := state_dict.get(f"{prefix}stream")) is not None:
            self.seed, self.count = (int(n) for n in stream)


class Dropout(Chance):
    """Single features are dropped (Srivastava et al. 2014)."""

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """A draw for every feature."""
        return tuple(x.shape)


class DropMaps(Chance):
    """Whole maps are dropped (Tompson et al. 2015, arXiv:1411.4280)."""

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """A draw for every map of every sample."""
        return (*x.shape[:2], *(1,) * (x.ndim - 2))


class DropPath(Chance):
    """Whole branches are dropped, each sample by itself (stochastic depth, Huang et al. 2016, arXiv:1603.09382)."""

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """A draw for every sample."""
        return (len(x), *(1,) * (x.ndim - 1))


def drop_rates(last: float, depth: int) -> list[float]:
    """Rates of stochastic depth per block, rising evenly from 0 to `last`."""
    return [last * k / max(1, depth - 1) for k in range(depth)]
