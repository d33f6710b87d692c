"""Stacked autoencoder: dense layers learned one upon the other, each to bring back what it is given, and then together.

Bengio et al. 2007 (NeurIPS); with `spoil` each layer brings its input back from a spoilt one (stacked denoising autoencoder, Vincent et al.
2010, JMLR 11). While all learn together, the layers are stepped in turn on the error of the whole.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._chance import Chance
from vesalius.methods._coded import missed
from vesalius.methods._coder import fresh, plain_linear
from vesalius.methods._spoil import Spoil
from vesalius.methods._unlabelled import Unlabelled, decayed

CARD = Card(
    entry="StackedAutoencoder", title="Stacked autoencoder", paper="Bengio et al. 2007, NeurIPS; Vincent et al. 2010, JMLR 11",
    tasks=("pretrain", "anomaly"),
    summary="Layers learned one upon the other, plain or denoising, then together.", tags=("stacked denoising",),
    facts={"arguments": {"hidden": (24, 12), "greedy": 16}},
)  # fmt: skip

Turn = tuple[str, dict[str, Tensor]]


class Layer(nn.Module):
    """`up` to sigmoid units, and `down` to what they stand for (sigmoid where that was a layer of them)."""

    def __init__(self, below: int, above: int, *, first: bool) -> None:
        super().__init__()
        self.up = nn.Sequential(plain_linear(below, above), nn.Sigmoid())
        self.down = nn.Sequential(plain_linear(above, below), nn.Identity() if first else nn.Sigmoid())


class StackedAutoencoder(Unlabelled):
    """`hidden` units per layer; `greedy` steps for each layer alone, then all together."""

    def __init__(
        self, shape: Sequence[int], *, hidden: Sequence[int] = (512, 128), greedy: int = 2000, spoil: Spoil | None = None,
        learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        if not hidden or min(hidden) < 1 or greedy < 1:
            raise UsageError(f"A stack has layers of at least one unit and greedy steps for each; got {tuple(hidden)} and {greedy}.")
        self.greedy, self.spoil = greedy, spoil
        layers = [Layer(a, b, first=not k) for k, (a, b) in enumerate(pairwise((self.size, *hidden)))]
        self.net = nn.ModuleList(layers)
        fresh(self.net, torch.Generator().manual_seed(seed))

    def optimisers(self) -> dict[str, Optimizer]:
        """One AdamW per layer."""
        return {f"layer{k}": AdamW(decayed(layer, self.weight_decay), lr=self.learning_rate, betas=(0.9, 0.99))
                for k, layer in enumerate(self.net)}  # fmt: skip

    def steps(self, batch: Batch) -> Iterator[Turn]:
        chance, units, layer = self.chance(), self.units(batch["image"]), int(self.step) // self.greedy
        if layer < len(self.net):
            yield from self._alone(layer, units, chance)
        else:
            spoilt = self.spoil(units, chance) if self.spoil else units
            for name in range(len(self.net)):
                yield f"layer{name}", {"reconstruction": missed(units, self._down(self._up(spoilt, len(self.net)), len(self.net)))}
        self.step += 1

    def _alone(self, layer: int, units: Tensor, chance: Chance) -> Iterator[Turn]:
        with torch.no_grad():
            below = self._up(units, layer)
            given = self.spoil(below, chance) if self.spoil else below
        one = self.net[layer]
        yield f"layer{layer}", {"reconstruction": missed(below, one.down(one.up(given)))}  # type: ignore[operator]

    def _up(self, x: Tensor, layers: int) -> Tensor:
        for layer in list(self.net)[:layers]:
            x = layer.up(x)  # type: ignore[operator]
        return x

    def _down(self, x: Tensor, layers: int) -> Tensor:
        for layer in reversed(list(self.net)[:layers]):
            x = layer.down(x)  # type: ignore[operator]
        return x

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """The image through every layer and back."""
        return self.as_image(self._down(self._up(self.units(image), len(self.net)), len(self.net)))

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """The top layer."""
        return self._up(self.units(image), len(self.net))

    def score(self, image: Tensor) -> Tensor:
        """Mean squared difference between the image and what comes back."""
        return (self.infer(image) - image).square().flatten(1).mean(1)

    def encoder(self) -> nn.Sequential:
        """A copy of the way up as a network, (B, C, *S) to the top layer, for teaching with labels: put a classifier behind it."""
        ups: list[nn.Module] = [deepcopy(layer.up) for layer in self.net if isinstance(layer, Layer)]
        return nn.Sequential(nn.Flatten(), *ups)
