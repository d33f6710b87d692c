"""The two networks of adversarial learning, in 2D and 3D: one makes images out of noise, the other looks at images.

Radford et al. 2016 (ICLR): strides in place of pooling, kernels of 4, batch normalisation, tanh at the end. Ours takes any sides (odd ones
are rounded up on the way down), any range of intensities, and dense layers for points. Spectral normalisation: Miyato et al. 2018 (ICLR).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.utils import parametrize

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.methods._views import Views
from vesalius.nets._blocks import CONV, TRANSPOSED

SLOPE = 0.2  # of the critic's leaky ReLU (Radford et al. 2016)
COARSEST = 7  # sides are halved until none is above
NARROWEST, WIDEST = 64, 512  # channels at the finest stage, and the most
DENSE = (256, 256)
MOMENTUM, EPS = 0.1, 1e-5  # of batch normalisation
ROUNDING = 1e-3  # of the range, by which intensities may leave the bounds
WARM = 20  # power iterations before the first step
ALONE = {nn.Linear: {}, **{layer: {"kernel_size": 4, "stride": 2, "padding": 1} for layer in (*CONV.values(), *TRANSPOSED.values())}}


@dataclass(frozen=True)
class Design:
    """What the user chooses about both networks.

    `widths` are channels (dense: units) from the finest stage to the coarsest. `bounds` are the least and the greatest intensity, reached
    by tanh; None for images without (standardised ones). `views`: what the critic sees is augmented, for few images.
    """

    kind: Literal["dense", "convolutional"] = "convolutional"
    latent: int = 100
    widths: tuple[int, ...] = ()
    bounds: tuple[float, float] | None = (-1.0, 1.0)
    views: Views | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("dense", "convolutional") or min((self.latent, *self.widths)) < 1:
            raise UsageError("Adversaries are dense or convolutional, with at least one number of noise and one channel per stage; "
                             f"got {self.kind!r}, latent {self.latent} and widths {self.widths}.")  # fmt: skip
        if self.bounds and self.bounds[0] >= self.bounds[1]:
            raise UsageError(f"bounds are the least and the greatest intensity; got {self.bounds}.")


@dataclass(frozen=True)
class Recipe:
    """What a paper fixes about them: numbers that the generator is `told` beside noise, numbers that the critic answers, batch
    normalisation in either, spectral normalisation of the critic, the spread of the first weights (None: He et al. 2015), and whether its
    answers have a `constant`, which no loss of differences could teach."""

    told: int = 0
    answers: int = 1
    norms: tuple[bool, bool] = (True, False)
    spectral: bool = False
    spread: float | None = None
    constant: bool = True


class Adversaries(nn.Module):
    """Generator and critic; their weights are laid out alike for every method."""

    def __init__(self, shape: Sequence[int], design: Design, recipe: Recipe, *, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = Generator(shape, design, recipe)
        self.critic = Critic(shape, design, recipe)
        for net in (self.generator, self.critic):
            drawn(net, generator, spread=recipe.spread)
        if recipe.spectral:
            for layer in [m for m in self.critic.modules() if isinstance(m, tuple(ALONE))]:
                weight = layer.weight
                assert isinstance(weight, Tensor)
                parametrize.register_parametrization(layer, "weight", Spectral(weight.detach(), generator))


class Generator(nn.Module):
    """(B, latent + told) -> (B, C, *S)."""

    def __init__(self, shape: Sequence[int], design: Design, recipe: Recipe) -> None:
        super().__init__()
        self.bounds, self.inputs = design.bounds, design.latent + recipe.told
        make = dense_up if design.kind == "dense" else maps_up
        self.layers = make(shape, self.inputs, widths_of(shape, design), normed=recipe.norms[0])

    def forward(self, code: Tensor) -> Tensor:
        image: Tensor = self.layers(code)
        if self.bounds is None:
            return image
        low, high = self.bounds
        return (low + high) / 2 + (high - low) / 2 * torch.tanh(image.float())


class Critic(nn.Module):
    """(B, C, *S) -> (B, answers); `trunk` gives the features that it judges by."""

    def __init__(self, shape: Sequence[int], design: Design, recipe: Recipe) -> None:
        super().__init__()
        widths = widths_of(shape, design)
        self.trunk = (dense_down if design.kind == "dense" else maps_down)(shape, widths, normed=recipe.norms[1])
        self.size = widths[-1] * (1 if design.kind == "dense" else prod(sides_of(shape, widths)[-1]))
        self.answer = blank(nn.Linear, self.size, recipe.answers, bias=recipe.constant)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, K) and answers (B, answers), in float32."""
        features = self.trunk(image)
        return features.float(), self.answer(features).float()


def bounded(image: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    """`image` as it is, in float32; refused where intensities lie outside the bounds that a generator can reach."""
    if bounds and image.numel():
        low, high = bounds
        least, most = float(image.min()), float(image.max())
        if least < low - ROUNDING * (high - low) or most > high + ROUNDING * (high - low):
            raise VesaliusError(f"The generator makes intensities {low:g} to {high:g}, the images have {least:.3g} to {most:.3g}. "
                                "Scale them, or build the method with Design(bounds=(least, greatest)) or bounds=None.")  # fmt: skip
    return image.float()


def widths_of(shape: Sequence[int], design: Design) -> tuple[int, ...]:
    """Those asked for, or twice as many channels each time the sides are halved, until none is above 7."""
    if design.widths or design.kind == "dense":
        return design.widths or DENSE
    widest, widths = max(shape[1:]), [NARROWEST]
    while (widest := (widest + 1) // 2) > COARSEST:
        widths.append(min(2 * widths[-1], WIDEST))
    return tuple(widths)


def sides_of(shape: Sequence[int], widths: Sequence[int]) -> list[tuple[int, ...]]:
    """The sides of the image, then of each stage."""
    sides = [tuple(shape[1:])]
    for _ in widths:
        sides.append(tuple((side + 1) // 2 for side in sides[-1]))
    return sides


def maps_up(shape: Sequence[int], inputs: int, widths: Sequence[int], *, normed: bool) -> nn.Sequential:
    """Noise as maps of the coarsest stage, then transposed convolutions."""
    sides = sides_of(shape, widths)[::-1]
    layers = [blank(nn.Linear, inputs, widths[-1] * prod(sides[0]), bias=not normed), nn.Unflatten(1, (widths[-1], *sides[0]))]
    for (a, b), side in zip(pairwise((*widths[::-1], shape[0])), sides[1:], strict=True):
        last = side is sides[-1]
        layers += [BatchNorm(a) if normed else nn.Identity(), nn.ReLU()]
        layers += [blank(TRANSPOSED[len(side)], a, b, bias=last or not normed), Cropped(side)]
    return nn.Sequential(*layers)


def maps_down(shape: Sequence[int], widths: Sequence[int], *, normed: bool) -> nn.Sequential:
    """Convolutions that halve the sides; no batch normalisation at the first (Radford et al. 2016)."""
    layers: list[nn.Module] = []
    for stage, (a, b) in enumerate(pairwise((shape[0], *widths))):
        here = normed and stage > 0
        layers += [Evened(), blank(CONV[len(shape) - 1], a, b, bias=not here), BatchNorm(b) if here else nn.Identity(), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Flatten())


def dense_up(shape: Sequence[int], inputs: int, widths: Sequence[int], *, normed: bool) -> nn.Sequential:
    """Hidden layers, the last width first; they have no batch normalisation."""
    hidden = [layer for a, b in pairwise((inputs, *widths[::-1])) for layer in (blank(nn.Linear, a, b), nn.ReLU())]
    return nn.Sequential(*hidden, blank(nn.Linear, widths[0], prod(shape)), nn.Unflatten(1, tuple(shape)))


def dense_down(shape: Sequence[int], widths: Sequence[int], *, normed: bool) -> nn.Sequential:
    """The same the other way."""
    hidden = [layer for a, b in pairwise((prod(shape), *widths)) for layer in (blank(nn.Linear, a, b), nn.LeakyReLU(SLOPE))]
    return nn.Sequential(nn.Flatten(), *hidden)


class Evened(nn.Module):
    """Zeros at the end of odd sides, so that halving rounds up."""

    def forward(self, maps: Tensor) -> Tensor:
        odd = [side % 2 for side in maps.shape[:1:-1]]
        return F.pad(maps, [n for end in odd for n in (0, end)]) if any(odd) else maps


class Cropped(nn.Module):
    """The first `sides` of each axis: the inverse of `Evened`."""

    def __init__(self, sides: Sequence[int]) -> None:
        super().__init__()
        self.sides = tuple(sides)

    def forward(self, maps: Tensor) -> Tensor:
        for axis, side in enumerate(self.sides):
            maps = maps.narrow(axis + 2, 0, side)
        return maps


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) over the samples of every process."""

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, maps: Tensor) -> Tensor:
        joint = self.training and dist.is_initialized()
        mean, variance = self.moments(maps) if joint else (self.mean, self.variance)
        if joint:
            return self.scaled(maps, mean, variance)
        return F.batch_norm(maps, mean, variance, self.weight, self.bias, self.training, MOMENTUM, EPS)

    def moments(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each channel over every process, with a gradient; what is kept follows them."""
        axes, channels = [0, *range(2, maps.ndim)], maps.shape[1]
        count = maps.new_tensor([maps.numel() / channels], dtype=torch.float32)
        own = torch.cat([maps.float().sum(axes), maps.float().square().sum(axes), count])
        total: Tensor = Joined.apply(own)  # type: ignore[no-untyped-call]
        mean, square = total[:-1].reshape(2, channels) / total[-1]
        variance = square - mean.square()
        with torch.no_grad():
            self.mean.lerp_(mean, MOMENTUM)
            self.variance.lerp_(variance * total[-1] / (total[-1] - 1), MOMENTUM)
        return mean, variance

    def scaled(self, maps: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """`maps` with those moments taken out and the learned ones put in."""
        scale = self.weight * (variance + EPS).rsqrt()
        over = (1, -1, *(1,) * (maps.ndim - 2))
        return maps * scale.reshape(over) + (self.bias - mean * scale).reshape(over)


class Joined(torch.autograd.Function):
    """The sum over every process, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class Spectral(nn.Module):
    """A weight over its greatest singular value (rows are outputs), by one power iteration each time that it is used in learning."""

    u: Tensor

    def __init__(self, weight: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("u", torch.randn(len(weight), generator=generator))
        for _ in range(WARM):
            self.u = self.iterated(weight.flatten(1))[0]

    @torch.no_grad()
    def iterated(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The next left and right singular vectors."""
        with torch.autocast(rows.device.type, enabled=False):
            v = F.normalize(rows.T @ self.u, dim=0)
            return F.normalize(rows @ v, dim=0), v

    def forward(self, weight: Tensor) -> Tensor:
        rows = weight.flatten(1)
        u, v = self.iterated(rows)
        if self.training:
            self.u.copy_(u)
        with torch.autocast(rows.device.type, enabled=False):
            return weight / (u @ rows @ v)


def blank(layer: type[nn.Module], a: int, b: int, *, bias: bool = True) -> nn.Module:
    """A layer whose weights are there but not drawn, so that the global generator is left alone."""
    with torch.device("meta"):
        made = layer(a, b, bias=bias, **ALONE[layer])
    return made.to_empty(device="cpu")


@torch.no_grad()
def drawn(net: nn.Module, generator: torch.Generator, *, spread: float | None) -> None:
    """Every weight of a layer drawn from `generator`, every bias 0."""
    for layer in net.modules():
        if isinstance(layer, tuple(ALONE)):
            weight, bias = layer.get_parameter("weight"), layer._parameters["bias"]
            if spread is None:
                nn.init.kaiming_normal_(weight, a=SLOPE, generator=generator)
            else:
                nn.init.normal_(weight, 0.0, spread, generator=generator)
            if bias is not None:
                bias.zero_()
