"""Memory that is freed stays with the process, for the next tensor of its size.

The C library of Linux (glibc, mallopt(3)) asks the system for every block above 32 MiB by itself and hands it back when it is freed. The
maps of a large patch are larger than that: each is mapped, filled with zeros page by page and unmapped again, layer after layer: a
sixteenth of the time of a pass over tiles of 128 voxels a side, and more beside other work (benchmarks/levers.py).
"""

import ctypes
import sys

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
