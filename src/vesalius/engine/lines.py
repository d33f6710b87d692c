"""The axes of a volume on their way to a finer grid: which output voxels lie in which cell of the coarse grid, and how corners are mixed.

A cell is what lies between a coarse voxel and the next; it has the number of the first. Edge to edge, and cut to the coarse voxels:
coarse index = (output index + 1/2) * old side / new side - 1/2.
"""

from dataclasses import dataclass

import numpy as np

from vesalius.core.space import Array


@dataclass(frozen=True, eq=False)
class Line:
    """One axis. `cell` (new,): the cell that holds each output voxel. `count` (old,): how many output voxels each cell holds. `where`
    (slots, old): these; where a cell holds fewer than another its last is named again. `share` (slots, old): how much of the further
    corner each takes, None where voxels are picked, not mixed. `kind` (old,): a small number, equal where counts are. `part` (new,): the
    share of every output voxel."""

    cell: Array
    count: Array
    where: Array
    share: Array | None
    kind: Array
    part: Array

    @property
    def reach(self) -> int:
        """Steps from the first corner of a cell to its last."""
        return 0 if self.share is None else 1

    def ready(self, final: int) -> int:
        """How many output voxels can be made of the coarse voxels below `final`."""
        return int(np.searchsorted(self.cell + self.reach, final, side="left"))

    def needed(self, done: int) -> int:
        """First coarse voxel that output voxels from `done` on still need."""
        return int(self.cell[done]) if done < len(self.cell) else len(self.count)

    @property
    def kinds(self) -> int:
        """How many different counts there are."""
        return int(self.kind.max()) + 1


def line(old: int, new: int, *, nearest: bool) -> Line:
    """The way from `old` voxels to `new` on the same length."""
    place = (np.arange(new) + 0.5) * old / new - 0.5
    picked = nearest or old in (1, new)
    cell = (np.floor(place + 0.5).clip(0, old - 1) if picked else np.floor(place).clip(0, old - 2)).astype(np.int64)
    first, stop = (np.searchsorted(cell, np.arange(old), side=side) for side in ("left", "right"))
    count, kind = stop - first, np.unique(stop - first, return_inverse=True)[1].astype(np.uint16)
    where = np.minimum(first + np.arange(count.max())[:, None], stop - 1).clip(0)
    share = (place.clip(0, old - 1) - cell).astype(np.float32)
    return Line(cell, count, where, None if picked else share[where], kind, share)
