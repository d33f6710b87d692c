"""Compile the kernels, where there is a compiler: `python -m vesalius.core.kernels.build`, and when vesalius is installed.

Stands on nothing but Python, since the installer runs it before anything of vesalius can be imported.
"""

import contextlib
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ["-std=gnu11", "-O3", "-fPIC", "-shared", "-pthread",
         "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fopenmp-simd"]  # fmt: skip
V3 = ["-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2", "-mlzcnt", "-mmovbe", "-mpopcnt"]  # by name: older compilers know no levels
V4 = [*V3, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512cd", "-mprefer-vector-width=512"]
KINDS = {"avx512bf16": [*V4, "-mavx512bf16"], "avx512": V4, "avx2": V3, "plain": []}
LIMIT = 600  # seconds for one library, on a machine that is busy


def compiler_of(wished: str = "") -> list[str]:
    """The words that call the C compiler: those that are `wished`, as CC has them, or one of the usual names; none without one."""
    words = shlex.split(wished)
    if words and shutil.which(words[0]):
        return words
    if words:
        sys.stderr.write(f"The C compiler {wished} was not found; another is taken, if there is one.\n")
    return next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), [])


def print_of(folder: Path) -> str:
    """What tells one state of the sources from another, the way in which they are compiled included."""
    files = sorted([*folder.glob("*.c"), *folder.glob("*.h"), *folder.glob("build.py")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def build(folder: Path = HERE, *, compiler: str = "") -> list[Path]:
    """Every library that can be made of the C files in `folder`, beside them, by `compiler` or one of the usual names; none without a
    compiler. What it refuses is left out and told. Libraries of other sources go."""
    words, made_of = compiler_of(compiler), print_of(folder)
    if not words or not sys.platform.startswith("linux"):
        return []
    names = KINDS if platform.machine() in ("x86_64", "AMD64") else {"plain": []}
    with ThreadPoolExecutor(len(names)) as pool:
        paths = {name: folder / f"kernels_{name}_{made_of}.so" for name in names}
        waiting = [pool.submit(_library, words, paths[name], flags) for name, flags in names.items()]
        made = [path for one in waiting if (path := one.result())]
    for old in folder.glob("kernels_*.so"):
        if made_of not in old.name:
            _remove(old)
    return made


def _library(words: list[str], path: Path, flags: list[str]) -> Path | None:
    """One library, or None where it was refused."""
    beside = path.with_suffix(f".{os.getpid()}")
    files = [str(source) for source in sorted(path.parent.glob("*.c"))]
    command = [*words, *FLAGS, *flags, "-o", str(beside), *files, "-lm"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
        beside.replace(path)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        sys.stderr.write(f"{path.name} is left out: {error}\n{said.decode(errors='replace')}")
        _remove(beside)
        return None
    return path


def _remove(path: Path) -> None:
    """Where that is allowed and there is something."""
    with contextlib.suppress(OSError):
        path.unlink()


def main() -> int:
    """Make all, and say what was made or why nothing was."""
    made = build()
    if made:
        sys.stdout.write("".join(f"{path}\n" for path in made))
    elif not sys.platform.startswith("linux"):
        sys.stderr.write("Kernels are made on Linux alone.\n")
    else:
        sys.stderr.write("Nothing was made; see above.\n" if compiler_of() else "No C compiler was found (cc, gcc or clang).\n")
    return 0 if made else 1


if __name__ == "__main__":
    sys.exit(main())
