"""The memory of PatchCore: choosing it by the greedy k-centre as anomalib 2 does, and ours.

    python benchmarks/coreset.py [--rounds 3] [--patches 20000] [--numbers 384] [--share 0.02]

anomalib's KCenterGreedy (components/sampling/k_center_greedy.py, read in November 2026) is written anew here, not copied: after a sparse
random projection (Li et al. 2006, as many numbers as the lemma of Johnson and Lindenstrauss asks for at eps = 0.9), each choice takes
the norm of the difference of every row from the last one chosen, the minimum with what was kept, and the greatest of these. Version 1.2
took torch's `pairwise_distance`: the second opponent. The first choice is random; here both sides are given the same.

"choices": both sides are given the same projected rows. "whole": each also projects, by its own rule (ours: 128 numbers, as the authors of
PatchCore do, in bf16 where that pays), so that choices differ, and the greatest distance of a row from the nearest chosen one is put
beside. Rows are patches of white noise smoothed over neighbours and mixed by a random matrix, so that they are correlated as features are.
"""

import argparse
import math

import numpy as np
import torch
from _side_by_side import OURS, in_turns, keep, rows
from torch import Tensor
from torch.nn import functional as F

from vesalius.methods._coreset import centres, nearest, projected

EPS = 0.9  # of anomalib's projection


def patches(number: int, size: int) -> Tensor:
    """(number, size) rows of 32 hidden numbers, smoothed, mixed, bent and with a little noise."""
    random = torch.Generator().manual_seed(0)
    side = math.isqrt(number) + 1
    hidden = F.avg_pool2d(torch.randn(32, side + 4, side + 4, generator=random), 5, 1)
    mixed = hidden.flatten(1).T[:number] @ torch.randn(32, size, generator=random)
    return F.relu(mixed) + 0.05 * torch.randn(number, size, generator=random)


def sparse_projection(data: Tensor) -> Tensor:
    """`data` times a matrix most of whose entries are 0, the others of one size and either sign."""
    many, size = data.shape
    numbers = int(4 * math.log(many) / (EPS**2 / 2 - EPS**3 / 3))
    density, random = 1 / math.sqrt(size), np.random.default_rng(0)
    matrix = np.zeros((numbers, size), np.float32)
    for row in matrix:
        places = random.choice(size, random.binomial(size, density), replace=False)
        row[places] = random.choice((-1.0, 1.0), len(places))
    return data @ torch.from_numpy(matrix * np.sqrt(1 / density / numbers, dtype=np.float32)).T


def norm(data: Tensor, centre: Tensor) -> Tensor:
    return torch.linalg.norm(data - centre, ord=2, dim=1, keepdim=True)


def pairwise(data: Tensor, centre: Tensor) -> Tensor:
    return F.pairwise_distance(data, centre[None], p=2).reshape(-1, 1)


def step_by_step(data: Tensor, number: int, distance=norm) -> Tensor:
    """Every row looks at every choice."""
    chosen, near, last = [0], None, 0
    for _ in range(1, number):
        away = distance(data, data[last])
        near = away if near is None else torch.minimum(near, away)
        last = int(near.argmax())
        near[last] = 0
        chosen.append(last)
    return torch.tensor(chosen)


def agreement(theirs: Tensor, ours: Tensor) -> str:
    """Whether the same rows were chosen, in the same order."""
    if torch.equal(theirs, ours):
        return "the same rows in the same order"
    shared = len(np.intersect1d(theirs, ours)) / len(theirs)
    first = int((theirs[: len(ours)] != ours[: len(theirs)]).nonzero()[0]) if len(ours) else 0
    return f"{100 * shared:.2f} % the same rows, the same order up to choice {first}"


def radius(data: Tensor, chosen: Tensor) -> float:
    return float(nearest(data, data[chosen])[0].max())


def compared(data: Tensor, number: int, *, rounds: int) -> list[dict]:
    """Rows of the table for one size."""
    small = sparse_projection(data)
    about = f"{number:,} of {len(data):,} patches"
    sides = {OURS: lambda: centres(small, number), "anomalib 2's way": lambda: step_by_step(small, number),
             "anomalib 1's way": lambda: step_by_step(small, number, pairwise)}  # fmt: skip
    turns, given = in_turns(sides, rounds=rounds)
    check = {name: agreement(found, given[OURS]) for name, found in given.items()}
    made = rows(f"choices, {about} of {small.shape[1]} numbers", turns, check=check, goal=20)
    whole = {OURS: lambda: centres(projected(data), number), "anomalib 2's way": lambda: step_by_step(sparse_projection(data), number)}
    turns, given = in_turns(whole, rounds=rounds)
    cover = {name: radius(data, found) for name, found in given.items()}
    check = {name: f"greatest distance left: {cover[OURS]:.3f} ours, {value:.3f} theirs" for name, value in cover.items()}
    return made + rows(f"whole, {about} of {data.shape[1]} numbers", turns, check=check, goal=20)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--patches", type=int, nargs="+", default=[20000])
    words.add_argument("--numbers", type=int, default=384, help="numbers in a patch")
    words.add_argument("--share", type=float, nargs="+", default=[0.02],
                       help="of the patches that is chosen, one for each of --patches")  # fmt: skip
    chosen = words.parse_args()
    torch.set_num_threads(1)
    made = []
    for number, share in zip(chosen.patches, chosen.share, strict=True):
        made += compared(patches(number, chosen.numbers), int(number * share), rounds=chosen.rounds)
    keep("coreset", made, title="The memory of PatchCore")


if __name__ == "__main__":
    main()
