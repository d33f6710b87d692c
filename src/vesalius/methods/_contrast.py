"""What a machine of two layers of 0 / 1 units learns from, in closed form: no graph, and five products of matrices in a step.

The gradient of free_energy(data) - free_energy(dream) is <(v - m)(h - n)> of the dream minus that of the data, h being the probabilities of
hidden units (Melchior et al. 2016, eq. 8). Weights are rounded to the precision of products once, not in each of them, and units are
drawn by 16 bits where that precision is half: both are finer than bfloat16.
"""

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
        return self.drawn(torch.sigmoid(times(drive, beta)), torch.empty_like(drive, dtype=self.weight.dtype), chance=chance, shared=shared)

    def visibles(self, hidden: Tensor, chance: Chance, *, beta: Beta = 1.0, shared: bool = False) -> Tensor:
        """(B, n) in the precision of products."""
        mean = self.mean(hidden, beta)
        return self.drawn(mean, torch.empty_like(mean, dtype=self.weight.dtype), chance=chance, shared=shared)

    def mean(self, hidden: Tensor, beta: Beta = 1.0) -> Tensor:
        """Of the visibles: (B, n) float32."""
        pull = (hidden.to(self.weight.dtype) @ self.weight.T).float()
        return times(pull, beta).add_(self.plain.visible_bias(beta)).sigmoid_()

    def drawn(self, mean: Tensor, out: Tensor, *, chance: Chance, shared: bool) -> Tensor:
        """Units that are 1 with probability `mean`, which is changed, into `out`."""
        if self.weight.dtype == torch.float32:
            return out.copy_(chance.bits(mean, shared=shared))
        return chance.coins(mean, out, shared=shared)

    def free_energy(self, visible: Tensor, drive: Tensor | None = None, beta: Beta = 1.0) -> Tensor:
        """(B,)."""
        return self.plain.free_energy(visible.float(), self.drive(visible) if drive is None else drive, beta)


@torch.no_grad()
def contrast(net: Machine, data: Tensor, *, dream: Dream, kept: Tensor, chance: Chance) -> tuple[dict[str, Tensor], Tensor]:
    """Losses whose gradient in the parameters of `net` is that of free_energy(data) - free_energy(dream), and the sums of visible and
    hidden units over the data. `kept` are the persistent hiddens, changed in place."""
    kind = torch.get_autocast_dtype(data.device.type) if torch.is_autocast_enabled(data.device.type) else data.dtype
    with torch.autocast(data.device.type, enabled=False):
        pair, rows = Quick.of(net.plain(net.base() if dream.kind == "tempering" else None), kind), len(data)
        end = rows + (dream.chains if dream.rows else rows)
        visible = data.new_empty(end + 2 * net.centred, data.shape[1], dtype=kind)
        visible[:rows] = data
        drive = _dreamt(pair, visible, dream=dream, kept=kept, chance=chance, rows=rows, end=end)
        energies = told(pair.plain, visible, drive, rows=rows, end=end)
        hidden = drive.sigmoid_()
        if dream.kind == "pcd":
            pair.drawn(hidden[rows:end].clone(), kept, chance=chance, shared=True)
        gradients, sums = slopes(net, visible, hidden, data=data, end=end)
    with torch.enable_grad():
        losses = Known.apply(*energies, net.weights[0], *net.biases, *gradients)  # type: ignore[no-untyped-call]
    return dict(zip(("data", "dream"), losses, strict=True)), sums


def _dreamt(pair: Quick, visible: Tensor, *, dream: Dream, kept: Tensor, chance: Chance, rows: int, end: int) -> Tensor:
    """What drives the hiddens, from all rows of `visible`; those from `rows` to `end`, which follow the data, are dreamt here."""
    data, dreamt = visible[:rows], visible[rows:end]
    if dream.kind == "pcd":
        hidden = dream.swept(pair, kept.to(visible.dtype), chance)
        pair.drawn(pair.mean(hidden), dreamt, chance=chance, shared=True)
        return pair.drive(visible)
    if dream.kind == "tempering":
        dreamt.copy_(dream.next(pair, data, kept=kept, chance=chance)[1])
        return pair.drive(visible)
    drive, found, after = dream.next(pair, data, kept=kept, chance=chance)
    dreamt.copy_(found)
    return torch.cat([drive, after, drive.new_empty(len(visible) - end, drive.shape[1])])


def told(plain: Layers, visible: Tensor, drive: Tensor, *, rows: int, end: int) -> tuple[Tensor, Tensor]:
    """Mean free energy of the first `TOLD` rows of the data, and minus that of the dream, from `rows` to `end`."""
    few = min(TOLD, rows)
    x, y = (torch.cat([part[:few], part[rows : min(rows + TOLD, end)]]).float() for part in (visible, drive))
    energy = torch.addmv(F.softplus(y).sum(1), x, plain.biases[0]).neg_()
    return energy[:few].mean(), -energy[few:].mean()


def slopes(net: Machine, visible: Tensor, hidden: Tensor, *, data: Tensor, end: int) -> tuple[list[Tensor], Tensor]:
    """Gradients for the weights and both biases, and the sums of visible and hidden units over the data; `hidden` are probabilities, which
    are changed.

    <v h> - m <h> - <v> n, dream minus data, is one product: two rows beyond `end` hold the other terms."""
    rows = len(data)
    sums = [data.sum(0), hidden[:rows].sum(0)]
    others = [part[rows:end].sum(0, dtype=torch.float32) for part in (visible, hidden)]
    below, above = (torch.sub(other / (end - rows), own, alpha=1 / rows) for own, other in zip(sums, others, strict=True))
    hidden[:rows].mul_(-1 / rows)
    hidden[rows:end].mul_(1 / (end - rows))
    if net.centred:
        middles = net.offsets
        visible[end], visible[end + 1] = middles[0], below
        hidden[end], hidden[end + 1] = -above, -middles[1]
    weight = (visible.T @ hidden.to(visible.dtype)).float()
    return [weight, below, above], torch.cat(sums)


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
