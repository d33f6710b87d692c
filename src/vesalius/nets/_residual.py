"""The residual trunk that several classifiers share (He et al. 2016): a stem, then four stages of residual units."""

from abc import ABC

import torch
from torch import Tensor, nn

from vesalius.nets._classifier_blocks import MAX_POOL, ConvNorm, Convolutional, SqueezeExcitation, choose, encode_present, present, scaled

UNITS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
DEEP = (50, 101, 152)  # these have bottlenecks
STEMS = {"published": 4, "small": 1}  # by how much each side shrinks
WIDENING = 4  # of a bottleneck


class ResidualUnit(nn.Module):
    """y = relu(residual(x) + shortcut(x)): two 3-convolutions, or a bottleneck 1-3-1 with four times the width at its end.

    The stride sits on the 3-convolution of a bottleneck (as torchvision does; the paper has it on the first 1-convolution).
    `squeeze` > 0 weighs the residual by squeeze and excitation with that reduction.
    """

    def __init__(self, ndim: int, channels: tuple[int, int], *, stride: int = 1, deep: bool = False, squeeze: int = 0) -> None:
        super().__init__()
        entry, width = channels
        out = width * WIDENING if deep else width
        sizes = [(entry, width, 3, stride), (width, out, 3, 1)]
        if deep:
            sizes = [(entry, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
        layers: list[nn.Module] = []
        for number, (a, b, kernel, step) in enumerate(sizes):
            last = number == len(sizes) - 1
            layers.append(ConvNorm(ndim, (a, b), kernel, stride=step, activation=None if last else nn.ReLU(inplace=True)))
        if squeeze:
            layers.append(SqueezeExcitation(out, max(1, out // squeeze), nn.ReLU(inplace=True)))
        self.residual = nn.Sequential(*layers)
        self.shortcut = ConvNorm(ndim, (entry, out), 1, stride=stride) if stride > 1 or entry != out else nn.Identity()
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.residual(x) + self.shortcut(x))
        return out


class ResidualTrunk(nn.Sequential):
    """Image (B, in_channels, *S) to maps (B, `features`, *s), each side `stride` times shorter.

    The published stem is a 7-convolution of stride 2 and a max pool; the small one a 3-convolution that keeps the size.
    """

    def __init__(self, ndim: int, in_channels: int, depth: int, *, stem: str = "published", scale: float = 1.0, squeeze: int = 0) -> None:
        units, deep = choose(UNITS, depth, "depth of a residual network"), depth in DEEP
        self.stride = choose(STEMS, stem, "stem") * 8
        width = scaled(64, scale)
        kernel, step, pool = (7, 2, MAX_POOL[ndim](3, 2, 1)) if stem == "published" else (3, 1, nn.Identity())
        first = nn.Sequential(ConvNorm(ndim, (in_channels, width), kernel, stride=step, activation=nn.ReLU(inplace=True)), pool)
        stages, entry = [], width
        for number, count in enumerate(units):
            stage = []
            for unit in range(count):
                stride = 2 if number and not unit else 1
                stage.append(ResidualUnit(ndim, (entry, width << number), stride=stride, deep=deep, squeeze=squeeze))
                entry = (width << number) * (WIDENING if deep else 1)
            stages.append(nn.Sequential(*stage))
        super().__init__(first, *stages)
        self.features = entry


class Encoders(nn.Module):
    """A trunk of its own for each of `modalities` channels: image (B, M, *S) to maps (B, M, features, *s).

    A channel that is zero all over in a sample is missing there; its maps are zero.
    """

    def __init__(self, ndim: int, modalities: int, depth: int, *, stem: str, scale: float) -> None:
        super().__init__()
        trunks = [ResidualTrunk(ndim, 1, depth, stem=stem, scale=scale) for _ in range(modalities)]
        self.features, self.trunks = trunks[0].features, nn.ModuleList(trunks)

    def forward(self, image: Tensor) -> Tensor:
        channels = [image[:, k : k + 1] for k in range(len(self.trunks))]
        return torch.stack([encode_present(trunk, x, present(x, 1)) for trunk, x in zip(self.trunks, channels, strict=True)], 1)


class Encoded(Convolutional, ABC):
    """Maps (B, modalities * features, *s) by `encoders`, one for each channel of the image."""

    encoders: Encoders

    def trunk(self, image: Tensor) -> Tensor:
        maps: Tensor = self.encoders(self.admit(image)).flatten(1, 2)
        return maps
