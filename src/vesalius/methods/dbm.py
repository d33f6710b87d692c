"""Deep Boltzmann machine: two or three hidden layers, every connection undirected, learned jointly.

Salakhutdinov & Hinton 2009 (AISTATS): mean field for the data, persistent chains for the dream. Ours is centred, which lets all layers
learn together without layer-wise pre-training (Montavon & Mueller 2012). With `by_channel` each channel of the image is a modality with
a first hidden layer of its own, and a missing one is dreamt from the others (Srivastava & Salakhutdinov 2012, Suk et al. 2014).
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._chance import Chance
from vesalius.methods._dream import Dream
from vesalius.methods._layers import Layers, States
from vesalius.methods._machine import Machine, Undirected
from vesalius.methods._partition import Estimate, annealed, bootstrapped, conservative
from vesalius.methods._unlabelled import joint_mean, persistent

CARD = Card(
    entry="Dbm", title="Deep Boltzmann machine", paper="Salakhutdinov & Hinton 2009, AISTATS", tasks=("pretrain", "anomaly", "generate"),
    summary="Several hidden layers without directions; fills in a channel that is missing from those that are there.",
    facts={"arguments": {"hidden": (24, 12)}},
)  # fmt: skip

Visible = Literal["bernoulli", "gaussian"]
ITERATIONS = 10  # of mean field while learning; Salakhutdinov & Hinton 2009 run it near convergence, 25 at most


class Dbm(Undirected):
    """`hidden` units per layer, over images in [0, 1] (bernoulli) or standardised ones (gaussian)."""

    def __init__(
        self, shape: Sequence[int], *, hidden: Sequence[int] = (500, 500), visible: Visible = "bernoulli", by_channel: bool = False,
        dream: Dream | None = None, learning_rate: float = 0.02, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.dream = dream or Dream(sweeps=5)
        if len(hidden) < 2 or self.dream.kind != "pcd" or visible not in ("bernoulli", "gaussian"):
            raise UsageError(f"A deep Boltzmann machine has two hidden layers or more, bernoulli or gaussian pixels, and persistent chains "
                             f"(pcd); got {tuple(hidden)}, {visible!r} and {self.dream.kind!r}.")  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        mask = apart(self.shape[0], self.size, hidden[0]) if by_channel else None
        self.net = Machine((self.size, *hidden), generator, gaussian=visible == "gaussian", mask=mask)
        self.register_buffer("kept", persistent(self.dream.rows, (sum(hidden[::2]),), generator))

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """The energy of the data with its mean-field answer, less the free energy of the dream, in which the odd layers are summed out."""
        chance, data = self.chance(), self.visible(batch["image"])
        if not self.step:
            self.net.begin(joint_mean(data))
        layers = self.net.layers()
        believed = self.believed(layers.detached(), data)
        dream = self._dream(layers.detached(), chance)
        drives = layers.drives(dream)
        yield "net", {"data": layers.energy(believed).mean(), "dream": layers.log_weight(dream, drives).mean()}
        odd = [layers.sample(m, d.detach(), chance, shared=True) for m, d in drives.items()]
        self.get_buffer("kept").copy_(torch.cat(odd, 1))
        self.net.follow(lambda: [joint_mean(x) for x in believed.values()], int(self.step))
        self.step += 1

    @torch.no_grad()
    def _dream(self, layers: Layers, chance: Chance) -> States:
        """The even layers of the chains after their sweeps; the kept odd ones are left as they are."""
        sizes = [len(layers.biases[m]) for m in range(1, len(layers), 2)]
        parts = torch.split(self.get_buffer("kept").float(), sizes, 1)
        odd: States = {1 + 2 * k: x for k, x in enumerate(parts)}
        for _ in range(self.dream.sweeps - 1):
            odd = layers.sweep(odd, chance, shared=True)
        return {m: layers.sample(m, d, chance, shared=True) for m, d in layers.drives(odd).items()}

    @torch.no_grad()
    def believed(self, layers: Layers, visible: Tensor, iterations: int = ITERATIONS) -> States:
        """Mean field: the means of independent hidden units that come nearest to p(hidden | visible), from their average activity on.

        Layers of one parity are renewed together, so the bound on log p never falls."""
        rows = len(visible)
        states = {layer: offset.to(visible.dtype).expand(rows, -1) for layer, offset in enumerate(self.net.offsets)}
        states[0] = visible
        for _ in range(iterations):
            for layer in [*range(1, len(layers), 2), *range(2, len(layers), 2)]:
                states[layer] = layers.mean(layer, layers.pull(layer, states))
        return states

    @torch.no_grad()
    def bound(self, image: Tensor, *, iterations: int = 50) -> Tensor:
        """log p(image) + log Z is at least this: minus mean energy, plus the entropy of the mean-field answer, (B,)."""
        layers = self.machine()
        states = self.believed(layers, self.units(image), iterations)
        return -layers.energy(states) + sum(_entropy(x) for layer, x in states.items() if layer)

    def likelihood(self, image: Tensor, *, temperatures: int = 1000, chains: int = 100, seed: int = 0) -> dict[str, Estimate]:
        """Mean log p(image) in nats: `bound` by mean field and the log Z of AIS (itself too low), `conservative` by RAISE."""
        layers, visible = self.machine(), self.units(image)
        z = annealed(layers, temperatures=temperatures, chains=chains, seed=seed)
        own = bootstrapped(self.bound(image).double(), lambda drawn: drawn.mean(-1))
        states, proposal = self._proposed(layers, visible, seed)
        low = conservative(layers, states, log_proposal=proposal, temperatures=temperatures, chains=max(1, chains // 10), seed=seed + 1)
        return {"bound": Estimate(own.value - z.value, own.low - z.high, own.high - z.low),
                "conservative": bootstrapped(low, lambda drawn: drawn.mean(-1))}  # fmt: skip

    def _proposed(self, layers: Layers, visible: Tensor, seed: int) -> tuple[States, Tensor]:
        """The even layers, hidden ones drawn from mean field, and the log probability of what was drawn."""
        means = self.believed(layers, visible, 50)
        even = {layer: means[layer] for layer in range(2, len(layers), 2)}
        drawn = {layer: Chance(seed, layer, visible.device).bits(mean) for layer, mean in even.items()}
        proposal = sum(-F.binary_cross_entropy(even[layer], x, reduction="none").sum(1) for layer, x in drawn.items())
        return {0: visible, **drawn}, torch.as_tensor(proposal)

    def infer(self, image: Tensor) -> Tensor:
        """The image that the first hidden layer, as mean field believes it, stands for."""
        layers = self.machine()
        return self.as_image(layers.mean(0, layers.pull(0, self.believed(layers, self.units(image)))))

    def features(self, image: Tensor) -> Tensor:
        """Mean-field probabilities of every hidden unit, layer after layer."""
        return torch.cat([x for layer, x in self.believed(self.machine(), self.units(image)).items() if layer], 1)

    def score(self, image: Tensor) -> Tensor:
        """Variational free energy."""
        return -self.bound(image)

    @torch.no_grad()
    def fill(self, image: Tensor, missing: Sequence[int], *, sweeps: int = 200, seed: int = 0) -> Tensor:
        """`image` with the channels `missing` replaced by their expectation given the others: the mean of what chains dream whose
        other channels are held, after as many sweeps of burning in."""
        if not missing or not all(0 <= c < self.shape[0] for c in missing):
            raise UsageError(f"Missing channels must be among 0 to {self.shape[0] - 1}; got {list(missing)}.")
        layers, held = self.machine(), self.units(image)
        away = torch.zeros(self.shape, dtype=torch.bool, device=held.device)
        away[list(missing)] = True
        away = away.flatten()
        visible = torch.where(away, self.net.offsets[0].to(held.dtype), held)
        states: States = {0: visible, **{m: x for m, x in self.believed(layers, visible).items() if m and m % 2 == 0}}
        total = torch.zeros_like(held)
        for sweep in range(2 * sweeps):
            chance = Chance(seed, sweep, held.device)
            odd = {m: layers.sample(m, d, chance) for m, d in layers.drives(states).items()}
            even = layers.drives(odd)
            states = {m: layers.sample(m, d, chance) for m, d in even.items()}
            states[0] = torch.where(away, states[0], held)
            total += layers.mean(0, even[0]) * (sweep >= sweeps)
        return self.as_image(torch.where(away, total / sweeps, held))

    @torch.no_grad()
    def samples(self, number: int, *, sweeps: int = 1000, seed: int = 0) -> Tensor:
        """`number` dreamt images, expectations of the last sweep."""
        layers = self.machine()
        states = layers.start(number, Chance(seed, 0, self.step.device))
        for sweep in range(1, sweeps + 1):
            chance = Chance(seed, sweep, self.step.device)
            odd = {m: layers.sample(m, d, chance) for m, d in layers.drives(states).items()}
            states = {m: layers.sample(m, d, chance) for m, d in layers.drives(odd).items()}
        return self.as_image(layers.mean(0, layers.pull(0, odd)))

    def filters(self) -> Tensor:
        """(hidden, C, *S): the weights of each unit of the first hidden layer as an image."""
        return self.as_image(self.machine().weights[0].T)


def apart(modalities: int, visible: int, hidden: int) -> Tensor:
    """(visible, hidden) 0 / 1: the units of each of `modalities` equal parts see their own part alone."""
    if hidden % modalities:
        raise UsageError(f"{hidden} units of the first hidden layer cannot be shared by {modalities} channels. Choose a multiple.")
    of = [torch.arange(modalities).repeat_interleave(n // modalities) for n in (visible, hidden)]
    return (of[0][:, None] == of[1]).float()


def _entropy(mean: Tensor) -> Tensor:
    """Of independent 0 / 1 units with these means, (B,)."""
    both: Tensor = torch.special.entr(mean) + torch.special.entr(1 - mean)
    return both.sum(1)
