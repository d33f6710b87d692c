"""A compact convolutional network for small images: two convolutions with batch normalisation per stage, halved between stages.

The plain form of Springenberg et al. 2015, Striving for simplicity (ICLR workshop, arXiv:1412.6806), as small as images of 28 to 64
pixels need; ours pools by taking the largest value, and drops out whole maps before they are averaged.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.nets._blocks import CONV
from vesalius.nets._chance import DropMaps

CARD = Card(
    entry="Compact", title="Compact CNN", summary="Half a million weights for small images.",
    paper="Springenberg et al. 2015, ICLR workshop, arXiv:1412.6806", tasks=("classify",),
    facts={"parameters": 458066, "arguments": {"ndim": 2, "in_channels": 1, "out_channels": 2}},
)  # fmt: skip
NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL: dict[int, Any] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
LEAST = 2  # pixels along the longest side


class Compact(nn.Module):
    """`channels[s]` features at stage s; every stage but the first begins by halving each side that is longer than one."""

    def __init__(
        self, ndim: int, in_channels: int, out_channels: int, *, channels: Sequence[int] = (48, 96, 144), dropout: float = 0.2
    ) -> None:
        super().__init__()
        if ndim not in CONV or not channels or min(in_channels, out_channels, *channels) < 1 or not 0 <= dropout < 1:
            raise UsageError("A compact network needs 2 or 3 axes, at least one channel at both ends and per stage, and a dropout below 1; "
                             f"got ndim {ndim}, channels {in_channels}, {tuple(channels)}, {out_channels}, dropout {dropout}.")  # fmt: skip
        self.ndim, self.in_channels = ndim, in_channels
        widths = [in_channels, *channels]
        self.stages = nn.ModuleList(_stage(ndim, a, b) for a, b in zip(widths[:-1], channels, strict=True))
        self.drop = DropMaps(dropout)
        self.answer = nn.Linear(channels[-1], out_channels)

    def trunk(self, image: Tensor) -> Tensor:
        """Maps (B, F, *s) of the last stage."""
        if image.ndim != self.ndim + 2 or image.shape[1] != self.in_channels or max(image.shape[2:]) < LEAST:
            raise VesaliusError(f"The network expects (B, C, *S) with {self.in_channels} channels and {self.ndim} sides, one of at "
                                f"least {LEAST} pixels; got {tuple(image.shape)}. Change patch.size or preparation.channels.")  # fmt: skip
        now = image
        for number, stage in enumerate(self.stages):
            if number:
                half = tuple(2 if side > 1 else 1 for side in now.shape[2:])
                now = POOL[self.ndim](half, half, ceil_mode=True)(now)
            now = stage(now)
        return now

    def classify(self, maps: Tensor) -> Tensor:
        """Logits (B, K) of the maps' means."""
        logits: Tensor = self.answer(self.drop(maps).flatten(2).mean(2))
        return logits

    def heads(self, image: Tensor) -> list[Tensor]:
        """The logits; there are no auxiliary ones."""
        return [self(image)]

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.trunk(image))


def _stage(ndim: int, before: int, width: int) -> nn.Module:
    """Two convolutions of three voxels, each normalised over the batch."""
    layers: list[nn.Module] = []
    for a in (before, width):
        layers += [CONV[ndim](a, width, 3, padding=1, bias=False), NORM[ndim](width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
