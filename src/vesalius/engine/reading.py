"""Scans that are read and prepared while others are answered (without torch)."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vesalius.core.errors import VesaliusError
from vesalius.data.case import Case
from vesalius.data.prepare import Preparation, Prepared, prepare
from vesalius.data.read import read_stored
from vesalius.engine.answered import Answered, existing
from vesalius.io.image import Image

LARGE = 256 << 20  # bytes of a prepared scan beside which no other is read
Read = tuple[Image, Prepared]


def read_ahead(
    cases: Sequence[Case], folder: Path, how: Preparation, *, ndim: int, overwrite: bool
) -> Iterator[tuple[Case, Future[Read] | Path]]:
    """Each case with what was read of it for a network of `ndim` axes (or the answer that is in `folder`); the next is read while this
    one is computed, unless this one is so large that two would not fit beside each other."""

    def begin(case: Case) -> Future[Read] | Path:
        there = None if overwrite else existing(folder, case)
        return there or pool.submit(read, case, how, ndim=ndim)

    with ThreadPoolExecutor(1) as pool:
        coming = [begin(case) for case in cases[:1]]
        for index, case in enumerate(cases):
            now, then = coming.pop(), cases[index + 1 : index + 2]
            ahead = _is_small(now)
            if ahead:
                coming += [begin(other) for other in then]
            yield case, now
            del now
            if not ahead:
                coming += [begin(other) for other in then]


def taken(case: Case, found: Future[Read] | Path, *, skip_bad: bool) -> Read | Answered:
    """What was read of `case`, or that it is answered already or, where such are passed over, cannot be read."""
    if isinstance(found, Path):
        return Answered(case.name, found)
    try:
        return found.result()
    except VesaliusError as problem:
        if not skip_bad:
            raise
        return Answered(case.name, None, str(problem))


def _is_small(found: Future[Read] | Path) -> bool:
    """Whether what was read (waited for here) leaves room for the next scan beside it."""
    return isinstance(found, Path) or found.exception() is not None or found.result()[1].image.nbytes <= LARGE


def read(case: Case, how: Preparation, *, ndim: int) -> Read:
    """A scan without its numbers, and what a network of `ndim` axes sees of it."""
    image = read_stored(case, how.channels)
    if image.space.ndim != ndim:
        raise VesaliusError(f"Case {case.name} has {image.space.ndim} dimensions; the model was trained on {ndim}.")
    prepared = prepare(image, how)
    return image.with_array(np.broadcast_to(np.float32(0), image.array.shape)), prepared  # only its place is needed from here on
