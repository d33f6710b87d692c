"""`kill -9` at any moment and `train` again: the run goes on, and in deterministic mode ends with the same weights to the last bit.

benchmarks/resume.py does the same at 20 random moments.
"""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.unit.engine.tiny import tiny_plan, write_scans
from vesalius.core.errors import VesaliusError
from vesalius.core.files import read_json
from vesalius.engine.state import load_weights

STEPS = 90
PATIENCE = 120  # seconds that a moment is waited for


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Scans and a plan whose learning takes a few seconds."""
    folder = tmp_path_factory.mktemp("resume")
    write_scans(folder / "scans", 6, side=20)
    tiny_plan(("net.channels=[8,16]", "patch.size=[16,16,16]"), steps=STEPS).save(folder / "plan.json")
    return folder


def begin(cohort: Path, run: Path) -> subprocess.Popen:
    """The command of a user, in a process group of its own."""
    words = [sys.executable, "-m", "vesalius", "train", cohort / "scans", "-o", run, "--plan", cohort / "plan.json", "--deterministic"]
    environment = {**os.environ, "VESALIUS_HOME": str(run.parent / "home"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(list(map(str, words)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def finish(process: subprocess.Popen) -> str:
    """What it told; it must have ended well."""
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told.decode()
    return told.decode()


def step_on_disk(run: Path) -> int:
    try:
        return int(load_weights(run / "checkpoint" / "state.safetensors")[1]["step"])
    except VesaliusError:
        return -1


MOMENTS = {
    "while the scans are prepared": lambda run: (run / "plan.json").exists(),
    "in the middle of learning": lambda run: step_on_disk(run) > 0,
    "while it is tested": lambda run: step_on_disk(run) == STEPS,
}  # fmt: skip


def kill(process: subprocess.Popen, when) -> bool:
    """`kill -9` once `when()` holds; False if the process ended before."""
    deadline = time.monotonic() + PATIENCE
    while not when() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    struck = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return struck


def rows(run: Path) -> list[tuple[str, ...]]:
    with open(run / "log.csv", encoding="utf-8", newline="") as file:
        return [(row["step"], row["loss"], row["learning_rate"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_killed_at_every_stage_it_ends_with_the_same_weights(cohort, tmp_path):
    whole, run = tmp_path / "a" / "run", tmp_path / "b" / "run"
    finish(begin(cohort, whole))
    reached = []
    for name, moment in MOMENTS.items():
        if kill(begin(cohort, run), lambda moment=moment: moment(run)):
            reached.append((name, step_on_disk(run)))
    told = finish(begin(cohort, run))
    assert len(reached) == 3, f"the process was quicker than the hand that should kill it: {reached}"
    assert "Continuing the run" in told
    for name in ("weights.safetensors", "checkpoint/state.safetensors"):
        (first, words), (second, _) = load_weights(whole / name), load_weights(run / name)
        unlike = [key for key in first if not torch.equal(first[key], second[key])]
        assert first.keys() == second.keys() and unlike == [] and words["step"] == STEPS
    assert rows(run) == rows(whole) and len(rows(run)) == STEPS
    parts = [read_json(folder / "metrics.json")["parts"] for folder in (whole, run)]
    assert parts[0] == parts[1]
    assert not list(run.rglob(".*.safetensors")), "halves of killed writes are left"
