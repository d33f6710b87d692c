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

from vesalius.methods._chance import Chance
from vesalius.methods._dream import Dream
from vesalius.methods._layers import Beta, Layers
from vesalius.methods._machine import Machine
from vesalius.methods._unlabelled import joint_sum

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
        return self._drawn(torch.sigmoid(drive * beta), chance, shared=shared)

    def visibles(self, hidden: Tensor, chance: Chance, *, beta: Beta = 1.0, shared: bool = False) -> Tensor:
        """(B, n) in the precision of products."""
        pull = (hidden.to(self.weight.dtype) @ self.weight.T).float()
        mean = torch.sigmoid_(self.plain.visible_bias(beta) + pull * beta)
        return self._drawn(mean, chance, shared=shared)

    def free_energy(self, visible: Tensor, drive: Tensor | None = None, beta: Beta = 1.0) -> Tensor:
        """(B,)."""
        return self.plain.free_energy(visible.float(), self.drive(visible) if drive is None else drive, beta)

    def _drawn(self, mean: Tensor, chance: Chance, *, shared: bool) -> Tensor:
        if self.weight.dtype == torch.float32:
            return chance.bits(mean, shared=shared)
        return chance.coins(mean, self.weight.dtype, shared=shared)


@torch.no_grad()
def contrast(net: Machine, data: Tensor, *, dream: Dream, kept: Tensor, chance: Chance) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Losses whose gradient in the parameters of `net` is that of free_energy(data) - free_energy(dream), and the means of visible and
    hidden units under the data, of every process. `kept` are the persistent hiddens, changed in place."""
    kind = torch.get_autocast_dtype(data.device.type) if torch.is_autocast_enabled(data.device.type) else data.dtype
    with torch.autocast(data.device.type, enabled=False):
        pair = Quick.of(net.layers(), kind)
        visible = data.to(kind)
        drive, dreamt, after = dream.next(pair, visible, kept=kept, chance=chance)
        gradients, sums = slopes(net, torch.cat([visible, dreamt.to(kind)]), torch.cat([drive, after]), rows=len(data))
        few = [torch.cat([one[:TOLD], other[:TOLD]]) for one, other in ((visible, dreamt.to(kind)), (drive, after))]
        energies = [part.mean() for part in pair.free_energy(*few).tensor_split([min(TOLD, len(data))])]
        means = joint_sum(sums, len(data)).tensor_split([len(net.biases[0])])
    with torch.enable_grad():
        told: tuple[Tensor, Tensor] = Known.apply(  # type: ignore[no-untyped-call]
            energies[0], -energies[1], net.weights[0], *net.biases, *gradients
        )
    return dict(zip(("data", "dream"), told, strict=True)), list(means)


def slopes(net: Machine, visible: Tensor, drive: Tensor, *, rows: int) -> tuple[list[Tensor], Tensor]:
    """Gradients for the weights and both biases, where the first `rows` of `visible` are data and the others a dream; and the sums of
    visible and hidden units over the data."""
    hidden = torch.sigmoid(drive)
    parts = [hidden[:rows], hidden[rows:]]
    h, v = [part.mean(0) for part in parts], [part.float().mean(0) for part in (visible[:rows], visible[rows:])]
    sums = torch.cat([v[0], h[0]]) * rows
    parts[0].div_(-rows)
    parts[1].div_(len(hidden) - rows)
    weight = (visible.T @ hidden.to(visible.dtype)).float()
    if net.centred:
        below, above = net.offsets
        weight.addcmul_(below[:, None], h[1] - h[0], value=-1).addcmul_((v[1] - v[0])[:, None], above, value=-1)
    return [weight, v[1] - v[0], h[1] - h[0]], sums


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
