"""Pieces that several networks share: convolution, normalisation and activation for 2D and 3D from one code."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.nets._climb import Kept, Near, Rising, climbed, pays
from vesalius.nets._direct import direct, learns, raises
from vesalius.nets._first import begins, first
from vesalius.nets._last import ends, last
from vesalius.nets._normalise import normalised_at_once
from vesalius.nets._together import Norm, channels_together, eased, few, joins, learning, normalised_widely, plainly, raised, tracing
from vesalius.nets._winograd import suits, winograd

Sides = Sequence[int]

UNSAFE = 2  # voxels along the first axis
EXACT = 2**21  # voxels: up to here sums in single precision serve what is kept in bf16


def by_kernels(x: Tensor, layer: Near | Rising) -> Tensor | None:
    """What `layer` gives of `x` by the kernels that do without minimal filtering, or eased; None where torch is as good."""
    if isinstance(layer, Rising):
        return direct(x, layer) if raises(x, layer) else None
    if begins(x, layer):
        return first(x, layer)
    if ends(x, layer):
        return last(x, layer)
    return direct(x, layer) if learns(x, layer) else eased(x, layer)


class Convolution2d(nn.Conv2d):
    """As torch's, faster on a processor."""

    def forward(self, x: Tensor) -> Tensor:
        if suits([x], self):
            return winograd([x], self)
        found = by_kernels(x, self)
        return super().forward(x) if found is None else found


class Convolution3d(nn.Conv3d):
    """As torch's, faster, and in full precision on a processor where the first axis has two voxels and torch convolves.

    There the gradient of a kernel of 3 in bf16 reads memory that nobody has written (torch 2.13 with oneDNN): now and then it is not a
    number, the step is lost, and no two runs are alike. Maps of that size are the smallest of a network, so nothing is slower."""

    def forward(self, x: Tensor) -> Tensor:
        if suits([x], self):
            return winograd([x], self)
        if x.shape[2] != UNSAFE or x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            found = by_kernels(x, self)
            return super().forward(x) if found is None else found
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


def normalised(x: Tensor, layer: Norm, *, slope: float = 1.0, own: bool = False) -> Tensor | None:
    """`x` (B, C, *S) normalised per sample, then leaky with `slope`; None where torch's own way is as good. `own`: nobody else needs what
    is in `x`.

    By the kernels, or where there are none in bf16 by torch, a sample at a time. Torch's own writes channels that lie together apart, and
    the next convolution writes them together again: a step of a U-Net in bf16 takes 1.66 times as long (benchmarks/levers.py). In fp32,
    and in volumes of many voxels, torch's sums over channels that lie together are not exact enough.
    Of a single sample torch's own can give a wrong gradient (torch 2.13, where the gradient that comes in has its channels together)."""
    if (made := normalised_at_once(x, layer, slope=slope, own=own)) is not None:
        return made
    together = x.dtype == torch.bfloat16 and x[0, 0].numel() <= EXACT and channels_together(x)
    if together and not torch.is_grad_enabled() and not tracing():
        return normalised_widely(x, layer, slope=slope, own=own)
    if not together and (len(x) > 1 or x.device.type != "cpu"):
        return None
    samples = x.split(1) if together else [x.contiguous()]  # type: ignore[no-untyped-call]
    each = [F.batch_norm(one, None, None, layer.weight, layer.bias, training=True, eps=layer.eps) for one in samples]
    whole = each[0] if len(each) == 1 else torch.cat(each)
    return whole if slope == 1 else F.leaky_relu(whole, slope, inplace=True)


class InstanceNorm2d(nn.InstanceNorm2d):
    """As torch's, faster on a processor."""

    def forward(self, x: Tensor) -> Tensor:
        found = normalised(x, self)
        return super().forward(x) if found is None else found


class InstanceNorm3d(nn.InstanceNorm3d):
    """As torch's, faster on a processor."""

    def forward(self, x: Tensor) -> Tensor:
        found = normalised(x, self)
        return super().forward(x) if found is None else found


CONV: dict[int, Any] = {2: Convolution2d, 3: Convolution3d}
TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM: dict[int, Any] = {2: InstanceNorm2d, 3: InstanceNorm3d}
POOL: dict[int, Any] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
WEIGHED = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)  # layers with weight and bias
SLOPE = 0.01  # of the leaky ReLU


def per_axis(size: int | Sides, ndim: int) -> tuple[int, ...]:
    """One number per spatial axis."""
    return (size,) * ndim if isinstance(size, int) else tuple(size)


def stages(
    ndim: int, channels: Sides, *, kernels: Sequence[int | Sides] = (), strides: Sequence[int | Sides] = (), ends: Sides = ()
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(kernel, stride) per stage and axis; by default kernels of 3, and every stage but the first halves each side.

    `ends` are the numbers of input and output channels. What no network can be made of is refused.
    """
    sizes = [per_axis(k, ndim) for k in kernels or (3,) * len(channels)]
    steps = [per_axis(s, ndim) for s in strides or (1, *(2,) * (len(channels) - 1))]
    if ndim not in CONV:
        raise UsageError(f"A network has 2 or 3 axes; got {ndim}.")
    if not channels or not len(channels) == len(sizes) == len(steps):
        raise UsageError(f"channels, kernels and strides need one entry per stage; got {len(channels)}, {len(sizes)} and {len(steps)}. "
                         "Change all three together.")  # fmt: skip
    if min((*channels, *ends)) < 1:
        raise UsageError(f"Every number of channels must be at least 1; got {tuple(channels)} with {tuple(ends)} at the ends.")
    if any(len(k) != ndim or min(k) < 1 or any(side % 2 == 0 for side in k) for k in sizes):
        raise UsageError(f"Kernels need {ndim} odd sides per stage; got {sizes}.")
    if any(len(s) != ndim or min(s) < 1 for s in steps) or max(steps[0]) > 1:
        raise UsageError(f"Strides need {ndim} whole numbers per stage, 1 at the first; got {steps}.")
    return list(zip(sizes, steps, strict=True))


def pooling(strides: Sequence[Sides]) -> tuple[int, ...]:
    """By how much each axis shrinks from the first stage to the last."""
    return tuple(prod(axis) for axis in zip(*strides, strict=True))


def whole(x: Tensor, total: Sides) -> Tensor:
    """`x` (B, C, *S) as it is; refused where a side cannot be halved as often as the network does."""
    if any(side % t for side, t in zip(x.shape[2:], total, strict=True)):
        raise VesaliusError(f"The network pools by {tuple(total)}, so sides must be multiples of that; got {tuple(x.shape[2:])}. "
                            "Change patch.size or net.strides.")  # fmt: skip
    return x


def convolution(ndim: int, channels: tuple[int, int], kernel: Sides, *, stride: Sides | int = 1, bias: bool = True) -> nn.Module:
    """A convolution that keeps the size at stride 1 (odd kernels, zero padding)."""
    padding = tuple(k // 2 for k in kernel)
    layer: nn.Module = CONV[ndim](*channels, tuple(kernel), per_axis(stride, ndim), padding, bias=bias)
    return layer


def normalisation(kind: str, ndim: int, channels: int) -> nn.Module:
    """Instance normalisation (affine, eps 1e-5, as nnU-Net), or nothing where `kind` is "none"."""
    layer: nn.Module = NORM[ndim](channels, eps=1e-5, affine=True) if kind == "instance" else nn.Identity()
    return layer


class ConvBlock(nn.Sequential):
    """Convolution, normalisation, activation (leaky ReLU with slope .01 after a norm, as nnU-Net; plain ReLU without)."""

    def __init__(self, ndim: int, channels: tuple[int, int], kernel: Sides, *, stride: Sides | int = 1, norm: str = "instance") -> None:
        activation: nn.Module = nn.LeakyReLU(SLOPE, inplace=True) if norm != "none" else nn.ReLU(inplace=True)
        super().__init__(convolution(ndim, channels, kernel, stride=stride), normalisation(norm, ndim, channels[1]), activation)

    @property
    def convolution(self) -> Near:
        """The first of the three."""
        layer = self[0]
        assert isinstance(layer, nn.Conv2d | nn.Conv3d)
        return layer

    def after(self, x: Tensor) -> Tensor:
        """What comes after the convolution, whose result `x` is."""
        if isinstance(self[1], InstanceNorm2d | InstanceNorm3d):
            found = normalised(x, self[1], slope=SLOPE, own=True)
            if found is not None:
                return found
        out: Tensor = self[2](self[1](x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self[0](x))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016, basic block; average pool and 1-convolution where sizes change)."""

    def __init__(self, ndim: int, channels: tuple[int, int], kernel: Sides, *, stride: Sides | int = 1, norm: str = "instance") -> None:
        super().__init__()
        stride = per_axis(stride, ndim)
        self.first = ConvBlock(ndim, channels, kernel, stride=stride, norm=norm)
        self.second = nn.Sequential(convolution(ndim, (channels[1], channels[1]), kernel), normalisation(norm, ndim, channels[1]))
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)
        pool: nn.Module = nn.Identity()
        if any(s > 1 for s in stride):
            pool = POOL[ndim](stride, stride)
        project: nn.Module = nn.Identity()
        if channels[0] != channels[1]:
            one = convolution(ndim, channels, (1,) * ndim, bias=False)
            project = nn.Sequential(one, normalisation(norm, ndim, channels[1]))
        self.shortcut = nn.Sequential(pool, project)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.second(self.first(x)) + self.shortcut(x))
        return out


class Up(nn.Module):
    """Transposed convolution by the stride, then the skip beside it: (B, up + skip, *S)."""

    def __init__(self, ndim: int, channels: tuple[int, int], stride: Sides) -> None:
        super().__init__()
        self.up = TRANSPOSED[ndim](*channels, tuple(stride), tuple(stride))
        self.kept = Kept()

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return torch.cat((self.risen(x), skip), 1)

    def risen(self, x: Tensor) -> Tensor:
        """`x` without the skip."""
        if (found := by_kernels(x, self.up)) is not None:
            return found
        out: Tensor = raised(x, self.up) if learning(x) or (plainly(x, self.up) and few(x)) else self.up(x)
        return out

    def through(self, x: Tensor, skip: Tensor, block: nn.Module) -> Tensor:
        """The same through `block`, whose first convolution takes the two as they lie, or is made one with the transposed one, where
        that pays."""
        first, *rest = [block] if isinstance(block, ConvBlock) else block.children()
        assert isinstance(first, ConvBlock)
        conv = first.convolution
        if joins(x, skip) and suits([skip], conv):
            maps = [self.risen(x), skip]
            out = first.after(winograd(maps, conv)) if suits(maps, conv) else first(torch.cat(maps, 1))
        elif x.dtype == torch.bfloat16 and joins(x, skip) and pays(x, self.up, conv, learning=torch.is_grad_enabled()):
            out = first.after(climbed(x, skip, up=self.up, conv=conv, kept=self.kept))
        else:
            out = first(self(x, skip))
        for layer in rest:
            out = layer(out)
        return out


def initialise(net: nn.Module, generator: torch.Generator) -> nn.Module:
    """Every weight from `generator` alone.

    Convolutions from a normal of variance 2 / ((1 + slope^2) fan-in) (He et al. 2015); linear layers from a normal of standard deviation
    .02 cut at two of them (as ViT, DeiT and ConvNeXt publish); biases 0; batch and layer norms 1 and 0; recurrent layers evenly within
    +-1 / sqrt(hidden). A module with a method `draw(generator)` has the last word on what is in it.
    """
    for layer in net.modules():
        _draw(layer, generator)
    for layer in net.modules():
        if callable(own := getattr(layer, "draw", None)):
            own(generator)
    return net


def lean(net: nn.Module, logits: Sequence[float]) -> nn.Module:
    """`net` with its outputs starting from `logits`, one per class: the biases of the layers that it calls `outs`, if it does.

    With the log of how rare each class is, the first steps need not learn that (Lin et al. 2017, arXiv:1708.02002, section 3.3)."""
    for layer in getattr(net, "outs", ()) if logits else ():
        with torch.no_grad():
            layer.bias.copy_(torch.tensor(logits))
    return net


def _draw(layer: nn.Module, generator: torch.Generator) -> None:
    """What one layer itself holds; layers of other kinds stay as they are."""
    if isinstance(layer, WEIGHED[:4]):
        nn.init.kaiming_normal_(layer.weight, a=SLOPE, generator=generator)
    elif isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04, generator=generator)
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.LayerNorm):
        layer.reset_parameters()
    elif isinstance(layer, nn.LSTM):
        for weight in layer.parameters():
            nn.init.uniform_(weight, -(layer.hidden_size**-0.5), layer.hidden_size**-0.5, generator=generator)
    if isinstance(layer, WEIGHED) and isinstance(layer.bias, Tensor):
        nn.init.zeros_(layer.bias)


class Ladder(nn.Module, ABC):
    """A U-Net's way down (`down`) and up again (`ups` and `blocks`, coarsest first) over skips, with outputs (`outs`, finest first).

    `forward` gives logits (B, out_channels, *S); `heads` gives them at the scales that are supervised, finest first."""

    pooling: tuple[int, ...]
    down: nn.ModuleList
    ups: nn.ModuleList
    blocks: nn.ModuleList
    outs: nn.ModuleList

    @abstractmethod
    def enter(self, x: Tensor) -> Tensor:
        """What the first stage is given of an image whose sides are admitted."""

    def features(self, x: Tensor) -> list[Tensor]:
        """Decoder features, finest first."""
        x, skips = self.enter(whole(x, self.pooling)), []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        scales: list[Tensor] = [] if self.ups else [x]
        skips.pop()
        for up, block in zip(self.ups, self.blocks, strict=True):
            assert isinstance(up, Up)
            x = up.through(x, skips.pop(), block)  # what nobody needs any more goes on the way
            scales.insert(0, x)
        return scales

    def heads(self, x: Tensor) -> list[Tensor]:
        """Logits at the scales that are supervised, finest first."""
        return [out(scale) for out, scale in zip(self.outs, self.features(x), strict=False)]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.outs[0](self.features(x)[0])
        return logits
