"""Few rows that lie close to all: the greedy k-centre, and nearest neighbours among them.

Gonzalez 1985 (Theoretical Computer Science 38): again and again the row farthest from those chosen; no choice of as many has less than half
its greatest distance. Sener & Savarese 2018 and PatchCore (Roth et al. 2022) choose memory so. Ours makes the same choices for a fraction
of the work: distances to what is chosen only fall, so one that is not up to date bounds from above. Only rows whose bound is among the
largest are kept up to date, a few thousand that lie in the processor's cache; all others learn of many choices at once, by one product of
matrices, when the next choice might be theirs.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ACTIVE = 2048  # rows that are kept up to date, at least
ROWS = 1024  # whose distances to everything are held at once
PROJECTED = 128  # numbers per row after the random projection of PatchCore


def projected(rows: Tensor, *, size: int = PROJECTED, seed: int = 0) -> Tensor:
    """`rows` (N, K) as (N, size) with distances that are about the same (Johnson & Lindenstrauss 1984); as they are where K is no more."""
    if rows.shape[1] <= size:
        return rows
    matrix = np.random.default_rng(seed).standard_normal((rows.shape[1], size), dtype=np.float32) / np.sqrt(size, dtype=np.float32)
    return rows @ torch.from_numpy(matrix).to(rows)


@torch.no_grad()
def centres(rows: Tensor, number: int, *, first: int = 0) -> Tensor:
    """Indices of `number` rows of (N, K), `first` and then always the one farthest from those before; fewer where no others are left that
    differ."""
    rows = rows.float() - rows.float().mean(0)  # distances from a product lose digits where norms are large
    bound = squared(rows, rows[first : first + 1])[:, 0]
    chosen = [first]
    while len(chosen) < min(number, len(rows)) and float(bound.max()) > 0:
        floor = torch.topk(bound, min(len(bound), max(ACTIVE, len(bound) // 64))).values[-1]
        active = torch.nonzero(bound >= floor)[:, 0]
        found = chosen_among(rows[active], bound[active], number - len(chosen), floor=float(floor))
        new = active[found]
        chosen += new.tolist()
        for start in range(0, len(rows), ROWS):
            part = slice(start, start + ROWS)
            bound[part] = torch.minimum(bound[part], squared(rows[part], rows[new]).amin(1))
        bound[new] = 0
    return torch.tensor(chosen, device=rows.device)


def chosen_among(rows: Tensor, near: Tensor, number: int, *, floor: float) -> Tensor:
    """Positions of the rows chosen one after the other while the farthest is not nearer than `floor`; `near` (N,) are squared distances to
    what was chosen before."""
    norms, found = rows.square().sum(1), []
    near, twice = near.clone(), -2 * rows
    while len(found) < number:
        most, place = near.max(0)
        if found and (float(most) < floor or float(most) <= 0):
            break
        found.append(place)
        near = torch.minimum(near, torch.addmv(norms + norms[place], twice, rows[place]).clamp_(min=0))
        near[place] = 0
    return torch.stack(found)


def squared(rows: Tensor, others: Tensor) -> Tensor:
    """Squared distances (N, M), not below 0."""
    norms = rows.square().sum(1, keepdim=True) + others.square().sum(1)
    return torch.addmm(norms, rows, others.T, alpha=-2).clamp_(min=0)


@torch.no_grad()
def nearest(rows: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each row to the nearest of `bank`, and which that is: (N,) each."""
    which = torch.cat([squared(part, bank).argmin(1) for part in torch.split(rows, ROWS)])
    return F.pairwise_distance(rows, bank[which], eps=0.0), which
