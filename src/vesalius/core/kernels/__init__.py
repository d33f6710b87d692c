"""The inner loops of what takes a processor longest, in C beside the same formulas in torch.

Torch goes over memory once for each step of a formula; these go once in all. They are compiled when vesalius is installed, where there is a
C compiler, and nothing else depends on them: without them every caller takes its way through torch, which stays the judge of the kernels in
the tests (docs/decisions/015-kernels-where-there-is-a-compiler.md). `python -m vesalius.core.kernels.build` compiles them again.

A kernel takes addresses of memory and plain numbers; whoever calls it sees to types, layout and lengths.
"""

import ctypes
import sys
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

from vesalius.core.environment import wished_kernels
from vesalius.core.errors import UsageError, suggest

FOLDER = Path(__file__).parent
KINDS = {"p": ctypes.c_void_p, "i": ctypes.c_int64, "f": ctypes.c_float, "d": ctypes.c_double}
V3 = {"avx2", "bmi1", "bmi2", "fma", "f16c", "movbe", "abm", "popcnt"}
V4 = V3 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}
NEEDS = {  # what a processor must have for each of the libraries, fastest first, in the words of Linux
    "avx512bf16": V4 | {"avx512_bf16"},
    "avx512": V4,
    "avx2": V3,
    "plain": set[str](),
}
Kernel = Callable[..., None]


def print_of(folder: Path) -> str:
    """What tells one state of the sources from another."""
    from vesalius.core.kernels import build  # which can be run by itself, and is not to be there before

    return build.print_of(folder)


@cache
def features() -> frozenset[str]:
    """What this processor can do, in the words of Linux; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split(":")[1].split() for line in lines if line.startswith("flags")), []))


def find(folder: Path, *, wished: str = "") -> tuple[str, ctypes.CDLL] | None:
    """The fastest library in `folder` that this processor can run, or the one that is `wished`, and its name; None where it was not made of
    the sources beside it."""
    made_of = print_of(folder)
    for name, needs in NEEDS.items():
        path = folder / f"kernels_{name}_{made_of}.so"
        if wished in ("", name) and path.is_file() and needs <= features():
            try:
                return name, ctypes.CDLL(str(path))
            except OSError as problem:  # of another kind of machine, or where nothing may be run
                warnings.warn(f"{path} cannot be loaded ({problem}), so another library or torch does the work.", stacklevel=2)
    return None


def wished(folder: Path) -> tuple[str, ctypes.CDLL] | None:
    """What `find` finds in `folder`; `VESALIUS_KERNELS` wishes for one of them by name, or for none with "off"."""
    name = wished_kernels()
    if name not in ("", "off", *NEEDS):
        raise UsageError(f"VESALIUS_KERNELS: {suggest(name, ('off', *NEEDS), 'library of kernels')}")
    if name == "off" or not sys.platform.startswith("linux"):
        return None
    found = find(folder, wished=name)
    if found is None and name:
        raise UsageError(f"VESALIUS_KERNELS asks for {name}, which was not made of these sources or is not for this processor. Make it: "
                         f"{sys.executable} -m vesalius.core.kernels.build")  # fmt: skip
    if found is None and (others := [path.name for path in folder.glob("kernels_*.so") if print_of(folder) not in path.name]):
        warnings.warn(f"{folder / others[0]} is of other sources than those beside it, so torch does the work and takes longer. "
                      f"Make it again: {sys.executable} -m vesalius.core.kernels.build", stacklevel=2)  # fmt: skip
    return found


@cache
def library() -> tuple[str, ctypes.CDLL] | None:
    """The library in use, and its name; None where there is none."""
    return wished(FOLDER)


def in_use() -> str:
    """The name of the library in use, "none" without one."""
    found = library()
    return "none" if found is None else found[0]


@cache
def kernel(name: str, kinds: str) -> Kernel | None:
    """The kernel of that name, whose arguments are of these `kinds`: p an address, i a whole number of 64 bits, f and d floating point of
    32 and 64; None where it cannot be had."""
    found = library()
    if found is None:
        return None
    try:
        entry = getattr(found[1], name)
    except AttributeError:  # not for this processor
        return None
    entry.argtypes, entry.restype = [KINDS[kind] for kind in kinds], None
    function: Kernel = entry
    return function
