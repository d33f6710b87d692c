"""Mirroring of each allowed axis with probability one half; exact, for no voxel is interpolated.

Which axes are allowed is the planner's question: left and right differ where the labels name sides.
"""

from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Parameters, Spatial
from vesalius.augment._homogeneous import Rows, diagonal, together
from vesalius.core.card import Card
from vesalius.core.errors import UsageError

CARD = Card(entry="Mirror", title="mirroring", summary="Each allowed axis is mirrored every other time.", tags=("spatial",))


class Mirror(Spatial):
    """`axes[i]` says whether axis i may be mirrored."""

    order: ClassVar[int] = 50

    def __init__(self, axes: tuple[bool, ...]) -> None:
        self.axes = np.array(axes)
        self.probability = 1.0

    @classmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        if not any(settings.mirror):
            return None
        if len(settings.mirror) != frame.ndim:
            raise UsageError(f"Expected augment.mirror with one true / false for each of {frame.ndim} axes; got {settings.mirror}.")
        return cls(settings.mirror)

    @classmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        return {"mirror": (True,) * ndim}

    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        tossed = torch.rand(frame.ndim, generator=generator).numpy() < 0.5
        return {"mirrored": torch.from_numpy(tossed & self.axes)}

    def matrix(self, parameters: Parameters, frame: Frame) -> Tensor:
        return together(self, parameters, frame)

    def rows(self, parameters: Parameters, frame: Frame) -> Rows:
        return diagonal([-1.0 if mirrored else 1.0 for mirrored in parameters["mirrored"].tolist()])
