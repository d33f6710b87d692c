"""Whether a heat can be believed: it must change with the model, add up to the score, point at the finding, and its removal must hurt.

Randomisation: Adebayo et al. 2018, NeurIPS. Pointing game: Zhang et al. 2018, IJCV 126:1084; energy: Wang et al. 2020, CVPR workshops.
Deletion: Petsiuk et al. 2018, BMVC.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vesalius.core.errors import UsageError
from vesalius.core.space import Array
from vesalius.explain._frame import Explanation, chosen_class, score

SUSPECT = 0.5  # rank correlation after all weights are random, above which a heat shows the image rather than the model


@dataclass(frozen=True)
class Randomised:
    """`layers` in the order in which their weights were made random, from the answer to the image, and after each the mean rank
    correlation of the heat with that of the trained network (1: unchanged)."""

    layers: tuple[str, ...]
    correlations: tuple[float, ...]

    @property
    def believable(self) -> bool:
        """Whether the heat depends on what the network has learned."""
        return abs(self.correlations[-1]) < SUSPECT

    def sentence(self) -> str:
        """For a report."""
        last = self.correlations[-1]
        if self.believable:
            return f"With random weights the heat changes (rank correlation {last:.2f}): it shows what the network has learned."
        return (f"With random weights the heat stays much the same (rank correlation {last:.2f}): it shows edges of the image rather "
                "than what the network has learned. Do not read it as evidence.")  # fmt: skip


def randomisation_test(net: nn.Module, explain: Explanation, image: Tensor, *, target: Tensor | None = None, seed: int = 0) -> Randomised:
    """Make the weights of a copy random, layer by layer from the last to the first, and see how the heat changes on the way.

    Random weights have the mean and spread of those that they replace. The classes stay those of the trained network.
    """
    chosen = chosen_class(net, image, target)
    before = explain(net, image, chosen)
    copy, names, found = deepcopy(net), [], []
    for name in _cascade(copy, torch.Generator().manual_seed(seed)):
        names.append(name)
        found.append(rank_correlation(before, explain(copy, image, chosen)))
    if not names:
        raise UsageError(f"{type(net).__name__} has no weights to make random.")
    return Randomised(tuple(names), tuple(found))


def _cascade(net: nn.Module, generator: torch.Generator) -> Iterator[str]:
    """Randomise module after module in place, last first; give the name of each."""
    modules = [(name, part) for name, part in net.named_modules() if any(True for _ in part.parameters(recurse=False))]
    for name, part in reversed(modules):
        with torch.no_grad():
            for weight in part.parameters(recurse=False):
                spread = float(weight.std()) if weight.numel() > 1 else float(weight.abs())
                drawn = torch.randn(weight.shape, generator=generator) * spread + float(weight.mean())
                weight.copy_(drawn.to(weight))
        yield name or type(part).__name__


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, of the sizes of two heats (B, *S), the mean over samples; 0 where one of them is flat."""
    from scipy.stats import rankdata

    values = []
    for first, second in zip(a.detach().cpu().abs().flatten(1).numpy(), b.detach().cpu().abs().flatten(1).numpy(), strict=True):
        x, y = (rankdata(v) - (v.size + 1) / 2 for v in (first, second))
        norm = np.sqrt((x @ x) * (y @ y))
        values.append(float(x @ y / norm) if norm > 0 else 0.0)
    return float(np.mean(values))


def completeness_gap(net: nn.Module, image: Tensor, heat: Tensor, *, baseline: float | Tensor = 0.0,
                     target: Tensor | None = None) -> Tensor:  # fmt: skip
    """|sum of heat - (score(image) - score(baseline))| per sample, in logits: 0 for an explanation that accounts for the whole answer."""
    chosen = chosen_class(net, image, target)
    start = torch.as_tensor(baseline, dtype=image.dtype, device=image.device).expand_as(image)
    with torch.no_grad():
        change = score(net(image), chosen) - score(net(start), chosen)
    return (heat.flatten(1).sum(1) - change).abs()


def pointing(heat: Tensor, mask: Tensor, *, tolerance: int = 0) -> Tensor:
    """Whether the hottest place of each heat (B, *S) lies in `mask`, or within `tolerance` voxels of it along every axis: (B,) of bool."""
    marked = mask.bool()
    if tolerance:
        pool = nn.functional.max_pool2d if mask.ndim == 3 else nn.functional.max_pool3d
        marked = pool(marked[:, None].float(), 2 * tolerance + 1, stride=1, padding=tolerance)[:, 0] > 0
    return marked.flatten(1).gather(1, heat.flatten(1).argmax(1, keepdim=True))[:, 0]


def energy_inside(heat: Tensor, mask: Tensor) -> Tensor:
    """Part of the positive heat that lies in `mask`, (B,); 0 where there is none at all."""
    hot = heat.clamp(min=0).flatten(1)
    return (hot * mask.bool().flatten(1)).sum(1) / hot.sum(1).clamp(min=1e-12)


def deletion(net: nn.Module, image: Tensor, heat: Tensor, *, target: Tensor | None = None, baseline: float = 0.0, steps: int = 20) -> Array:
    """Probability of the class (steps + 1, B) while the hottest voxels are replaced by `baseline`, from none to all of them, evenly.
    The mean over the steps is the deletion score: the lower, the more the heat knew."""
    chosen = chosen_class(net, image, target)
    order = heat.flatten(1).argsort(1, descending=True)
    curve = []
    for k in range(steps + 1):
        gone = torch.zeros_like(heat.flatten(1), dtype=torch.bool)
        gone.scatter_(1, order[:, : round(k / steps * order.shape[1])], True)
        left = torch.where(gone.reshape(heat.shape)[:, None], torch.full_like(image, baseline), image)
        with torch.no_grad():
            curve.append(score(net(left).softmax(1), chosen))
    return np.asarray(torch.stack(curve).cpu().numpy())
