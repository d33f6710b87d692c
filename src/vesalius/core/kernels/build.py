"""Compile the kernels, where there is a compiler: `python -m vesalius.core.kernels.build`, and when vesalius is installed.

Stands on nothing but Python, since the installer runs it before anything of vesalius can be imported.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ["-std=gnu11", "-O3", "-fPIC", "-shared", "-pthread",
         "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fopenmp-simd"]  # fmt: skip
KINDS = {
    "avx512bf16": ["-march=x86-64-v4", "-mavx512bf16", "-mprefer-vector-width=512"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "avx2": ["-march=x86-64-v3"],
    "plain": [],
}
LIMIT = 120  # seconds for one library


def build(folder: Path = HERE, *, compiler: str = "") -> list[Path]:
    """Every library that can be made of the C files in `folder`, beside them, by `compiler` or one of the usual names; none without a
    compiler. What it refuses is left out."""
    cc = next(filter(None, map(shutil.which, (compiler or "cc", "cc", "gcc", "clang"))), None)
    if cc is None or not sys.platform.startswith("linux"):
        return []
    names = KINDS if platform.machine() in ("x86_64", "AMD64") else {"plain": []}
    sources = sorted([*folder.glob("*.c"), *folder.glob("*.h")])
    made_of = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    made = [path for name, flags in names.items() if (path := _library(cc, folder / f"kernels_{name}_{made_of}.so", flags))]
    for old in set(folder.glob("kernels_*.so")) - set(made):
        old.unlink(missing_ok=True)
    return made


def _library(cc: str, path: Path, flags: list[str]) -> Path | None:
    """One library, or None where it was refused."""
    beside = path.with_suffix(f".{os.getpid()}")
    files = [str(source) for source in sorted(path.parent.glob("*.c"))]
    command = [cc, *FLAGS, *flags, "-o", str(beside), *files, "-lm"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=LIMIT)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        sys.stderr.write(f"{path.name} is left out: {error}\n{said.decode(errors='replace')}")
        beside.unlink(missing_ok=True)
        return None
    beside.replace(path)
    return path


if __name__ == "__main__":
    made = build()
    sys.stdout.write("".join(f"{path}\n" for path in made) or "No C compiler was found (cc, gcc or clang): nothing was made.\n")
