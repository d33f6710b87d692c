"""Freed memory that a process keeps is not fetched from the system again: counted in pages, in processes of their own."""

import subprocess
import sys

import pytest

COUNTED = """
import resource, sys
from vesalius.core.memory import keep_freed_memory

if sys.argv[1] == "kept" and not keep_freed_memory():
    print(-1)
    sys.exit()
block = lambda: len(b"x" * int(sys.argv[2]))
pages = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
block()
before = pages()
for _ in range(3):
    block()
print(pages() - before)
"""


def pages(how):
    """Pages that the system fills while three blocks of 64 MiB are made, used and freed."""
    done = subprocess.run([sys.executable, "-c", COUNTED, how, str(64 << 20)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux alone")
def test_blocks_are_used_again():
    kept = pages("kept")
    if kept < 0:
        pytest.skip("this C library cannot be asked to keep memory")
    assert kept < 100
    assert pages("given back") > 1_000
