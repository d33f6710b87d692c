"""What a machine of two layers of 0 / 1 units learns from, in closed form: no graph, and five products of matrices in a step.

The gradient of free_energy(data) - free_energy(dream) is <(v - m)(h - n)> of the dream minus that of the data, h being the probabilities of
hidden units (Melchior et al. 2016, eq. 8). Weights are rounded to the precision of products once, not in each of them, and units are
drawn by 16 bits where that precision is half: both are finer than bfloat16.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from vesalius.methods._chance import Chance
from vesalius.methods._dream import Dream
from vesalius.methods._layers import Beta, Layers, times
from vesalius.methods._machine import Machine

TOLD = 16  # rows of the data and of the dream whose free energies are worked out for the log


@dataclass(frozen=True)
class Quick:
    """A pair as `Dream` wants it, with weights (n, m) in the precision of products and biases in float32; no gradients."""

    plain: Layers
    weight: Tensor

    @classmethod
    def of(cls, plain: Layers, kind: torch.dtype) -> "Quick":
        return cls(plain, plain.weights[0].to(kind))

    def drive(self, visible: Tensor) -> Tensor:
        """(B, m) float32."""
        return torch.addmm(self.plain.biases[1].to(self.weight.dtype), visible.to(self.weight.dtype), self.weight).float()

    def hiddens(self, drive: Tensor, chance: Chance, *, beta: Beta = 1.0, shared: bool = False) -> Tensor:
        """(B, m) in the precision of products."""
        return self.drawn(torch.sigmoid(times(drive, beta)), chance, shared=shared)

    def visibles(self, hidden: Tensor, chance: Chance, *, beta: Beta = 1.0, shared: bool = False) -> Tensor:
        """(B, n) in the precision of products."""
        pull = (hidden.to(self.weight.dtype) @ self.weight.T).float()
        mean = times(pull, beta).add_(self.plain.visible_bias(beta)).sigmoid_()
        return self.drawn(mean, chance, shared=shared)

    def free_energy(self, visible: Tensor, drive: Tensor | None = None, beta: Beta = 1.0) -> Tensor:
        """(B,)."""
        return self.plain.free_energy(visible.float(), self.drive(visible) if drive is None else drive, beta)

    def drawn(self, mean: Tensor, chance: Chance, *, shared: bool) -> Tensor:
        """Units that are 1 with probability `mean`."""
        if self.weight.dtype == torch.float32:
            return chance.bits(mean, shared=shared)
        return chance.coins(mean, self.weight.dtype, shared=shared)


@torch.no_grad()
def contrast(net: Machine, data: Tensor, *, dream: Dream, kept: Tensor, chance: Chance) -> tuple[dict[str, Tensor], Tensor]:
    """Losses whose gradient in the parameters of `net` is that of free_energy(data) - free_energy(dream), and the sums of visible and
    hidden units over the data. `kept` are the persistent hiddens, changed in place."""
    kind = torch.get_autocast_dtype(data.device.type) if torch.is_autocast_enabled(data.device.type) else data.dtype
    with torch.autocast(data.device.type, enabled=False):
        pair, rows = Quick.of(net.layers(), kind), len(data)
        if dream.kind == "cd":
            drive, visible, after = dream.next(pair, data.to(kind), kept=kept, chance=chance)
            left, *pixels = stacked(net, data, visible, kind=kind)
            drive = torch.cat([drive, after, drive.new_zeros(len(left) - 2 * rows, drive.shape[1])])
        else:
            left, *pixels = stacked(net, data, dream.onward(pair, kept, kind=kind, chance=chance), kind=kind)
            drive = pair.drive(left)
        energies = told(pair.plain, left, drive, rows=rows)
        hidden = drive.sigmoid_()
        if dream.kind == "pcd":
            kept.copy_(pair.drawn(hidden[rows : rows + dream.chains], chance, shared=True))
        gradients, sums = slopes(net, left, hidden, pixels=pixels, rows=rows)
    with torch.enable_grad():
        losses = Known.apply(*energies, net.weights[0], *net.biases, *gradients)  # type: ignore[no-untyped-call]
    return dict(zip(("data", "dream"), losses, strict=True)), sums


def stacked(net: Machine, data: Tensor, dream: Tensor, *, kind: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Visibles of data and dream in one matrix of `kind`, their sums over the data, and how the mean of the dream differs. With centred
    units two more rows follow: the offsets and that difference, which `slopes` needs in its product."""
    sums = data.sum(0)
    slope = dream.sum(0, dtype=torch.float32) / len(dream) - sums / len(data)
    parts = [data.to(kind), dream.to(kind)]
    if net.centred:
        parts.append(torch.stack([net.offsets[0], slope]).to(kind))
    return torch.cat(parts), sums, slope


def told(plain: Layers, visible: Tensor, drive: Tensor, *, rows: int) -> tuple[Tensor, Tensor]:
    """Mean free energy of the first `TOLD` rows of the data, and minus that of the dream, which begins at `rows`."""
    few = min(TOLD, rows)
    x, y = (torch.cat([part[:few], part[rows : rows + TOLD]]).float() for part in (visible, drive))
    energy = -(x @ plain.biases[0] + F.softplus(y).sum(1))
    return energy[:few].mean(), -energy[few:].mean()


def slopes(net: Machine, visible: Tensor, hidden: Tensor, *, pixels: Sequence[Tensor], rows: int) -> tuple[list[Tensor], Tensor]:
    """Gradients for the weights and both biases, and the sums of visible and hidden units over the data: from what `stacked` gave and
    the probabilities of hidden units (changed).

    <v h> - m <h> - <v> n, dream minus data, is one product: rows beside those of data and dream hold the other terms."""
    end = len(visible) - 2 * net.centred
    data, dream = hidden[:rows], hidden[rows:end]
    sums = data.sum(0)
    slope = dream.sum(0) / len(dream) - sums / rows
    data.mul_(-1 / rows)
    dream.mul_(1 / len(dream))
    if net.centred:
        torch.neg(slope, out=hidden[end])
        torch.neg(net.offsets[1], out=hidden[end + 1])
    weight = (visible.T @ hidden.to(visible.dtype)).float()
    return [weight, pixels[1], slope], torch.cat([pixels[0], sums])


class Known(Function):
    """Two numbers, as they are; the gradient of their sum in each of the first half of `parts` is what the second half has in its place."""

    @staticmethod
    def forward(ctx: Any, one: Tensor, other: Tensor, *parts: Tensor) -> tuple[Tensor, Tensor]:
        ctx.gradients = parts[len(parts) // 2 :]
        return one.clone(), other.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor, also: Tensor) -> tuple[Tensor | None, ...]:
        given, ctx.gradients = ctx.gradients, None  # let go of, so that they become the parameters' gradients without a copy
        if float(slope) != 1:
            given = tuple(gradient * slope for gradient in given)
        return (None, None, *given, *[None] * len(given))
