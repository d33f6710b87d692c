"""An encoder from images to codes and a decoder back, in 2D and 3D: linear, dense or convolutional."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.errors import UsageError
from vesalius.nets._blocks import CONV, SLOPE, TRANSPOSED

Kind = Literal["linear", "dense", "convolutional"]
FOLDS = (*CONV.values(), *TRANSPOSED.values())
WIDTHS: dict[str, tuple[int, ...]] = {"linear": (), "dense": (512,), "convolutional": (32, 64, 64)}


class Coder(nn.Module):
    """`encode` gives (B, outputs x code), `decode` takes (B, code) and gives (B, C, *S).

    `widths` are the hidden layers on the way to the code: units (dense), or channels each at half the sides (convolutional).
    """

    def __init__(
        self, shape: Sequence[int], code: int, generator: torch.Generator, *, kind: Kind = "convolutional", widths: Sequence[int] = (),
        outputs: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        widths = tuple(widths) or WIDTHS.get(kind, ())
        if kind not in WIDTHS or code < 1 or (kind == "linear" and widths) or min((1, *widths)) < 1:
            raise UsageError("A coder is linear (without widths), dense or convolutional, with a code of at least 1; "
                             f"got {kind!r}, {widths} and a code of {code}.")  # fmt: skip
        self.size = code
        made = Convolutional(shape, widths) if kind == "convolutional" else Dense(shape, widths)
        self.down, self.up = made.down, made.up
        self.to_code, self.from_code = plain_linear(made.size, outputs * code), plain_linear(code, made.size)
        fresh(self, generator)

    def encode(self, image: Tensor) -> Tensor:
        """(B, outputs x code)."""
        code: Tensor = self.to_code(self.down(image).flatten(1))
        return code

    def decode(self, code: Tensor) -> Tensor:
        """(B, C, *S)."""
        image: Tensor = self.up(self.from_code(code))
        return image


class Dense:
    """Ways between a flat image and the layer before the code."""

    def __init__(self, shape: Sequence[int], widths: Sequence[int]) -> None:
        sizes = (prod(shape), *widths)
        down = [layer for a, b in pairwise(sizes) for layer in (plain_linear(a, b), nn.LeakyReLU(SLOPE))]
        up = [layer for a, b in pairwise(sizes[::-1]) for layer in (nn.LeakyReLU(SLOPE), plain_linear(a, b))]
        self.size = sizes[-1]
        self.down, self.up = nn.Sequential(nn.Flatten(), *down), nn.Sequential(*up, nn.Unflatten(1, tuple(shape)))


class Convolutional:
    """Ways between an image and maps of half the sides at each width (rounded up, so that any sides will do)."""

    def __init__(self, shape: Sequence[int], widths: Sequence[int]) -> None:
        sides = [tuple(shape[1:])]
        for _ in widths:
            sides.append(tuple((side + 1) // 2 for side in sides[-1]))
        channels, conv = (shape[0], *widths), CONV[len(shape) - 1]
        down = [layer for a, b in pairwise(channels) for layer in (with_meta(conv, a, b, 3, 2, 1), nn.LeakyReLU(SLOPE))]
        up = [nn.Sequential(nn.LeakyReLU(SLOPE), Resize(side), with_meta(conv, a, b, 3, 1, 1))
              for (a, b), side in zip(pairwise(channels[::-1]), sides[-2::-1], strict=True)]  # fmt: skip
        self.size = channels[-1] * prod(sides[-1])
        self.down, self.up = nn.Sequential(*down), nn.Sequential(nn.Unflatten(1, (channels[-1], *sides[-1])), *up)


class Resize(nn.Module):
    """Nearest neighbours on `sides`."""

    def __init__(self, sides: Sequence[int]) -> None:
        super().__init__()
        self.sides = list(sides)

    def forward(self, maps: Tensor) -> Tensor:
        return F.interpolate(maps, self.sides)


def with_meta(layer: type[nn.Module], *words: int) -> nn.Module:
    """A layer whose weights are there but not drawn, so that the global generator is left alone."""
    with torch.device("meta"):
        made = layer(*words)
    return made.to_empty(device="cpu")


def plain_linear(a: int, b: int) -> nn.Module:
    """A dense layer without drawn weights."""
    return with_meta(nn.Linear, a, b)


@torch.no_grad()
def fresh(net: nn.Module, generator: torch.Generator) -> nn.Module:
    """Every weight drawn from `generator` (He et al. 2015), dense layers too, every bias 0."""
    for kinds in (FOLDS, (nn.Linear,)):
        for layer in (layer for layer in net.modules() if isinstance(layer, kinds)):
            nn.init.kaiming_normal_(layer.weight, a=SLOPE, generator=generator)
            if layer.bias is not None:
                layer.bias.zero_()
    return net
