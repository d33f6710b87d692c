"""Maps of features that a method learns by itself from unlabelled images: what PaDiM, PatchCore and reverse distillation look at.

Those papers take a network that has seen a million photographs. Ours learns on the user's own images, 2D or 3D: an encoder with residual
blocks and a decoder bring whole images back from ones with noise and a missing box (Vincent et al. 2010; Pathak et al. 2016), which asks
for what is around each place. The encoder's maps are then the features. What varies most in them is brightness, which would drown the rest
in a plain distance; so they are whitened before they are compared (PaDiM does so anyway). Weights are laid out like those of
`autoencoder_kl`, so that each of these methods can begin from a run of any other (`--init RUN`). PaDiM and PatchCore also take the maps of
any run that has learned a network of the shelf (`widths` then names it, planned by `--init RUN`), and then learn nothing themselves.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer

from vesalius.core.errors import UsageError
from vesalius.data.batch import Batch
from vesalius.methods._chance import Chance
from vesalius.methods._coded import missed
from vesalius.methods._coder import fresh
from vesalius.methods._maps import MapCoder, pooled
from vesalius.methods._sight import chosen, seen, sighted
from vesalius.methods._spoil import boxed
from vesalius.methods._unlabelled import Unlabelled, decayed
from vesalius.nets._blocks import POOL

FINEST = {2: 32, 3: 16}  # no side of the finest map that is looked at is above this: 1024 or 4096 places
LOOKED = 3  # maps, each half as fine as the one before
WIDTHS = (32, 64, 128)  # channels of the first stages, 128 from there on
CODE = 16  # channels in the middle
NOISE, BOX = 0.25, 0.25  # of an image's own spread; of each side
LINEAR = {2: "bilinear", 3: "trilinear"}
SHRINKAGE = 0.01  # of the mean variance, added to every variance
Widths = Sequence[int] | Mapping[str, Any]
REACH = 4  # standard deviations to which a Gaussian is cut


class Patches(Unlabelled):
    """`maps(image)` are what the encoder makes of it at `stages`, the finest first. `widths` are the channels of every stage; or
    {"name": "resnet", ...}, in place of an encoder of its own a network of the shelf, whose weights come from a run (`--init RUN`)."""

    net: nn.Module

    def __init__(
        self, shape: Sequence[int], *, widths: Widths, looked: int, learning_rate: float, weight_decay: float, seed: int
    ) -> None:
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.borrowed = dict(widths) if isinstance(widths, Mapping) else {}
        if self.borrowed:
            maps = seen(sighted(self.shape, self.borrowed, seed), torch.zeros(1, *self.shape))
            self.stages = chosen(maps, finest=FINEST[len(self.shape) - 1], most=looked)
            self.widths = tuple(one.shape[1] for one in maps)
            self.finest = tuple(maps[self.stages[0]].shape[2:])
            return
        first = first_stage(self.shape)
        self.widths = tuple(cast("Sequence[int]", widths)) or (WIDTHS + WIDTHS[-1:] * first)[: first + LOOKED]
        if len(self.widths) < 2:
            raise UsageError(f"The encoder needs two stages or more; got widths {self.widths}.")
        first = min(first, len(self.widths) - 2)
        self.stages = tuple(range(first, min(first + looked, len(self.widths))))
        sides = self.shape[1:]
        for _ in range(first + 1):
            sides = tuple((side + 1) // 2 for side in sides)
        self.finest = tuple(sides)

    def drawn(self) -> nn.Module:
        """The encoder and the decoder that it learns with, or the network whose maps are taken as they are."""
        if self.borrowed:
            return sighted(self.shape, self.borrowed, int(self.seed))
        return self.own()

    def own(self) -> MapCoder:
        """An encoder and a decoder of its own."""
        made = MapCoder(self.shape, CODE, self.widths, residual=True)
        fresh(made, torch.Generator().manual_seed(int(self.seed)))
        return made

    @property
    def coder(self) -> MapCoder:
        """Encoder and decoder."""
        coder = self.net.coder
        assert isinstance(coder, MapCoder)
        return coder

    @property
    def channels(self) -> int:
        """Numbers at each place, all maps together."""
        return sum(self.widths[stage] for stage in self.stages)

    @property
    def sides(self) -> tuple[int, ...]:
        """Of the finest map that is looked at."""
        return self.finest

    def optimisers(self) -> dict[str, Optimizer]:
        """AdamW; weights are decayed, biases are not. What is borrowed stays as it is."""
        if self.borrowed:
            return {"net": SGD(self.net.parameters(), lr=self.learning_rate)}
        return {"net": AdamW(decayed(self.net, self.weight_decay), lr=self.learning_rate, betas=(0.9, 0.99))}

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        if self.borrowed:  # nothing is learned: one step, whose gradient is 0
            yield "net", {"nothing": torch.stack([weight.sum() for weight in self.net.parameters()]).sum() * 0.0}
        else:
            yield from self._restored(batch)
        self.step += 1

    def _restored(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        yield "net", {"reconstruction": self.restoring(self.checked(batch["image"]), self.chance())}

    def restoring(self, image: Tensor, chance: Chance) -> Tensor:
        """Squared error of the image brought back from one with noise and a box missing."""
        own = image.float().flatten(1).std(1).reshape(-1, *(1,) * (image.ndim - 1))
        spoilt = boxed(image + NOISE * own * chance.normal(image.shape), chance, share=BOX)
        return missed(image, self.coder.decode(self.coder.encode(spoilt)))

    @torch.no_grad()
    def maps(self, image: Tensor) -> list[Tensor]:
        """(B, K, *s) of each stage that is looked at."""
        if self.borrowed:
            found = seen(self.net.coder, self.checked(image).float())  # type: ignore[arg-type]
            return [found[stage] for stage in self.stages]
        return encoded(self.coder, self.checked(image).float(), self.stages)

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """The image through the encoder and the decoder that it learned with; the last map of a network that has no decoder."""
        if self.borrowed:
            return self.maps(image)[-1]
        return self.coder.decode(self.coder.encode(self.checked(image).float()))

    def features(self, image: Tensor) -> Tensor:
        """The coarsest map, averaged over blocks that leave at most four to each side."""
        return pooled(self.maps(image)[-1])

    def on_pixels(self, strange: Tensor) -> Tensor:
        """(B, 1, *S) of numbers at the places of a map, (B, *s): straight lines between their centres, then a Gaussian of half the
        distance between two (the papers' 4 pixels on maps of an eighth of the sides)."""
        n = len(self.shape) - 1
        large = F.interpolate(strange[:, None].float(), self.shape[1:], mode=LINEAR[n], align_corners=False)
        return smoothed(large, max(side / few for side, few in zip(self.shape[1:], self.sides, strict=True)) / 2)


def first_stage(shape: Sequence[int]) -> int:
    """The first stage whose map is not too fine to be looked at; stage k has halved the sides k + 1 times."""
    side, stage = max(shape[1:]), 0
    while (side := (side + 1) // 2) > FINEST[len(shape) - 1]:
        stage += 1
    return stage


def encoded(coder: MapCoder, image: Tensor, stages: Sequence[int]) -> list[Tensor]:
    """Maps (B, K, *s) of `stages`."""
    found, maps = [], image
    for stage in range(max(stages) + 1):
        maps = coder.down[2 * stage : 2 * stage + 2](maps)
        if stage in stages:
            found.append(maps.float())
    return found


def joined(maps: Sequence[Tensor], *, linear: bool = False) -> Tensor:
    """(B, sum of K, *s): every map on the places of the first, by the nearest place or by straight lines between them."""
    sides, n = maps[0].shape[2:], maps[0].ndim - 2
    mode: dict[str, object] = {"mode": LINEAR[n], "align_corners": False} if linear else {"mode": "nearest"}
    return torch.cat([maps[0], *(F.interpolate(m, sides, **mode) for m in maps[1:])], 1)  # type: ignore[arg-type]


def around(maps: Tensor) -> Tensor:
    """Mean over each place and its neighbours that lie in the map."""
    n = maps.ndim - 2
    total, count = (POOL[n](3, 1)(F.pad(x, (1, 1) * n)) for x in (maps, torch.ones_like(maps[:1, :1])))
    mean: Tensor = total / count
    return mean


def as_rows(maps: Tensor) -> Tensor:
    """(B, places, K) of (B, K, *s)."""
    return maps.flatten(2).transpose(1, 2)


def smoothed(image: Tensor, sigma: float) -> Tensor:
    """`image` (B, 1, *S) under a Gaussian of `sigma` pixels, axis by axis; beyond the border lie the border's values."""
    reach = max(1, round(REACH * sigma))
    bell = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=image.device) / sigma) ** 2)
    for axis in range(2, image.ndim):
        line = image.movedim(axis, -1)
        rows = F.pad(line.reshape(prod(line.shape[:-1]), 1, -1), (reach, reach), mode="replicate")
        image = F.conv1d(rows, (bell / bell.sum())[None, None]).reshape(line.shape).movedim(-1, axis)
    return image


def whitening(covariance: Tensor, shrinkage: float) -> Tensor:
    """W (P, d, d) with W' W = (covariance + shrinkage x mean variance of all places and dimensions)^-1, in float64."""
    covariance = covariance.double()
    level = covariance.diagonal(dim1=1, dim2=2).mean().clamp(min=torch.finfo(torch.float32).tiny)
    eye = torch.eye(covariance.shape[-1], dtype=torch.float64, device=covariance.device)
    lower = torch.linalg.cholesky(covariance + shrinkage * level * eye)
    white: Tensor = torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False)
    return white
