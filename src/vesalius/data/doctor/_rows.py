"""Thumbnails of very many cases, held in a file: memory keeps a number for each, and reads what is looked at."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

import numpy as np

from vesalius.core.space import Array

HELD = 16 << 20  # bytes that stay in memory; what is more goes to a file in the folder for temporary files, which has no name


class Stack(Protocol):
    """What can be read in slices along its first axis, as an array can."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Array: ...


class Rows:
    """Arrays of one shape and kind after each other, added at the end and read in slices or by their numbers; the file goes when
    nobody knows these rows any more. Threads may share them."""

    def __init__(self, side: Sequence[int], kind: str) -> None:
        self.side, self.kind = tuple(side), np.dtype(kind)
        self._size = int(np.prod(self.side)) * self.kind.itemsize
        self._file: Any = tempfile.SpooledTemporaryFile(HELD)  # open as long as the rows are known
        self._count, self._alone = 0, Lock()

    def __len__(self) -> int:
        return self._count

    def __del__(self) -> None:
        self._file.close()

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._count, *self.side)

    def add(self, rows: Array) -> int:
        """Put `rows` (N, *side) at the end; the number of the first."""
        with self._alone:
            first = self._count
            self._file.seek(first * self._size)
            self._file.write(np.ascontiguousarray(rows, self.kind).tobytes())
            self._count += len(rows)
        return first

    def __getitem__(self, part: slice | Array) -> Array:
        """(M, *side) as an array of its own."""
        if isinstance(part, slice):
            start, stop, _ = part.indices(self._count)
            return self._read(start, max(0, stop - start))
        return np.concatenate([self._read(int(k), 1) for k in part]) if len(part) else self._read(0, 0)

    def _read(self, first: int, count: int) -> Array:
        with self._alone:
            self._file.seek(first * self._size)
            held = self._file.read(count * self._size)
        return np.frombuffer(held, self.kind).reshape(count, *self.side)


@dataclass(frozen=True, slots=True)
class Kept:
    """The `views` rows of one image from the `first` on."""

    rows: Rows
    first: int
    views: int

    @property
    def array(self) -> Array:
        """(V, 72, 72)."""
        return self.rows[self.first : self.first + self.views]


class Gathered:
    """Images of equally many views as one stack (N, V, 72, 72)."""

    def __init__(self, kept: Sequence[Kept]) -> None:
        self.kept = kept

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.kept), self.kept[0].views, *self.kept[0].rows.side)

    def __getitem__(self, part: slice) -> Array:
        return np.stack([one.array for one in self.kept[part]])
