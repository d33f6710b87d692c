"""Few rows that lie close to all: the greedy k-centre, and nearest neighbours among them.

Gonzalez 1985 (Theoretical Computer Science 38): again and again the row farthest from those chosen; no choice of as many has less than half
its greatest distance. Sener & Savarese 2018 and PatchCore (Roth et al. 2022) choose memory so. Ours makes the same choices for a fraction
of the work: distances to what is chosen only fall, so one that is not up to date bounds from above. The rows with the largest bounds are
brought up to date, by products of matrices with some choices at a time and no longer than their bound is among the largest; among the
farthest one choice is made after the other, from a table of the distances between them, until the bound of one that was left behind might
be larger. Most rows are soon close to a choice, and left behind.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vesalius.plan.budget import precision

ACTIVE = (2048, 8192)  # rows that are brought up to date at once: a 24th of all, within this
AMONG = 128  # of these, the farthest, that choices are made among without a look at others
AT_ONCE = 128  # choices that these are compared with before the closest are left behind
ALIKE = 1e-6  # squared distances below this part of the greatest squared norm are rounding
ROWS = 1024  # that are worked on at once
PROJECTED = 128  # numbers per row after the random projection of PatchCore
SAMPLED = 4096  # rows whose mean is the origin


@dataclass(frozen=True)
class Table:
    """`rows` (N, K), moved, their squared `norms` (N,), and which of all they are, `places` (N,)."""

    rows: Tensor
    norms: Tensor
    places: Tensor

    @classmethod
    def of(cls, number: int, rows: Tensor) -> "Table":
        """Room for `number` rows like these."""
        norms, places = (torch.empty(number, dtype=kind, device=rows.device) for kind in (torch.float32, torch.long))
        return cls(rows.new_empty(number, rows.shape[1]), norms, places)

    def at(self, which: Tensor) -> "Table":
        return Table(self.rows.index_select(0, which), self.norms[which], self.places[which])

    def part(self, start: int, end: int) -> "Table":
        return Table(self.rows[start:end], self.norms[start:end], self.places[start:end])

    def put(self, start: int, some: "Table") -> int:
        """Copies `some` in from row `start` on; where they end."""
        end = start + len(some.norms)
        for mine, theirs in ((self.rows, some.rows), (self.norms, some.norms), (self.places, some.places)):
            mine[start:end] = theirs
        return end


@torch.no_grad()
def projected(rows: Tensor, *, size: int = PROJECTED, seed: int = 0) -> Tensor:
    """`rows` (N, K) from their middle on as (N, size) with distances that are about the same (Johnson & Lindenstrauss 1984); as they are
    where K is no more. Products are in bf16 where that pays: it changes distances far less than the projection does."""
    if rows.shape[1] <= size:
        return rows
    matrix = np.random.default_rng(seed).standard_normal((rows.shape[1], size), dtype=np.float32) / np.sqrt(size, dtype=np.float32)
    kind = torch.bfloat16 if precision(rows.device.type)[0] == "bf16" else torch.float32
    factor, middle = torch.from_numpy(matrix).to(rows.device, kind), middle_of(rows)
    made = factor.new_empty(len(rows), size, dtype=torch.float32)
    for part, out in zip(torch.split(rows, ROWS), torch.split(made, ROWS), strict=True):
        out.copy_((part - middle).to(kind) @ factor)
    return made


def middle_of(rows: Tensor) -> Tensor:
    """(K,) mean of some rows."""
    return rows[:: max(1, len(rows) // SAMPLED)].mean(0)


@torch.no_grad()
def centres(rows: Tensor, number: int, *, first: int = 0) -> Tensor:
    """Indices of `number` rows of (N, K), `first` and then always the one farthest from those before; fewer where no others are left that
    differ."""
    rows, number = rows.float(), min(number, len(rows))
    most = min(max(ACTIVE[0], len(rows) // 24), ACTIVE[1], len(rows))
    middle = middle_of(rows)  # distances from a product lose digits where norms are large
    norms, bound = looked_at(rows, first, middle=middle)
    alike, seen = ALIKE * float(norms.max()), torch.zeros(len(rows), dtype=torch.long, device=rows.device)
    chosen, begin = Table.of(number, rows), torch.tensor([first], device=rows.device)
    made = chosen.put(0, Table(rows[begin] - middle, norms[begin], begin))
    while made < number:
        near, top = bound.topk(most, sorted=False)
        least, greatest = (float(edge) for edge in torch.aminmax(near))
        if greatest <= alike:
            break
        floor = max(alike, least if most < len(rows) else 0.0)
        some = Table(rows.index_select(0, top).sub_(middle), norms[top], top)
        seen[top] = brought_up(near, seen[top], some, chosen=chosen.part(0, made), floor=floor)
        bound[top] = near
        active, floor = farthest(near, floor)
        among, left = some.at(active), near[active]
        found = chosen_among(among, left, number - made, floor=floor)
        bound[among.places] = left
        made = chosen.put(made, among.at(found))
    return chosen.places[:made]


def looked_at(rows: Tensor, first: int, *, middle: Tensor) -> tuple[Tensor, Tensor]:
    """Squared norms from `middle` on, and squared distances to row `first`: (N,) each."""
    one, norms, away = rows[first] - middle, rows.new_empty(len(rows)), rows.new_empty(len(rows))
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS] - middle
        norms[start : start + ROWS] = torch.linalg.vecdot(part, part)
        away[start : start + ROWS] = part @ one
    return norms, away.mul_(-2).add_(norms).add_(one @ one).clamp_(min=0)


def brought_up(near: Tensor, seen: Tensor, some: Table, *, chosen: Table, floor: float) -> Tensor:
    """`near`, the bounds of `some` rows, with those of the `chosen` that each has not `seen` yet, as long as it is not below `floor`; in
    place. What each has seen then."""
    for start in range(int(seen.min()), len(chosen.norms), AT_ONCE):
        which = torch.nonzero((seen <= start) & (near >= floor))[:, 0]
        these = some if len(which) == len(near) else some.at(which)
        others = chosen.part(start, start + AT_ONCE)
        least = torch.addmm(others.norms, these.rows, others.rows.T, alpha=-2).amin(1)
        near[which] = torch.minimum(near[which], least.add_(these.norms).clamp_(min=0))
        if len(others.norms) == AT_ONCE:  # otherwise they will meet these again, with others
            seen[which] = start + AT_ONCE
    return seen


def farthest(near: Tensor, floor: float) -> tuple[Tensor, float]:
    """Positions of the greatest of `near`, not below `floor` and at most `AMONG`; what no other exceeds."""
    active = torch.nonzero(near >= floor)[:, 0]
    if len(active) <= AMONG:
        return active, floor
    value, top = near.topk(AMONG)
    return top, float(value[-1])


def chosen_among(some: Table, near: Tensor, number: int, *, floor: float) -> Tensor:
    """Positions of at most `number` rows chosen one after the other while the farthest is not nearer than `floor`; `near` (N,) are squared
    distances to what was chosen before, and are kept up to date, in place. By numpy, which is quicker with few numbers."""
    away = torch.addmm(some.norms, some.rows, some.rows.T, alpha=-2).add_(some.norms[:, None]).clamp_(min=0).cpu().numpy()
    left, found = near.cpu().numpy(), list[int]()
    while len(found) < number and len(left):
        place = int(left.argmax())
        if left[place] < floor:
            break
        found.append(place)
        np.minimum(left, away[place], out=left)
        left[place] = 0
    near.copy_(torch.from_numpy(left))
    return torch.tensor(found, dtype=torch.long, device=near.device)


def squared(rows: Tensor, others: Tensor) -> Tensor:
    """Squared distances (N, M), not below 0."""
    norms = rows.square().sum(1, keepdim=True) + others.square().sum(1)
    return torch.addmm(norms, rows, others.T, alpha=-2).clamp_(min=0)


@torch.no_grad()
def nearest(rows: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each row to the nearest of `bank`, and which that is: (N,) each."""
    which = torch.cat([squared(part, bank).argmin(1) for part in torch.split(rows, ROWS)])
    return F.pairwise_distance(rows, bank[which], eps=0.0), which
