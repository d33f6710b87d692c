"""Pieces that several classifiers share: what every classifier answers, convolution with batch normalisation, the head."""

from abc import ABC, abstractmethod
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.errors import UsageError, VesaliusError, suggest
from vesalius.nets._blocks import CONV
from vesalius.nets._chance import Dropout

BATCH: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL: dict[int, Any] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
GRID_POOL: dict[int, Any] = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by the number of axes of a weight


class Classifier(nn.Module, ABC):
    """An image (B, in_channels, *S) becomes logits (B, out_channels).

    An image is refused where its longest side is shorter than `least` voxels: the last map would hold less than a voxel. With `each`,
    every side has to be that long, since the layers do not pad. The first `free` axes may be of any length.
    """

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, least: int = 1, each: bool = False, free: int = 0) -> None:
        super().__init__()
        if ndim not in CONV:
            raise UsageError(f"A network has 2 or 3 axes; got {ndim}.")
        if min(in_channels, out_channels) < 1:
            raise UsageError(f"Every number of channels must be at least 1; got {in_channels} in and {out_channels} out.")
        self.ndim, self.in_channels = ndim, in_channels
        self.least, self.each, self.free = least, each, free

    def admit(self, image: Tensor) -> Tensor:
        """`image` as it is, or an error that says what is wrong with it."""
        sides = tuple(image.shape[2 + self.free :])
        if image.ndim != self.ndim + 2 or image.shape[1] != self.in_channels:
            raise VesaliusError(f"The network takes images (batch, {self.in_channels}, {self.ndim} sides); got shape {tuple(image.shape)}. "
                                "Build it for these channels and axes, or bring the image into that form.")  # fmt: skip
        if (min if self.each else max)(sides) < self.least:
            which = "Every side" if self.each else "The longest side"
            raise VesaliusError(f"{which} of an image must be at least {self.least}; got {sides}. Take larger images, "
                                'or build the network for small ones (stem="small", a smaller patch).')  # fmt: skip
        return image

    def to(self, *where: Any, **words: Any) -> Self:
        """As of any module; with `memory_format` each weight takes the layout of its own axes, as networks of slices have 2D layers."""
        layout = words.pop("memory_format", None)
        if where or words:
            super().to(*where, **words)
        for weight in chain(self.parameters(), self.buffers()) if layout is not None else ():
            fitting = LAST.get(weight.ndim, torch.contiguous_format) if layout in LAST.values() else layout
            weight.data = weight.data.contiguous(memory_format=fitting)
        return self

    def heads(self, image: Tensor) -> list[Tensor]:
        """The logits, then those of auxiliary classifiers where there are any; all (B, out_channels)."""
        return [self(image)]

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, out_channels)."""


class Convolutional(Classifier, ABC):
    """A classifier that is maps first, then a decision on them: what Grad-CAM takes apart."""

    @abstractmethod
    def trunk(self, image: Tensor) -> Tensor:
        """Maps (B, features, *s)."""

    @abstractmethod
    def classify(self, maps: Tensor) -> Tensor:
        """Logits (B, out_channels) of what `trunk` gives."""

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.trunk(image))


class Headed(Convolutional, ABC):
    """Maps that `head` decides on."""

    head: nn.Module

    def classify(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.head(maps)
        return logits


class Featured(Headed, ABC):
    """Maps by `features`, as the layers before the last are called in the older papers' code."""

    features: nn.Module

    def trunk(self, image: Tensor) -> Tensor:
        maps: Tensor = self.features(self.admit(image))
        return maps


class Staged(Headed, ABC):
    """Maps by `stages`, each of them coarser than the one before."""

    stages: nn.Module

    def trunk(self, image: Tensor) -> Tensor:
        maps: Tensor = self.stages(self.admit(image))
        return maps


class Gridded(Featured, ABC):
    """Maps brought to a grid by `pool`, whose cells the linear layers of `head` weigh one by one: before there were means of maps."""

    pool: nn.Module

    def draw(self, generator: torch.Generator) -> None:
        """Linear layers as the papers draw them: a normal of standard deviation .01."""
        for layer in self.head.children():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01, generator=generator)

    def classify(self, maps: Tensor) -> Tensor:
        return super().classify(self.pool(maps).flatten(1))


def choose(table: dict[Any, Any], key: Any, what: str) -> Any:
    """The entry of `table` under `key`; a wrong one is told the right ones."""
    if key not in table:
        raise UsageError(suggest(str(key), map(str, table), what))
    return table[key]


def scaled(width: int, scale: float) -> int:
    """`width` features times `scale`, at least one."""
    return max(1, round(width * scale))


def divisible(width: float, by: int = 8) -> int:
    """The multiple of `by` nearest to `width`, never below 90 % of it (the rule of the MobileNets)."""
    near = max(by, int(width + by / 2) // by * by)
    return near + by if near < 0.9 * width else near


def plain(ndim: int, channels: tuple[int, int], kernel: int, *, stride: int = 1, groups: int = 1, bias: bool = True) -> nn.Module:
    """A convolution that keeps the size at stride 1 (an odd kernel, zero padding)."""
    layer: nn.Module = CONV[ndim](*channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
    return layer


NORMS = {"batch": True, "none": False}


def activated(ndim: int, width: int, norm: str) -> list[nn.Module]:
    """What follows a convolution of `width` features: batch normalisation unless `norm` is "none", and a rectifier."""
    return [BATCH[ndim](width), nn.ReLU(inplace=True)] if choose(NORMS, norm, "normalisation") else [nn.ReLU(inplace=True)]


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch normalisation, and an activation unless it is None."""

    def __init__(self, ndim: int, channels: tuple[int, int], kernel: int, *, stride: int = 1, groups: int = 1, eps: float = 1e-5,
                 activation: nn.Module | None = None) -> None:  # fmt: skip
        layers = [plain(ndim, channels, kernel, stride=stride, groups=groups, bias=False), BATCH[ndim](channels[1], eps=eps)]
        super().__init__(*layers, *([activation] if activation else []))


class SqueezeExcitation(nn.Module):
    """Maps weighed by a gate that sees the mean of every map (Hu, Shen & Sun 2018); `squeezed` features in between."""

    def __init__(self, channels: int, squeezed: int, activation: nn.Module) -> None:
        super().__init__()
        self.squeeze, self.activation, self.excite = nn.Linear(channels, squeezed), activation, nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.excite(self.activation(self.squeeze(x.flatten(2).mean(2)))).sigmoid()
        return x * gate.reshape(*gate.shape, *(1,) * (x.ndim - 2))


class Halve(nn.Module):
    """The mean of two voxels per axis, of the one that is left at an odd end; an axis of a single voxel stays."""

    def forward(self, maps: Tensor) -> Tensor:
        axes = maps.ndim - 2
        size = [min(2, side) for side in maps.shape[2:]]
        pooled: Tensor = {2: F.avg_pool2d, 3: F.avg_pool3d}[axes](maps, size, 2, ceil_mode=True)
        return pooled


class Mean(nn.Module):
    """The mean of every map: (B, F, *s) becomes (B, F)."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.flatten(2).mean(2)


class Head(nn.Sequential):
    """Mean of every map, dropout, one linear layer."""

    def __init__(self, features: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__(Mean(), Dropout(dropout), nn.Linear(features, out_channels))


def present(x: Tensor, axes: int) -> Tensor:
    """Which entries over the first `axes` axes are there: those that are not zero all over."""
    return (x != 0).flatten(axes).any(axes)


def mean_of_present(x: Tensor, there: Tensor) -> Tensor:
    """Mean of `x` (B, N, F) over the entries that are `there` (B, N); over all of them where none is."""
    weight = (there | ~there.any(1, keepdim=True)).to(x.dtype)[..., None]
    mean: Tensor = (x * weight).sum(1) / weight.sum(1)
    return mean


def encode_present(encoder: nn.Module, x: Tensor, there: Tensor) -> Tensor:
    """Maps of the entries of `x` (N, C, *S) that are `there` (N), zero for the others.

    While learning, missing ones are left out, so that they do not count in the batch normalisation (which needs at least two).
    """
    if encoder.training and 1 < int(there.sum()) < len(there):
        seen: Tensor = encoder(x[there])
        return seen.new_zeros(len(x), *seen.shape[1:]).index_put((there,), seen)
    maps: Tensor = encoder(x)
    mask = there.to(maps.dtype).reshape(-1, *(1,) * (maps.ndim - 1))
    return maps * mask
