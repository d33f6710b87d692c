"""Masked autoencoder: a vision transformer sees a quarter of the patches, and a small decoder tells the others.

He et al. 2022 (CVPR, arXiv:2111.06377): only visible patches enter the encoder, so it is fast; the decoder is thrown away; the loss is on
hidden patches alone. Ours learns the places of the decoder, where theirs are sines.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.core.settings import Settings
from vesalius.data.batch import Batch
from vesalius.methods._trunk import Trunk, blocks, headless, looked, mapped
from vesalius.methods._unlabelled import Unlabelled, decayed
from vesalius.nets._blocks import initialise
from vesalius.nets._transformer import EPS, Block, Positions

CARD = Card(
    entry="MAE", title="Masked autoencoder (MAE)", paper="He et al. 2022, CVPR, arXiv:2111.06377", tasks=("pretrain", "anomaly"),
    summary="A vision transformer that sees a quarter of an image and tells the rest.", tags=("masked",),
    facts={"arguments": {"trunk": {"name": "vit", "size": "Ti", "scale": 0.0625, "patch": 4}, "mask": 0.5,
           "decoder": {"width": 16, "blocks": 1, "heads": 2}}},
)  # fmt: skip
TINY = 1e-6


class Decoder(Settings):
    """Its size (published: 512 wide, 8 blocks, 16 heads, beside an encoder of 1024)."""

    width: int = 128
    blocks: int = 2
    heads: int = 4


class Telling(nn.Module):
    """All tokens (B, 1 + N, F), the hidden ones given by one learned token, to the pixels of each patch (B, N, pixels)."""

    def __init__(self, features: int, grid: tuple[int, ...], pixels: int, *, size: Decoder) -> None:
        super().__init__()
        self.narrow, self.hidden = nn.Linear(features, size.width), nn.Parameter(torch.zeros(1, 1, size.width))
        self.grid, self.places = grid, Positions(grid, size.width)
        self.blocks = nn.ModuleList(Block(size.width, size.heads, 0.0) for _ in range(size.blocks))
        self.norm, self.pixels = nn.LayerNorm(size.width, eps=EPS), nn.Linear(size.width, pixels)

    def forward(self, seen: Tensor, order: Tensor) -> Tensor:
        """`seen` (B, 1 + V, F): the class token and the patches order[:, :V]; `order` (B, N) the patches, the visible first."""
        x = self.narrow(seen)
        patches = torch.cat([x[:, 1:], self.hidden.expand(len(x), order.shape[1] + 1 - x.shape[1], -1).to(x.dtype)], 1)
        back = order.argsort(1)[..., None].expand(patches.shape)
        x = torch.cat([x[:, :1], patches.gather(1, back) + self.places(self.grid).flatten(0, -2)], 1)
        for block in self.blocks:
            x = block(x)
        found: Tensor = self.pixels(self.norm(x))[:, 1:]
        return found


class MAE(Unlabelled):
    """`trunk` is a vit; `mask`: part of the patches that is hidden; `normalised`: each patch is told in its own mean and deviation, which
    the paper finds a little better for fine-tuning (`infer` then puts the image's own back)."""

    halves = True
    net: Any

    def __init__(
        self, shape: Sequence[int], *, trunk: Trunk | None = None, mask: float = 0.75, decoder: Decoder | None = None,
        normalised: bool = False, learning_rate: float = 1e-3, weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        trunk = trunk or {"name": "vit", "scale": 0.5}
        if trunk.get("name") != "vit":
            raise UsageError(f"A masked autoencoder has a vit as its trunk; got {trunk.get('name')!r}. For other trunks there is simmim.")
        size = decoder if isinstance(decoder, Decoder) else Decoder.checked(dict(decoder or {}), where="decoder")
        self.net, width = headless(self.shape, trunk, torch.Generator().manual_seed(seed), read=mapped)
        grid, _ = self.net.grid(self.shape[1:])
        self.visible, self.normalised = round(prod(grid) * (1 - mask)), normalised
        if not 0 < self.visible < prod(grid):
            raise UsageError(f"Some patches are seen and some hidden; a mask of {mask} hides {prod(grid) - self.visible} of {prod(grid)}.")
        pretext = Telling(width, grid, self.shape[0] * prod(self.net.patch), size=size)
        self.net.pretext = initialise(pretext, torch.Generator().manual_seed(seed + 1))

    def optimisers(self) -> dict[str, Optimizer]:
        """AdamW with the betas of the paper; weights are decayed, biases and norms are not."""
        return {"net": AdamW(decayed(self.net, self.weight_decay), lr=self.learning_rate, betas=(0.9, 0.95))}

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image = self.checked(batch["image"]).float()
        wanted = patches(image, self.net.patch)
        wanted = (wanted - wanted.mean(2, keepdim=True)) / (wanted.std(2, keepdim=True) + TINY) if self.normalised else wanted
        order = self.chance().uniform(wanted.shape[:2]).argsort(1)
        yield "net", {"hidden": hidden_error(self.told(image, order), wanted, order[:, self.visible :])}
        self.step += 1

    def told(self, image: Tensor, order: Tensor) -> Tensor:
        """Every patch (B, N, pixels) told from those that come first in `order` (B, N)."""
        tokens = self.net.tokens(image)
        first = order[:, : self.visible, None].expand(-1, -1, tokens.shape[2])
        found: Tensor = self.net.pretext(looked(self.net, tokens.gather(1, first)), order)
        return found

    @torch.no_grad()
    def infer(self, image: Tensor) -> Tensor:
        """Each patch as it is told where it is hidden, in the mean of several maskings that each hide other patches."""
        image = self.checked(image).float()
        own = patches(image, self.net.patch)
        order = torch.randperm(own.shape[1], generator=torch.Generator().manual_seed(0)).to(image.device)
        total, times = torch.zeros_like(own), torch.zeros(own.shape[1], 1, device=image.device)
        for first in range(0, own.shape[1] + self.visible, self.visible):
            turned = order.roll(-first)
            hidden = turned[self.visible :]
            total[:, hidden] += self.told(image, turned.expand(len(image), -1))[:, hidden]
            times[hidden] += 1
        found = total / times
        if self.normalised:
            found = found * (own.std(2, keepdim=True) + TINY) + own.mean(2, keepdim=True)
        return joined(found, self.net.patch, self.shape)

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """Means of the patches' tokens over the halves of each side, all of them seen: where something lies would be lost in one mean."""
        return blocks(mapped(self.net, self.checked(image).float())).float()

    def score(self, image: Tensor) -> Tensor:
        """Mean squared difference between the image and what is told of it."""
        return (self.infer(image) - image).square().flatten(1).mean(1)


def hidden_error(told: Tensor, wanted: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error over the `hidden` (B, H) patches alone."""
    each = F.mse_loss(told.float(), wanted, reduction="none").mean(2)
    return each.gather(1, hidden).mean()


def patches(image: Tensor, patch: Sequence[int]) -> Tensor:
    """(B, N, C x pixels) of `image` (B, C, *S), in the order of the tokens."""
    n, sides = len(patch), image.shape[2:]
    cut = image.reshape(*image.shape[:2], *(x for side, p in zip(sides, patch, strict=True) for x in (side // p, p)))
    order = [0, *range(2, 2 + 2 * n, 2), 1, *range(3, 3 + 2 * n, 2)]
    return cut.permute(order).flatten(n + 1).flatten(1, n)


def joined(rows: Tensor, patch: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The inverse of `patches`."""
    n, grid = len(patch), [side // p for side, p in zip(shape[1:], patch, strict=True)]
    cut = rows.reshape(len(rows), *grid, shape[0], *patch)
    order = [0, n + 1, *(axis for k in range(n) for axis in (1 + k, n + 2 + k))]
    return cut.permute(order).reshape(len(rows), *shape)
