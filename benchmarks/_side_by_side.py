"""What every comparison shares: the sides in turns (A B A B), seconds, processor seconds and peak memory of each turn, and one form
in which the rows are kept (`benchmarks/results/NAME.json`), from which `report.py` writes `results.md`.

A row compares vesalius with one opponent at one piece of work. Ratios are opponent / vesalius, turn by turn: above 1 vesalius is
ahead. Processor seconds (user and system, of all threads) do not mind other work on the machine; wall seconds do.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

RESULTS = Path(__file__).parent / "results"
OURS = "vesalius"
PACKAGES = ("vesalius", "torch", "numpy", "nibabel", "pydicom", "monai", "nnunetv2", "torchio", "batchgeneratorsv2", "SimpleITK",
            "surface-distance", "scikit-image")  # fmt: skip

LAPTOP = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "VESALIUS_KERNELS": "avx2"}


@dataclass
class Turn:
    """One measurement of one side; `peak` in bytes where a process was measured; `more` is what it said besides."""

    wall: float
    cpu: float | None = None
    peak: int | None = None
    more: dict[str, Any] = field(default_factory=dict)


Turns = dict[str, list[Turn]]


@contextmanager
def swapped(place: Any, name: str, other: Any) -> Iterator[None]:
    """`place.name` is `other` inside."""
    own = getattr(place, name)
    setattr(place, name, other)
    try:
        yield
    finally:
        setattr(place, name, own)


def cpu_seconds() -> float:
    """User and system seconds of this process so far."""
    used = getrusage(RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(call: Callable[[], Any], *, calls: int = 1) -> tuple[Turn, Any]:
    """Seconds per call, and what the last one gave."""
    found, wall, cpu = None, time.perf_counter(), cpu_seconds()
    for _ in range(calls):
        found = None  # what the call before gave is let go first
        found = call()
    return Turn((time.perf_counter() - wall) / calls, (cpu_seconds() - cpu) / calls), found


def in_turns(sides: Mapping[str, Callable[[], Any]], *, rounds: int, calls: int = 1) -> tuple[Turns, dict[str, Any]]:
    """Every side in this process, once unmeasured and then `rounds` times in turns; and what each side gave last."""
    turns: Turns = {name: [] for name in sides}
    given = {name: call() for name, call in sides.items()}
    for _ in range(rounds):
        for name, call in sides.items():
            given.pop(name)
            turn, given[name] = timed(call, calls=calls)
            turns[name].append(turn)
    return turns, given


def in_processes(commands: Mapping[str, Sequence[str]], *, rounds: int) -> Turns:
    """Every side as a fresh process, in turns. Seconds and peak memory are those of the whole process, unless its last line is
    JSON with `wall`, `cpu` (and `peak`): then those. A side that fails ends the benchmark with what it said."""
    turns: Turns = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            turns[name].append(process(name, command))
    return turns


def process(name: str, command: Sequence[str]) -> Turn:
    """One fresh process, measured."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as remarks:
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=remarks, text=True, env=environment())
        assert started.stdout
        told = started.stdout.read()
        _, status, used = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
        if started.returncode:
            remarks.seek(0)
            raise SystemExit(f"{name} failed with exit code {started.returncode}: {' '.join(command)}\n{remarks.read()[-3000:]}")
    turn = Turn(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
    last = told.strip().rpartition("\n")[2]
    if last.startswith("{"):
        inner = json.loads(last)
        turn = Turn(inner.pop("wall", turn.wall), inner.pop("cpu", turn.cpu), inner.pop("peak", turn.peak), inner)
    return turn


def environment() -> dict[str, str]:
    """That of this process, with one thread unless it says otherwise, and without remarks of the other tools."""
    return {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "nnUNet_n_proc_DA": "0"} | dict(os.environ)


def as_a_laptop(wanted: bool) -> str:
    """Torch, what it stands on and vesalius compute as on a processor with AVX2 alone from here on, here and in every process started
    here, if that is `wanted`; the words for the rows."""
    if not wanted:
        return ""
    if "torch" in sys.modules:
        raise SystemExit("torch looks at the processor when it is imported, and it is.")
    os.environ.update(LAPTOP)
    return "as a processor with AVX2 alone: "


def peak_bytes() -> int:
    """The most memory that this process has held so far, or since `forget_peak`. Linux' own figure for a process counts what the process
    that started it held, too; what stands in /proc does not."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    held = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), getrusage(RUSAGE_SELF).ru_maxrss)
    return held * 1024


def forget_peak() -> None:
    """From now on `peak_bytes` is the most that is held later (Linux)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def rows(work: str, turns: Turns, *, check: str | Mapping[str, str], goal: float | None = None) -> list[dict[str, Any]]:
    """One row per opponent: medians, and of the ratio within each turn the median and its range; `check` says how it was seen
    that both computed the same thing."""
    return [
        {"work": work, "opponent": name, "rounds": len(theirs), "ours": medians(turns[OURS]), "theirs": medians(theirs),
         "cpu_ratio": ratio(turns[OURS], theirs, "cpu"), "wall_ratio": ratio(turns[OURS], theirs, "wall"),
         "peak_ratio": ratio(turns[OURS], theirs, "peak"), "check": check if isinstance(check, str) else check[name], "goal": goal}
        for name, theirs in turns.items() if name != OURS
    ]  # fmt: skip


def alone(work: str, turns: Sequence[Turn], *, check: str) -> dict[str, Any]:
    """A row without an opponent."""
    return {"work": work, "opponent": None, "rounds": len(turns), "ours": medians(turns), "theirs": {}, "cpu_ratio": None,
            "wall_ratio": None, "peak_ratio": None, "check": check, "goal": None}  # fmt: skip


def medians(turns: Sequence[Turn]) -> dict[str, Any]:
    """Of wall and processor seconds and of the peak."""
    columns = {name: [getattr(turn, name) for turn in turns] for name in ("wall", "cpu", "peak")}
    return {name: statistics.median(values) for name, values in columns.items() if None not in values}


def ratio(ours: Sequence[Turn], theirs: Sequence[Turn], name: str) -> list[float] | None:
    """[median, least, largest] of theirs / ours."""
    pairs = [(getattr(a, name), getattr(b, name)) for a, b in zip(ours, theirs, strict=True)]
    if any(a is None or b is None for a, b in pairs):
        return None
    found = [b / max(a, 1e-9) for a, b in pairs]
    return [statistics.median(found), min(found), max(found)]


def keep(name: str, made: Sequence[Mapping[str, Any]], *, title: str) -> Path:
    """Write the rows of benchmark `name` with the machine, the versions, the date and the command. Rows of other work that were
    measured on the same day with the same versions stay, each with its command."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    words = ["FOLDER" if Path(word).is_absolute() else word for word in sys.argv[1:]]
    command = f"python benchmarks/{' '.join([Path(sys.argv[0]).name, *words])}"
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    about = {"benchmark": name, "title": title, "date": today, "machine": machine(), "versions": versions(),
             "rows": [{**row, "command": command} for row in made]}  # fmt: skip
    before = json.loads(path.read_text()) if path.exists() else {}
    if all(before.get(key) == about[key] for key in ("date", "versions")):
        about["rows"] = _merged(before["rows"], about["rows"])
    path.write_text(json.dumps(about, indent=1) + "\n")
    for row in made:
        sys.stderr.write(line(row) + "\n")
    return path


def _merged(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows `after`, and those `before` of other work; what is measured again keeps its place."""
    works = dict.fromkeys(row["work"] for row in [*before, *after])
    again = {row["work"] for row in after}
    return [row for work in works for row in (after if work in again else before) if row["work"] == work]


def line(row: Mapping[str, Any]) -> str:
    """A row for a person who waits."""
    if row["opponent"] is None:
        return f"{row['work']}: {row['ours'].get('cpu', row['ours']['wall']):.3f} s; {row['check']}"
    if not (row["cpu_ratio"] or row["wall_ratio"]):
        return f"{row['work']}: {row['ours']['cpu']:.3f}, {row['opponent']} {row['theirs']['cpu']:.3f}; {row['check']}"
    median, low, high = row["cpu_ratio"] or row["wall_ratio"]
    return f"{row['work']}: {row['opponent']} / vesalius = {median:.2f} ({low:.2f} ... {high:.2f}); {row['check']}"


def machine() -> dict[str, Any]:
    """The processor, the cores and the threads that this process may use, and the memory."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((text.partition(":")[2].strip() for text in lines if text.startswith("model name")), platform.processor())
    flags = next((text.split() for text in lines if text.startswith("flags")), [])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"processor": model, "cores": os.cpu_count(), "cores_used": len(os.sched_getaffinity(0)), "memory_gib": round(memory),
            "threads": int(environment()["OMP_NUM_THREADS"]), "bf16": "avx512_bf16" in flags or "amx_bf16" in flags,
            "system": platform.system(), "python": platform.python_version(), "load": round(os.getloadavg()[0], 1)}  # fmt: skip


def versions() -> dict[str, str]:
    """Of the packages that either side is made of."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def said(turn: Turn) -> str:
    """A turn as the last line of a process that measures itself."""
    return json.dumps({"wall": turn.wall, "cpu": turn.cpu, "peak": turn.peak or peak_bytes(), **turn.more})


def takes_a_side(parser: argparse.ArgumentParser, sides: Mapping[str, Callable[[Any], Callable[[], Any]]]) -> None:
    """Options by which a benchmark asks a fresh process of itself for one side."""
    parser.add_argument("--side", choices=list(sides), help=argparse.SUPPRESS)
    parser.add_argument("--labels", type=Path, help=argparse.SUPPRESS)


def took_a_side(options: argparse.Namespace, sides: Mapping[str, Callable[[Any], Callable[[], Any]]]) -> bool:
    """Whether this is such a process; if so its side is timed, its labels are saved, and the turn is said."""
    if not options.side:
        return False
    import numpy as np

    turn, labels = timed(sides[options.side](options))
    np.save(options.labels, labels)
    print(said(turn))
    return True


def child(file: str, *words: object) -> list[str]:
    """The command that runs `file` again in a fresh process of this interpreter."""
    return [sys.executable, file, *map(str, words)]
