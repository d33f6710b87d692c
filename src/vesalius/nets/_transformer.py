"""The transformer that several classifiers share: pre-norm blocks of self-attention (Dosovitskiy et al. 2021), missing tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.errors import UsageError
from vesalius.nets._chance import DropPath, drop_rates

EPS = 1e-6
WIDENING = 4  # of the perceptron in a block


class Attention(nn.Module):
    """Multi-head self-attention of tokens (B, N, width); nobody looks at tokens that are not `there` (B, N)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise UsageError(f"A width of {width} cannot be shared by {heads} heads. Choose another scale.")
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, heads, N, width / heads)."""
        query, key, value = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value

    def forward(self, x: Tensor, there: Tensor | None = None) -> Tensor:
        mask = None if there is None else there[:, None, None]
        seen = F.scaled_dot_product_attention(*self.split(x), attn_mask=mask)
        out: Tensor = self.project(seen.transpose(1, 2).flatten(2))
        return out

    def weights(self, x: Tensor, there: Tensor | None = None) -> Tensor:
        """How much token i looks at token j: (B, heads, N, N), each row sums to 1."""
        query, key, _ = self.split(x)
        scores: Tensor = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        if there is not None:
            scores = scores.masked_fill(~there[:, None, None], -torch.inf)
        return scores.softmax(-1)


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)); each branch is dropped at `rate` while learning."""

    def __init__(self, width: int, heads: int, rate: float) -> None:
        super().__init__()
        self.first, self.attention = nn.LayerNorm(width, eps=EPS), Attention(width, heads)
        self.second = nn.LayerNorm(width, eps=EPS)
        self.perceptron = nn.Sequential(nn.Linear(width, WIDENING * width), nn.GELU(), nn.Linear(WIDENING * width, width))
        self.drops = nn.ModuleList((DropPath(rate), DropPath(rate)))

    def forward(self, x: Tensor, there: Tensor | None = None) -> Tensor:
        x = x + self.drops[0](self.attention(self.first(x), there))
        out: Tensor = x + self.drops[1](self.perceptron(self.second(x)))
        return out


class Transformer(nn.Module):
    """A class token before the tokens (B, N, width), `depth` blocks, a last norm; the answer is the class token (B, width)."""

    def __init__(self, width: int, *, depth: int, heads: int, rate: float = 0.0) -> None:
        super().__init__()
        self.token, self.place = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, drop) for drop in drop_rates(rate, depth))
        self.norm = nn.LayerNorm(width, eps=EPS)

    def draw(self, generator: torch.Generator) -> None:
        """The class token and its place from a normal of standard deviation .02, cut at two of them as published."""
        for weight in (self.token, self.place):
            nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04, generator=generator)

    def begin(self, tokens: Tensor, there: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The class token first; it is always there."""
        x = torch.cat(((self.token + self.place).expand(len(tokens), -1, -1), tokens), 1)
        return x, None if there is None else F.pad(there, (1, 0), value=True)

    def forward(self, tokens: Tensor, there: Tensor | None = None) -> Tensor:
        x, mask = self.begin(tokens, there)
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = self.norm(x[:, 0])
        return out

    def attentions(self, tokens: Tensor, there: Tensor | None = None) -> list[Tensor]:
        """The weights of every block: (B, heads, 1 + N, 1 + N), the class token first."""
        (x, mask), found = self.begin(tokens, there), []
        for block in self.blocks:
            found.append(block.attention.weights(block.first(x), mask))  # type: ignore[operator, union-attr]
            x = block(x, mask)
        return found


class Positions(nn.Module):
    """A learned place (width) for each cell of a grid; on another grid of as many axes the places are interpolated."""

    def __init__(self, grid: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.grid, self.places = grid, nn.Parameter(torch.zeros(*grid, width))

    def draw(self, generator: torch.Generator) -> None:
        """From a normal of standard deviation .02, cut at two of them as published."""
        nn.init.trunc_normal_(self.places, std=0.02, a=-0.04, b=0.04, generator=generator)

    def forward(self, grid: tuple[int, ...]) -> Tensor:
        """Places (*grid, width)."""
        if grid == self.grid:
            return self.places
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(grid)]
        return F.interpolate(self.places.movedim(-1, 0)[None], grid, mode=mode)[0].movedim(0, -1)
