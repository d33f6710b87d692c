"""Freed memory that a process keeps is not fetched from the system again, and what lasts is not looked through for garbage: counted in
processes of their own."""

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


LASTING = """
import gc
from vesalius.core.memory import lasting

runs = []
gc.collect()
gc.callbacks.append(lambda phase, about: runs.append(phase))
with lasting():
    kept = [[] for _ in range(100_000)]
inside = len(runs)
print(inside, gc.isenabled(), any(one is kept for one in gc.get_objects()), gc.get_freeze_count() > 100_000)
gc.disable()
with lasting():
    pass
print(gc.isenabled())
"""
GIVEN_BACK = """
from pathlib import Path
from vesalius.core.memory import give_back, keep_freed_memory

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if not keep_freed_memory():
    print(-1, -1)
    raise SystemExit
blocks = [b"x" * 50_000 for _ in range(2_000)]
last = b"x" * 50_000  # behind which nothing is free
full = held()
del blocks
kept = held()
assert give_back()
print(full - kept, kept - held())
"""
ENDING = """
import atexit, sys
from vesalius.cli.main import main

atexit.register(lambda: print("registered for the end"))
sys.argv = ["vesalius", "--version"]
sys.exit(main() + 7)
"""


def pages(how):
    """Pages that the system fills while three blocks of 64 MiB are made, used and freed."""
    done = subprocess.run([sys.executable, "-c", COUNTED, how, str(64 << 20)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux alone")
def test_free_memory_between_blocks_that_last_is_given_back():
    """100 MB, kept until it is asked for."""
    done = subprocess.run([sys.executable, "-c", GIVEN_BACK], capture_output=True, text=True, check=True)
    by_itself, asked = map(int, done.stdout.split())
    if by_itself < 0:
        pytest.skip("the C library of this machine keeps no memory")
    assert by_itself < 10e6 < 80e6 < asked


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux alone")
def test_blocks_are_used_again():
    kept = pages("kept")
    if kept < 0:
        pytest.skip("this C library cannot be asked to keep memory")
    assert kept < 100
    assert pages("given back") > 1_000


def test_what_lasts_is_not_looked_through():
    done = subprocess.run([sys.executable, "-c", LASTING], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True", "False", "True", "False"]


def test_what_is_registered_for_the_end_of_a_command_still_runs():
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True)
    assert done.returncode == 7 and done.stdout.splitlines()[-1] == "registered for the end"
