"""Writing so that nothing is ever half written: beside, then renamed."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vesalius.core.errors import VesaliusError


def write_beside(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` on a temporary name in the folder of `path` (same suffix), then rename it to `path`.

    Whoever looks sees the old file or the new one, never a part. A full disk leaves the old file and a clear error.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(beside)
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as problem:
        raise VesaliusError(f"Cannot write {path}: {problem.strerror or problem}. Free some space or choose another folder.") from problem
    finally:
        beside.unlink(missing_ok=True)


def remove_halves(folder: Path, *, seconds: float = 0) -> None:
    """Remove what processes that were killed while they wrote have left in `folder`, where it is older than `seconds`."""
    for half in Path(folder).glob(".[0-9]*.*"):
        if half.is_file() and time.time() - half.stat().st_mtime >= seconds:
            half.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`text` as UTF-8, whole or not at all."""

    def write(beside: Path) -> None:
        beside.write_text(text, encoding="utf-8")

    write_beside(path, write)


def write_json(path: Path, value: Any) -> None:
    """Indented JSON; infinities and NaN become null, because JSON has neither."""
    write_text(path, json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What `write_json` wrote; a missing or broken file is an error that says so."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VesaliusError(f"{path} does not exist.") from None
    except (ValueError, RecursionError) as problem:  # no JSON, no UTF-8, a number of too many digits, brackets without end
        raise VesaliusError(f"{path} is not valid JSON: {problem}. Restore it or run the step that writes it again.") from None


def plain(value: Any) -> Any:
    """Numpy scalars, arrays, tuples and paths as plain JSON values; NaN and infinities as None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return str(value) if isinstance(value, Path) else value
