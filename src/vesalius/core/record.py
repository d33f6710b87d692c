"""What was run, on what, by which versions: the record that lies beside every result."""

import hashlib
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vesalius.core.installed import version_of
from vesalius.core.kernels import in_use

PACKAGES = ("vesalius", "torch", "numpy", "scipy", "nibabel", "pydicom", "safetensors")


def record(command: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """Date, command, machine and versions, as plain JSON; `more` is put beside them. No names of people or hosts."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command if command is not None else sys.argv,
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{p: version_of(p) for p in PACKAGES}},
        **more,
    }


def machine() -> dict[str, Any]:
    """Processor, cores and memory of this machine, and which kernels in C are in use on it."""
    return {
        "system": platform.system(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "kernels": in_use(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def digest(*parts: bytes | str) -> str:
    """A short content hash (16 hex digits of SHA-256) of the parts in order."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()[:16]
