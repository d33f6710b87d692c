"""DINO: a network is to sort small parts of an image as a slower copy of it sorts large parts of the same image.

Caron et al. 2021 (ICCV, arXiv:2104.14294): self-distillation without labels, kept from collapse by centring the teacher's word (all
answers alike often) and sharpening it (one answer for each image). Ours has few local parts (two) and few prototypes, for small data, and
begins at the centre of the first batch, since a small head is far from even when it is drawn.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.core.settings import Settings
from vesalius.data.batch import Batch
from vesalius.methods._coder import plain_linear
from vesalius.methods._crops import Crops
from vesalius.methods._described import Described, Follower
from vesalius.methods._trunk import Trunk, described, fitted
from vesalius.methods._unlabelled import joint_mean

CARD = Card(
    entry="DINO", title="DINO", paper="Caron et al. 2021, ICCV, arXiv:2104.14294", tasks=("pretrain",),
    summary="Sorts small parts of an image as a slower copy of itself sorts large ones.", tags=("views", "momentum"),
    facts={"arguments": {"trunk": {"name": "unet", "channels": (8, 16)},
           "recipe": {"prototypes": 8, "hidden": 16, "bottleneck": 8, "momentum": 0.9}}},
)  # fmt: skip


class Recipe(Settings):
    """`prototypes` to sort by (published: 65,536), temperatures of student and teacher, `momentum` of the teacher at the start (published
    .996, for a million steps) and of the centre, `local` small parts of `area` per image, widths of the head."""

    prototypes: int = 512
    student: float = 0.1
    teacher: float = 0.04
    momentum: float = 0.99
    centre: float = 0.9
    local: int = 2
    area: tuple[float, float] = (0.1, 0.4)
    hidden: int = 512
    bottleneck: int = 128


class Prototypes(nn.Module):
    """Three dense layers, a point on the sphere, and its inner products with prototypes on the sphere (weights of norm 1)."""

    def __init__(self, features: int, recipe: Recipe) -> None:
        super().__init__()
        first, second = plain_linear(features, recipe.hidden), plain_linear(recipe.hidden, recipe.hidden)
        self.body = nn.Sequential(first, nn.GELU(), second, nn.GELU(), plain_linear(recipe.hidden, recipe.bottleneck))
        self.prototypes = nn.Parameter(torch.empty(recipe.prototypes, recipe.bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.body(x).float(), dim=1) @ F.normalize(self.prototypes, dim=1).T


class DINO(Described):
    """`recipe` as `Recipe` or words for one; `views` are the two large parts."""

    centre: Tensor

    def __init__(
        self, shape: Sequence[int], *, trunk: Trunk | None = None, views: Crops | Mapping[str, Any] | None = None,
        recipe: Recipe | Mapping[str, Any] | None = None, learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, trunk, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.recipe = recipe = recipe if isinstance(recipe, Recipe) else Recipe.checked(dict(recipe or {}), where="recipe")
        if min(recipe.student, recipe.teacher) <= 0 or min(recipe.prototypes, recipe.hidden, recipe.bottleneck) < 1 or recipe.local < 0:
            raise UsageError(f"DINO needs temperatures above 0 and widths of at least 1; got {recipe}.")
        self.views, self.share = Crops.of(views), 0.0
        self.parts = self.views.model_copy(update={"area": recipe.area})
        self.small = fitted(self.net, [side / 2 for side in self.shape[1:]])
        self.net.pretext = self.drawn(Prototypes(self.width, recipe))
        with torch.no_grad():
            self.net.pretext.prototypes.normal_(generator=torch.Generator().manual_seed(seed + 2))
        self.slow = Follower(self.net)
        self.register_buffer("centre", torch.zeros(recipe.prototypes))

    def progress(self, share: float) -> None:
        self.share = share

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image, chance, recipe = self.checked(batch["image"]), self.chance(), self.recipe
        large = [self.views(image, chance) for _ in range(2)]
        small = [self.parts(image, chance, onto=self.small) for _ in range(recipe.local)]
        answers = [torch.cat(views) for views in (large, small) if views]
        said = [part for views in answers for part in self.net.pretext(described(self.net, views)).split(len(image))]
        with torch.no_grad():
            taught = self.slow.copy.pretext(described(self.slow.copy, answers[0])).split(len(image))  # type: ignore[operator]
            means = [joint_mean(one) for one in taught]
            centre = self.centre if self.step else torch.stack(means).mean(0)
            targets = [((one - centre) / recipe.teacher).softmax(1) for one in taught]
        pairs = [cross_entropy(target, word / recipe.student) for a, target in enumerate(targets) for b, word in enumerate(said) if a != b]
        yield "net", {"sorting": torch.stack(pairs).mean()}
        self.slow.follow(self.net, 1 - (1 - recipe.momentum) * (math.cos(math.pi * self.share) + 1) / 2)
        self.centre.copy_(moved(centre, means, recipe.centre))
        self.step += 1


def cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """Mean over the batch of -sum_k p_k log q_k (eq. 2)."""
    return -(target * logits.log_softmax(1)).sum(1).mean()


def moved(centre: Tensor, means: Sequence[Tensor], keep: float) -> Tensor:
    """keep x centre + (1 - keep) x the mean of the teacher's word over all large views (eq. 4)."""
    return keep * centre + (1 - keep) * torch.stack(list(means)).mean(0)
