"""U-Net, 2D and 3D (Ronneberger, Fischer & Brox 2015, arXiv:1505.04597; Cicek et al. 2016, arXiv:1606.06650).

Ours pads its convolutions (no cropping), down-samples by strided convolution and normalises per instance as nnU-Net does
(Isensee et al. 2021); kernels and strides are given per stage and axis, so that anisotropic scans keep their thick axis.
`norm="none"`, `pool=True` gives the layers of the original paper.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.nets._blocks import ConvBlock, Ladder, Up, convolution, pooling, stages

CARD = Card(
    entry="UNet", title="U-Net", tasks=("segment",),
    summary="Contracting and expanding path with skips; 2D, 3D and anisotropic.",
    paper="Ronneberger, Fischer & Brox 2015, arXiv:1505.04597; Cicek et al. 2016, arXiv:1606.06650; Isensee et al. 2021",
    facts={"parameters": 31030593, "arguments": {"ndim": 2, "in_channels": 1, "out_channels": 1, "norm": "none", "pool": True,
           "channels": (64, 128, 256, 512, 1024)}},
)  # fmt: skip


class UNet(Ladder):
    """`channels[s]` features at stage s, `kernels[s]` and `strides[s]` per stage and axis (stride of stage 0 is 1);
    outputs at all decoder scales but the coarsest."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, channels: Sequence[int] = (16, 32, 64, 128),
                 kernels: Sequence[int | Sequence[int]] = (), strides: Sequence[int | Sequence[int]] = (),
                 norm: str = "instance", pool: bool = False) -> None:
        super().__init__()
        size, step = zip(*stages(ndim, channels, kernels=kernels, strides=strides, ends=(in_channels, out_channels)), strict=True)
        self.pooling = pooling(step)
        self.down = nn.ModuleList()
        for s, width in enumerate(channels):
            entry = in_channels if s == 0 else channels[s - 1]
            shrink: nn.Module = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[ndim](step[s], step[s]) if pool and s else nn.Identity()
            first = ConvBlock(ndim, (entry, width), size[s], stride=1 if pool else step[s], norm=norm)
            self.down.append(nn.Sequential(shrink, first, ConvBlock(ndim, (width, width), size[s], norm=norm)))
        self.ups, self.blocks, self.outs = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for s in range(len(channels) - 2, -1, -1):
            width = channels[s]
            self.ups.append(Up(ndim, (channels[s + 1], width), step[s + 1]))
            second = ConvBlock(ndim, (width, width), size[s], norm=norm)
            self.blocks.append(nn.Sequential(ConvBlock(ndim, (2 * width, width), size[s], norm=norm), second))
        self.outs.extend(convolution(ndim, (channels[s], out_channels), (1,) * ndim) for s in _supervised(channels, pool))

    def enter(self, x: Tensor) -> Tensor:
        return x


def _supervised(channels: Sequence[int], original: bool) -> range:
    """Stages with an output of their own: the finest alone in the original, all but the coarsest decoder stage otherwise."""
    return range(1) if original else range(max(1, len(channels) - 2))
