"""U-Net with a residual encoder (Isensee et al. 2024, "nnU-Net Revisited", arXiv:2404.09556; blocks of He et al. 2016).

The encoder stacks residual blocks, one convolution block per decoder stage is enough. Same arguments as the plain U-Net.
The count on the card is that of the preset ResEnc-L (102,350,575 in the authors' code, dynamic-network-architectures 0.4.1)
less its head at the coarsest decoder scale, which nnU-Net gives the weight 0 and ours leaves out.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.nets._blocks import ConvBlock, Ladder, ResidualBlock, Up, convolution, pooling, stages

CARD = Card(
    entry="ResidualUNet", title="Residual-encoder U-Net", tasks=("segment",),
    summary="U-Net whose encoder stages are stacks of residual blocks.",
    paper="Isensee et al. 2024, arXiv:2404.09556; He et al. 2016, arXiv:1512.03385",
    facts={"parameters": 102349612, "arguments": {"ndim": 3, "in_channels": 1, "out_channels": 3,
           "channels": (32, 64, 128, 256, 320, 320)}},
)  # fmt: skip

BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6)  # per stage, as the published presets


class ResidualUNet(Ladder):
    """`channels[s]` features and `blocks[s]` residual blocks at stage s; kernels and strides per stage and axis;
    outputs at all decoder scales but the coarsest."""

    def __init__(self, ndim: int, in_channels: int, out_channels: int, *, channels: Sequence[int] = (16, 32, 64, 128),
                 kernels: Sequence[int | Sequence[int]] = (), strides: Sequence[int | Sequence[int]] = (),
                 blocks: Sequence[int] = BLOCKS) -> None:
        super().__init__()
        size, step = zip(*stages(ndim, channels, kernels=kernels, strides=strides, ends=(in_channels, out_channels)), strict=True)
        if len(blocks) < len(channels) or min(blocks) < 1:
            raise UsageError(f"Each of the {len(channels)} stages needs at least one block; got {tuple(blocks)}.")
        self.pooling = pooling(step)
        self.stem = ConvBlock(ndim, (in_channels, channels[0]), size[0])
        self.down = nn.ModuleList()
        for s, width in enumerate(channels):
            first = ResidualBlock(ndim, (channels[max(0, s - 1)], width), size[s], stride=step[s])
            rest = [ResidualBlock(ndim, (width, width), size[s]) for _ in range(blocks[s] - 1)]
            self.down.append(nn.Sequential(first, *rest))
        self.ups, self.blocks, self.outs = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for s in range(len(channels) - 2, -1, -1):
            self.ups.append(Up(ndim, (channels[s + 1], channels[s]), step[s + 1]))
            self.blocks.append(ConvBlock(ndim, (2 * channels[s], channels[s]), size[s]))
        supervised = range(max(1, len(channels) - 2))
        self.outs.extend(convolution(ndim, (channels[s], out_channels), (1,) * ndim) for s in supervised)

    def enter(self, x: Tensor) -> Tensor:
        first: Tensor = self.stem(x)
        return first
