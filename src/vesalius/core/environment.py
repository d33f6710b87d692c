"""The one place that reads the environment. It stands on nothing, so that whoever asks it waits for nothing."""

import os
from pathlib import Path


def home() -> Path:
    """Folder for what may be kept between runs: `$VESALIUS_HOME`, or `~/.cache/vesalius`."""
    return Path(os.environ.get("VESALIUS_HOME") or Path.home() / ".cache" / "vesalius")


def process_rank() -> tuple[int, int]:
    """(rank, world size) as `torchrun` states them; (0, 1) for an ordinary process."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Which device of this machine the process owns under `torchrun`."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def wished_kernels() -> str:
    """`$VESALIUS_KERNELS`: "off" for torch alone, or the name of a library of kernels (core/kernels); empty for the fastest."""
    return os.environ.get("VESALIUS_KERNELS", "")


def threads_wished() -> int:
    """`$OMP_NUM_THREADS`, as torch reads it, or the processors that this process may use."""
    wished = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if wished.isdigit() and int(wished) > 0:
        return int(wished)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_likely() -> bool:
    """Whether torch may find a GPU here, told without torch by the files of its drivers (NVIDIA, AMD, Windows' Linux)."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    return not hidden and any(Path("/dev", name).exists() for name in ("nvidiactl", "nvidia0", "kfd", "dxg"))


def share_processors() -> None:
    """Let idle compute threads sleep instead of spin, unless the user has said otherwise; before torch is imported.

    Spinning threads that wait for each other stop a machine that does anything else beside: benchmarks/threads.py.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
