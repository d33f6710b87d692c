"""Few rows that lie close to all: the greedy k-centre, and nearest neighbours among them.

Gonzalez 1985 (Theoretical Computer Science 38): again and again the row farthest from those chosen; no choice of as many has less than half
its greatest distance. Sener & Savarese 2018 and PatchCore (Roth et al. 2022) choose memory so. Ours makes the same choices for a fraction
of the work: distances to what is chosen only fall, so one that is not up to date bounds from above. The rows with the largest bounds are
brought up to date, by one product of matrices for all choices that they have not seen; among them one choice is made after the other, in
the processor's cache, until the bound of one that was left behind might be larger. Most rows are soon close to a choice, and left behind.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ACTIVE = (1024, 8192)  # rows that are brought up to date at once: a twelfth of all, within this
ALIKE = 1e-6  # squared distances below this part of the greatest squared norm are rounding
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
    number, most = min(number, len(rows)), min(max(ACTIVE[0], len(rows) // 12), ACTIVE[1], len(rows))
    alike = ALIKE * float(rows.square().sum(1).max())
    chosen, made = torch.full((number,), first, device=rows.device), 1
    bound, seen = to_nearest(rows, rows[chosen[:1]]), torch.ones(len(rows), dtype=torch.long, device=rows.device)
    while made < number:
        value, top = bound.topk(min(most + 1, len(rows)))
        if float(value[0]) <= alike:
            break
        floor, top = max(alike, float(value[-1]) if most < len(rows) else 0.0), top[:most]
        brought_up(bound, seen, top, rows=rows, chosen=chosen[:made])
        active = top[bound[top] >= floor]
        new = active[chosen_among(rows[active], bound[active], number - made, floor=floor)]
        chosen[made : made + len(new)], bound[new] = new, 0
        made += len(new)
    return chosen[:made]


def brought_up(bound: Tensor, seen: Tensor, top: Tensor, *, rows: Tensor, chosen: Tensor) -> None:
    """`bound` of the rows `top` with every one of the `chosen`, of which each row has `seen` the first so many; in place."""
    before = seen[top]
    for number in before.unique().tolist():
        group = top[before == number]
        if number < len(chosen):
            bound[group] = torch.minimum(bound[group], to_nearest(rows[group], rows[chosen[number:]]))
    seen[top] = len(chosen)


def chosen_among(rows: Tensor, near: Tensor, number: int, *, floor: float) -> list[int]:
    """Positions of the rows chosen one after the other while the farthest is not nearer than `floor`; `near` (N,) are squared distances to
    what was chosen before."""
    norms, found = rows.square().sum(1), []
    twice = -2 * rows
    while len(found) < number and len(rows):
        most, place = (x.item() for x in near.max(0))
        if most < floor:
            break
        found.append(int(place))
        near = torch.minimum(near, torch.addmv(norms + norms[found[-1]], twice, rows[found[-1]]).clamp_(min=0))
        near[found[-1]] = 0
    return found


def to_nearest(rows: Tensor, others: Tensor) -> Tensor:
    """Squared distance of each row to the nearest of `others`, (N,)."""
    norms = others.square().sum(1)
    least = torch.cat([torch.addmm(norms, part, others.T, alpha=-2).amin(1) for part in torch.split(rows, ROWS)])
    return (least + rows.square().sum(1)).clamp_(min=0)


def squared(rows: Tensor, others: Tensor) -> Tensor:
    """Squared distances (N, M), not below 0."""
    norms = rows.square().sum(1, keepdim=True) + others.square().sum(1)
    return torch.addmm(norms, rows, others.T, alpha=-2).clamp_(min=0)


@torch.no_grad()
def nearest(rows: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each row to the nearest of `bank`, and which that is: (N,) each."""
    which = torch.cat([squared(part, bank).argmin(1) for part in torch.split(rows, ROWS)])
    return F.pairwise_distance(rows, bank[which], eps=0.0), which
