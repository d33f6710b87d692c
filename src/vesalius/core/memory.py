"""Memory of a whole process, for programs to tune: what is freed stays for the next tensor of its size, and what lasts as long as the
process is not looked through for garbage.

The C library of Linux (glibc, mallopt(3)) asks the system for every block above 32 MiB by itself and hands it back when it is freed. The
maps of a large patch are larger than that: each is mapped, filled with zeros page by page and unmapped again, layer after layer: two to
four hundredths of the time of a pass over tiles of 128 voxels a side, and more beside other work (benchmarks/levers.py).
"""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of malloc.h
KEPT = 2**30  # bytes: what a process holds on to at most beyond what it uses, and the block from which on it is mapped by itself


def keep_freed_memory(kept: int = KEPT) -> bool:
    """Hold on to up to `kept` bytes that are freed instead of handing them back; for the whole process, so programs call it, not the
    library. False where the C library knows no such thing."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        tune = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([tune(name, kept) == 1 for name in (TRIM_THRESHOLD, MMAP_THRESHOLD)])


def give_back() -> bool:
    """Hand free pages back to the system wherever they lie. Small things that last, between blocks that are freed, keep these from fitting
    the next ones, and the process grows. What is needed again is filled with zeros page by page, so this is for now and then. False
    where the C library knows no such thing, or nothing was free."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return False
    return bool(trim(0))


@contextmanager
def lasting() -> Iterator[None]:
    """What is made inside, such as modules that are imported, is taken to last: the collector of cyclic garbage neither runs here nor
    looks at it later. While torch is imported it would run hundreds of times and find next to nothing. For programs, as above."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()


def ending() -> None:
    """The process is about to end: the interpreter need not look through all that it holds for garbage once more, which with torch takes
    as long as a network's answer to a small scan. What is registered for the end (atexit) still runs."""
    gc.freeze()
