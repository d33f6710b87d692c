"""What a machine of visibles and hiddens dreams: states near its own distribution, for the second half of the gradient.

Contrastive divergence starts at the data (Hinton 2002), persistent chains go on from the last step (Tieleman 2008), and parallel
tempering lets chains at many temperatures change places (Desjardins et al. 2010, Cho et al. 2010). What drives the hiddens, of the data
and of the dream, is returned with its gradient: where the dream does not wait for the data, both are one product with the weights.
"""

from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from vesalius.core.settings import Settings
from vesalius.methods._chance import Chance
from vesalius.methods._layers import Beta


class Pair(Protocol):
    """Visibles and hiddens, each independent given the other: a dense, convolutional or discriminative RBM at one instant."""

    def drive(self, visible: Tensor) -> Tensor:
        """What drives the hiddens at beta 1."""

    def free_energy(self, visible: Tensor, drive: Tensor | None = None, beta: Beta = 1.0) -> Tensor:
        """(B,)."""

    def hiddens(self, drive: Tensor, chance: Chance, *, beta: Beta = 1.0, shared: bool = False) -> Tensor:
        """Hiddens given what drives them."""

    def visibles(self, hidden: Tensor, chance: Chance, *, beta: Beta = 1.0, shared: bool = False) -> Tensor:
        """Visibles given hiddens."""


class Dream(Settings):
    """`kind` cd, pcd or tempering; `sweeps` Gibbs steps per learning step; `chains` persistent ones, at each of `temperatures`."""

    kind: Literal["cd", "pcd", "tempering"] = "pcd"
    sweeps: Annotated[int, Field(ge=1)] = 1
    chains: Annotated[int, Field(ge=1)] = 100
    temperatures: Annotated[int, Field(ge=2)] = 10

    @property
    def rows(self) -> int:
        """Persistent states to keep: none for cd."""
        return {"cd": 0, "pcd": self.chains, "tempering": self.chains * self.temperatures}[self.kind]

    def next(self, pair: Pair, data: Tensor, *, kept: Tensor, chance: Chance) -> tuple[Tensor, Tensor, Tensor]:
        """(drive of the hiddens by the data, dreamt visibles, drive by these); `kept` are the persistent hiddens, changed in place."""
        if self.kind == "cd":
            drive = pair.drive(data)
            hidden = pair.hiddens(drive.detach(), chance)
            for _ in range(self.sweeps - 1):
                hidden = _onward(pair, hidden, chance)
            visible = _still(pair, hidden, chance)
            return drive, visible, pair.drive(visible)
        visible = self.onward(pair, kept, kind=data.dtype, chance=chance)
        drive, after = pair.drive(torch.cat([data, visible])).tensor_split([len(data)])
        if self.kind == "pcd":
            kept.copy_(_resting(pair, after, chance))
        return drive, visible, after

    def onward(self, pair: Pair, kept: Tensor, *, kind: torch.dtype, chance: Chance) -> Tensor:
        """The visibles of persistent chains after their sweeps; the hiddens of tempered ones are in `kept` then."""
        if self.kind == "tempering":
            return self._tempered(pair, kept, chance)
        return _still(pair, self.swept(pair, kept.to(kind), chance), chance, shared=True)

    def swept(self, pair: Pair, hidden: Tensor, chance: Chance) -> Tensor:
        """The hiddens of persistent chains that are all but half a sweep further."""
        for _ in range(self.sweeps - 1):
            hidden = _onward(pair, hidden, chance, shared=True)
        return hidden

    @torch.no_grad()
    def _tempered(self, pair: Pair, kept: Tensor, chance: Chance) -> Tensor:
        """Every temperature sweeps, neighbours swap, and the coldest (beta 1) is the dream."""
        beta = _column(torch.linspace(0, 1, self.temperatures, device=kept.device).repeat_interleave(self.chains), kept)
        hidden = kept.float()
        for turn in range(self.sweeps):
            visible = pair.visibles(hidden, chance, beta=beta, shared=True)
            for parity in (turn % 2, 1 - turn % 2):
                visible = swapped(pair, visible, chance, chains=self.chains, parity=parity)
            hidden = pair.hiddens(pair.drive(visible), chance, beta=beta, shared=True)
        kept.copy_(hidden)
        return visible[-self.chains :]


@torch.no_grad()
def swapped(pair: Pair, visible: Tensor, chance: Chance, *, chains: int, parity: int) -> Tensor:
    """`visible` (temperatures x chains, ...), hot to cold, after neighbours (parity, parity + 1), ... were offered each other's state.

    Taken with probability min(1, p_i(x_j) p_j(x_i) / p_i(x_i) p_j(x_j)): the joint distribution stays what it is.
    """
    number = len(visible) // chains
    pairs = range(parity, number - 1, 2)
    if not pairs:
        return visible
    drive = pair.drive(visible)
    levels = [k / (number - 1) for k in range(number)]
    out = visible.clone()
    lots = chance.uniform((len(pairs), chains), shared=True)
    for lot, i in zip(lots, pairs, strict=True):
        hot, cold = (slice(k * chains, (k + 1) * chains) for k in (i, i + 1))
        gain: Tensor = torch.zeros_like(lot)
        for part, sign in ((hot, 1), (cold, -1)):
            for level, other in ((levels[i], 1), (levels[i + 1], -1)):
                gain = gain + sign * other * pair.free_energy(visible[part], drive[part], level)
        take = _column(lot.log() < gain, visible)
        out[hot], out[cold] = torch.where(take, visible[cold], visible[hot]), torch.where(take, visible[hot], visible[cold])
    return out


@torch.no_grad()
def dreamt(pair: Pair, visible: Tensor, *, sweeps: int, seed: int) -> Tensor:
    """Hiddens after `sweeps` Gibbs steps of independent chains that start at `visible`."""
    for sweep in range(1, sweeps + 1):
        chance = Chance(seed, sweep, visible.device)
        hidden = pair.hiddens(pair.drive(visible), chance)
        visible = pair.visibles(hidden, chance)
    return hidden


@torch.no_grad()
def _still(pair: Pair, hidden: Tensor, chance: Chance, *, shared: bool = False) -> Tensor:
    return pair.visibles(hidden, chance, shared=shared)


@torch.no_grad()
def _resting(pair: Pair, drive: Tensor, chance: Chance) -> Tensor:
    return pair.hiddens(drive.detach(), chance, shared=True)


@torch.no_grad()
def _onward(pair: Pair, hidden: Tensor, chance: Chance, *, shared: bool = False) -> Tensor:
    visible = pair.visibles(hidden, chance, shared=shared)
    return pair.hiddens(pair.drive(visible), chance, shared=shared)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *(1,) * (like.ndim - 1))
