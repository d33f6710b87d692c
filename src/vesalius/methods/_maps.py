"""A coder whose code is itself a map: half the sides for each width, `code` channels."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.errors import UsageError
from vesalius.methods._coder import Resize, with_meta
from vesalius.nets._blocks import CONV, SLOPE

POOL: dict[int, Any] = {2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


class Residual(nn.Module):
    """Group norm, SiLU and a convolution, twice, beside the input (the block of Rombach et al. 2022)."""

    def __init__(self, ndim: int, channels: int) -> None:
        super().__init__()
        groups = max(g for g in range(1, 9) if channels % g == 0)
        turns = [(nn.GroupNorm(groups, channels), nn.SiLU(), with_meta(CONV[ndim], channels, channels, 3, 1, 1)) for _ in range(2)]
        self.body = nn.Sequential(*turns[0], *turns[1])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class MapCoder(nn.Module):
    """`encode` gives (B, outputs x code, *s), `decode` takes (B, code, *s); `residual` puts a residual block at each scale."""

    def __init__(self, shape: Sequence[int], code: int, widths: Sequence[int], *, outputs: int = 1, residual: bool = False) -> None:
        super().__init__()
        if not widths or min((code, *widths)) < 1:
            raise UsageError(f"A coder of maps needs a code and widths of at least 1; got {code} and {tuple(widths)}.")
        ndim, sides, conv = len(shape) - 1, [tuple(shape[1:])], CONV[len(shape) - 1]
        for _ in widths:
            sides.append(tuple((side + 1) // 2 for side in sides[-1]))

        def stage(channels: int) -> nn.Module:
            return Residual(ndim, channels) if residual else nn.LeakyReLU(SLOPE)

        down = [layer for a, b in pairwise((shape[0], *widths)) for layer in (with_meta(conv, a, b, 3, 2, 1), stage(b))]
        up = [layer for (a, b), side in zip(pairwise((*widths[::-1], widths[0])), sides[-2::-1], strict=True)
              for layer in (stage(a), Resize(side), with_meta(conv, a, b, 3, 1, 1))]  # fmt: skip
        self.down = nn.Sequential(*down, with_meta(conv, widths[-1], outputs * code, 1))
        first, last = with_meta(conv, code, widths[-1], 1), with_meta(conv, widths[0], shape[0], 3, 1, 1)
        self.up = nn.Sequential(first, *up, nn.LeakyReLU(SLOPE), last)

    def encode(self, image: Tensor) -> Tensor:
        """Maps."""
        maps: Tensor = self.down(image)
        return maps

    def decode(self, maps: Tensor) -> Tensor:
        """(B, C, *S)."""
        image: Tensor = self.up(maps)
        return image


def pooled(maps: Tensor) -> Tensor:
    """(B, K, *s) averaged over blocks that leave at most four to each side, one row per sample."""
    small: Tensor = POOL[maps.ndim - 2](maps, [min(4, side) for side in maps.shape[2:]])
    return small.flatten(1)
