"""Occlusion: a window of one grey value slides over the image; where the score falls, the network had looked."""

from collections.abc import Iterator
from itertools import product
from typing import final

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.explain._frame import Explanation, score

CARD = Card(entry="Occlusion", title="Occlusion", summary="Fall of the class score while a window hides a part of the image",
            paper="Zeiler and Fergus 2014, ECCV", tasks=("classify",), tags=("perturbation",))  # fmt: skip
Window = tuple[slice, ...]


@final
class Occlusion(Explanation):
    """`window` and `stride` in voxels, one for all axes or one each (None: an eighth of each side in 2D and a quarter in
    3D, and half of the window).

    A voxel's heat is the mean fall over the windows that hid it. Needs no gradient: any network that answers can be explained.
    """

    signed = True

    def __init__(self, *, window: int | tuple[int, ...] | None = None, stride: int | tuple[int, ...] | None = None,
                 baseline: float = 0.0, at_once: int = 32) -> None:  # fmt: skip
        self.window, self.stride, self.baseline, self.at_once = window, stride, baseline, at_once

    def run(self, net: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            whole = score(net(image), target)
            fall, times = torch.zeros_like(image[:, 0]), torch.zeros_like(image[0, 0])
            places = list(self.windows(image.shape[2:]))
            for start in range(0, len(places), self.at_once):
                some = places[start : start + self.at_once]
                for place, hidden in zip(some, self._scores(net, image, target, places=some), strict=True):
                    fall[(slice(None), *place)] += (whole - hidden).reshape(-1, *[1] * (image.ndim - 2))
                    times[place] += 1
        return fall / times

    def _scores(self, net: nn.Module, image: Tensor, target: Tensor, *, places: list[Window]) -> Tensor:
        """(places, B) with each place hidden."""
        copies = image.repeat(len(places), *[1] * (image.ndim - 1))
        for k, place in enumerate(places):
            copies[(slice(k * len(image), (k + 1) * len(image)), slice(None), *place)] = self.baseline
        return score(net(copies), target.repeat(len(places))).reshape(len(places), len(image))

    def windows(self, sides: torch.Size) -> Iterator[Window]:
        """Every place of the window; the last along an axis ends at the border, so that each voxel is hidden at least once."""
        parts = {2: 8, 3: 4}[len(sides)]
        size = _per_axis(self.window, [max(1, round(side / parts)) for side in sides], "window")
        step = _per_axis(self.stride, [max(1, w // 2) for w in size], "stride")
        if any(w > side for w, side in zip(size, sides, strict=True)) or any(s > w for s, w in zip(step, size, strict=True)):
            raise UsageError(f"A window must fit into the image and a stride into the window; got window {tuple(size)}, stride "
                             f"{tuple(step)} for sides {tuple(sides)}.")  # fmt: skip
        starts = [sorted({*range(0, side - w, s), side - w}) for side, w, s in zip(sides, size, step, strict=True)]
        for corner in product(*starts):
            yield tuple(slice(c, c + w) for c, w in zip(corner, size, strict=True))


def _per_axis(given: int | tuple[int, ...] | None, planned: list[int], what: str) -> list[int]:
    """One number per axis."""
    values = planned if given is None else [given] * len(planned) if isinstance(given, int) else list(given)
    if len(values) != len(planned) or min(values) < 1:
        raise UsageError(f"The {what} of occlusion is one whole number above 0, or one per axis ({len(planned)}); got {given}.")
    return values
