"""Deep belief network: a restricted Boltzmann machine on top of layers that only point down.

Hinton, Osindero & Teh 2006 (Neural Computation 18): layers are learned greedily, one RBM after the other, each on what the one below makes
of the images; then all together by the contrastive wake-sleep ("up-down") algorithm, for which ways up and down are untied.
`encoder()` is the way up as a plain network, to be taught with labels afterwards.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._chance import Chance
from vesalius.methods._dream import Dream, dreamt
from vesalius.methods._layers import Layers
from vesalius.methods._machine import Machine
from vesalius.methods._partition import Estimate, annealed, bootstrapped
from vesalius.methods._unlabelled import Unlabelled, decayed, joint_mean, within_unit

CARD = Card(
    entry="Dbn", title="Deep belief network", paper="Hinton, Osindero & Teh 2006, Neural Computation 18",
    tasks=("pretrain", "anomaly", "generate"),
    summary="Restricted Boltzmann machines one upon the other, learned greedily and then together.",
    facts={"arguments": {"hidden": (24, 16), "greedy": 18}},
)  # fmt: skip

Visible = Literal["bernoulli", "gaussian"]
Turn = tuple[str, dict[str, Tensor]]
MOMENTUM = 0.5


class Stack(nn.Module):
    """Machine l stands between layers l and l + 1; `up[l]` is the way up, which is the machine's own until both are untied."""

    def __init__(self, sizes: Sequence[int], generator: torch.Generator, *, gaussian: bool) -> None:
        super().__init__()
        pairs = list(pairwise(sizes))
        self.machines = nn.ModuleList(Machine(pair, generator, gaussian=gaussian and not k) for k, pair in enumerate(pairs))
        self.up = nn.ModuleList(linear(torch.zeros(n, m), torch.zeros(n)) for m, n in pairs[:-1])
        for layer in range(len(self.up)):
            self.tie(layer)

    def layers(self, layer: int) -> Layers:
        """The plain machine between layers `layer` and `layer` + 1."""
        machine = self.machines[layer]
        assert isinstance(machine, Machine)
        return machine.layers()

    @torch.no_grad()
    def tie(self, layer: int) -> None:
        """The way up from `layer` as its machine has it."""
        if layer < len(self.up):
            up = self.up[layer]
            assert isinstance(up, nn.Linear)
            up.weight.copy_(upward(self.layers(layer)))
            up.bias.copy_(self.layers(layer).biases[1])

    def drive(self, layer: int, x: Tensor) -> Tensor:
        """What drives layer + 1 on the way up."""
        drive: Tensor = self.up[layer](x) if layer < len(self.up) else self.layers(layer).drive(x)
        return drive.float() if drive.dtype == torch.bfloat16 else drive

    def log_down(self, layer: int, x: Tensor, above: Tensor) -> Tensor:
        """log p(x | layer above) on the way down: (B,)."""
        machine = self.layers(layer)
        middle = machine.biases[0] + machine.pull(0, {1: above})
        if machine.variance is None:
            return -F.binary_cross_entropy_with_logits(middle, x, reduction="none").sum(1)
        return -F.gaussian_nll_loss(middle, x, machine.variance.expand_as(x), full=True, reduction="none", eps=0.0).sum(1)


class Dbn(Unlabelled):
    """`hidden` units per layer; `greedy` steps for each layer alone, and up-down from then on."""

    def __init__(
        self, shape: Sequence[int], *, hidden: Sequence[int] = (500, 500), visible: Visible = "bernoulli", greedy: int = 2000,
        dream: Dream | None = None, learning_rate: float = 0.05, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.dream, self.greedy = dream or Dream(kind="cd"), greedy
        if len(hidden) < 2 or greedy < 1 or self.dream.kind != "cd" or visible not in ("bernoulli", "gaussian"):
            found = f"{tuple(hidden)}, {visible!r}, {self.dream.kind!r} and {greedy}"
            raise UsageError("A deep belief network has two hidden layers or more, bernoulli or gaussian pixels, contrastive divergence "
                             f"(cd) and at least one greedy step; got {found}.")  # fmt: skip
        self.net = Stack((self.size, *hidden), torch.Generator().manual_seed(seed), gaussian=visible == "gaussian")

    @property
    def depth(self) -> int:
        """Number of machines."""
        return len(self.net.machines)

    def optimisers(self) -> dict[str, Optimizer]:
        """One per layer: its machine, and its way up once that is untied."""
        return {f"layer{k}": SGD(self._groups(k), lr=self.learning_rate, momentum=MOMENTUM) for k in range(self.depth)}

    def _groups(self, layer: int) -> list[dict[str, object]]:
        return decayed(nn.ModuleList([self.net.machines[layer], *self.net.up[layer : layer + 1]]), self.weight_decay)

    def steps(self, batch: Batch) -> Iterator[Turn]:
        chance, data, layer = self.chance(), self.visible(batch["image"]), int(self.step) // self.greedy
        yield from self._alone(layer, data, chance) if layer < self.depth else self._together(data, chance)
        self.step += 1

    def _alone(self, layer: int, data: Tensor, chance: Chance) -> Iterator[Turn]:
        """One RBM learns by contrastive divergence from what the layers below make of the data."""
        machine = self.net.machines[layer]
        assert isinstance(machine, Machine)
        x = self._raised(data, chance, layer)[-1]
        if int(self.step) % self.greedy == 0:
            machine.begin(joint_mean(x))
        pair = machine.layers()
        drive, dream, after = self.dream.next(pair, x, kept=x, chance=chance)
        yield f"layer{layer}", {"data": pair.free_energy(x, drive).mean(), "dream": -pair.free_energy(dream, after).mean()}
        machine.follow(lambda: [joint_mean(x), joint_mean(torch.sigmoid(drive.detach()))], int(self.step))
        self.net.tie(layer)

    def _together(self, data: Tensor, chance: Chance) -> Iterator[Turn]:
        """Up-down: on the way up the ways down learn, the top dreams on, and on the way down the ways up learn."""
        top = self.depth - 1
        wake = self._raised(data, chance, top)
        pair = self.net.layers(top)
        drive, dream, after = self.dream.next(pair, wake[top], kept=data, chance=chance)
        asleep = self._lowered(dream, chance)
        yield f"layer{top}", {"data": pair.free_energy(wake[top], drive).mean(), "dream": -pair.free_energy(dream, after).mean()}
        for layer in range(top):
            down = -self.net.log_down(layer, wake[layer], wake[layer + 1]).mean()
            guess = F.binary_cross_entropy_with_logits(self.net.drive(layer, asleep[layer]), asleep[layer + 1], reduction="none")
            yield f"layer{layer}", {"down": down, "up": guess.sum(1).mean()}

    @torch.no_grad()
    def _raised(self, data: Tensor, chance: Chance, layers: int) -> list[Tensor]:
        """Layers 0 to `layers`, each drawn given the one below."""
        states = [data]
        for layer in range(layers):
            states.append(chance.bits(torch.sigmoid(self.net.drive(layer, states[-1]))).to(data.dtype))
        return states

    @torch.no_grad()
    def _lowered(self, top: Tensor, chance: Chance) -> list[Tensor]:
        """Layers 0 to that of `top`, each drawn given the one above."""
        states = [top]
        for layer in range(self.depth - 2, -1, -1):
            states.insert(0, self.net.layers(layer).visibles(states[0], chance))
        return states

    @torch.no_grad()
    def bound(self, image: Tensor, *, draws: int = 10, seed: int = 0) -> Tensor:
        """log p(image) + log Z of the top machine is at least this, on average over `draws` ways up: (B,)."""
        data = self.units(image)
        total = torch.zeros(len(data), dtype=torch.float64, device=data.device)
        for draw in range(draws):
            states = self._raised(data, Chance(seed, draw, data.device), self.depth - 1)
            for layer, (x, above) in enumerate(pairwise(states)):
                q = torch.sigmoid(self.net.drive(layer, x))
                total += self.net.log_down(layer, x, above) + (torch.special.entr(q) + torch.special.entr(1 - q)).sum(1)
            total -= self.net.layers(self.depth - 1).free_energy(states[-1])
        return total / draws

    def likelihood(self, image: Tensor, *, temperatures: int = 1000, chains: int = 100, seed: int = 0) -> dict[str, Estimate]:
        """Mean log p(image) in nats: the bound, with the log Z of the top machine by AIS (itself too low)."""
        z = annealed(self.net.layers(self.depth - 1).detached(), temperatures=temperatures, chains=chains, seed=seed)
        own = bootstrapped(self.bound(image, seed=seed), lambda drawn: drawn.mean(-1))
        return {"bound": Estimate(own.value - z.value, own.low - z.high, own.high - z.low)}

    def visible(self, image: Tensor) -> Tensor:
        """(B, n) of `image`; refused where it holds what the visible units cannot."""
        units = self.units(image)
        return units if self.net.layers(0).variance is not None else within_unit(units)

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """Up to the top and down again by expectations."""
        x = self.features(image)
        for layer in range(self.depth - 1, -1, -1):
            machine = self.net.layers(layer)
            x = machine.mean(0, machine.pull(0, {1: x}))
        return self.as_image(x)

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """Probabilities of the top layer, each layer by expectations from the one below."""
        x = self.units(image)
        for layer in range(self.depth):
            x = torch.sigmoid(self.net.drive(layer, x))
        return x

    def score(self, image: Tensor) -> Tensor:
        """Minus the bound on log p(image), up to a constant."""
        return -self.bound(image).float()

    def encoder(self) -> nn.Sequential:
        """The way up as a new network, (B, C, *S) to the top layer, for teaching with labels: put a classifier behind it."""
        stages: list[nn.Module] = [nn.Flatten()]
        for layer in range(self.depth):
            machine, up = self.net.layers(layer), self.net.up[layer] if layer < self.depth - 1 else None
            own = (upward(machine), machine.biases[1]) if up is None else (up.weight, up.bias)
            stages += [linear(*own), nn.Sigmoid()]  # type: ignore[arg-type]
        return nn.Sequential(*stages)

    @torch.no_grad()
    def samples(self, number: int, *, sweeps: int = 1000, seed: int = 0) -> Tensor:
        """`number` images: the top machine dreams, and the way down is drawn but for the pixels, which are expectations."""
        top = self.net.layers(self.depth - 1)
        hidden = dreamt(top, top.start(number, Chance(seed, 0, self.step.device))[0], sweeps=sweeps, seed=seed)
        states = self._lowered(top.visibles(hidden, Chance(seed, sweeps + 1, self.step.device)), Chance(seed, sweeps + 2, self.step.device))
        first = self.net.layers(0)
        return self.as_image(first.mean(0, first.pull(0, {1: states[1]})))


def upward(machine: Layers) -> Tensor:
    """(hidden, visible) weights from the visibles to what drives the hiddens."""
    weight = machine.weights[0] if machine.variance is None else machine.weights[0] / machine.variance[:, None]
    return weight.T


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A layer with a copy of these weights; nothing is drawn."""
    with torch.device("meta"):
        made = nn.Linear(weight.shape[1], weight.shape[0])
    made.weight, made.bias = (nn.Parameter(x.detach().clone()) for x in (weight, bias))
    return made
