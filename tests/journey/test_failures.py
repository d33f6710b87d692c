"""What goes wrong for users: Ctrl-C, a disk that is really full, a deadline, a run that is not there."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.engine.tiny import tiny_plan, write_scans
from vesalius.cli.main import main
from vesalius.core.files import read_json
from vesalius.engine.run import Run
from vesalius.engine.state import load_weights

LONG = 20_000  # steps that no test waits for


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("failures")
    write_scans(folder / "scans", 6)
    tiny_plan(steps=LONG).save(folder / "plan.json")
    return folder


@pytest.fixture(autouse=True)
def handlers():
    """The command takes Ctrl-C into its own hands; the tests get it back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def begin(cohort: Path, run: Path, *more: str, **how) -> subprocess.Popen:
    words = [sys.executable, "-m", "vesalius", "train", cohort / "scans", "-o", run, *more]
    environment = {**os.environ, "VESALIUS_HOME": str(cohort / "home"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(list(map(str, words)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def learning(run: Path, *, steps: int = 5):
    """Wait until some steps are on disk."""
    state, deadline = run / "checkpoint" / "state.safetensors", time.monotonic() + 120
    while not state.exists() or load_weights(state)[1]["step"] < steps:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_ctrl_c_ends_well(cohort, tmp_path):
    process = begin(cohort, tmp_path / "run", "--plan", str(cohort / "plan.json"))
    learning(tmp_path / "run")
    process.send_signal(signal.SIGINT)
    answer, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert "Stopping well" in told and "Stopped before the end" in told and "Dice" in answer
    run = Run(tmp_path / "run")
    step = load_weights(run.path / "weights.safetensors")[1]
    assert 5 <= step["step"] < LONG and not step["final"] and not run.finished
    assert len(run.networks()) == 1 and run.metrics["parts"]["test"]["model"]["rows"]
    assert (run.path / "report.html").is_file() and not read_json(run.path / "record.json")["ended"]
    assert len((run.path / "log.csv").read_text().splitlines()) == step["step"] + 1


@pytest.mark.slow
def test_a_disk_that_is_full_is_told_and_nothing_is_lost(cohort, tmp_path):
    """Really: the system refuses files larger than a state, as a full disk would, from some moment on."""
    process = begin(cohort, tmp_path / "run", "--plan", str(cohort / "plan.json"), preexec_fn=_patient_with_small_files)
    learning(tmp_path / "run")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    time.sleep(1.5)
    before = load_weights(tmp_path / "run" / "checkpoint" / "state.safetensors")[1]["step"]
    assert process.poll() is None, "learning ended because the disk was full"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in told
    assert told.count("The state was not saved") == 1 and "Learning goes on" in told
    assert "Cannot write" in told.splitlines()[-1] and "Free some space" in told.splitlines()[-1]
    assert load_weights(tmp_path / "run" / "checkpoint" / "state.safetensors")[1]["step"] >= before >= 5
    assert load_weights(tmp_path / "run" / "weights.safetensors")[0]


def _patient_with_small_files() -> None:
    """A write beyond the limit is an error, not the end of the process."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


@pytest.mark.slow
def test_the_budget_is_kept(cohort, tmp_path):
    """From the command to its end within the budget, coarsely: the machine may be busy."""
    begun = time.monotonic()
    process = begin(cohort, tmp_path / "run", "--budget", "15s", "--set", "net.channels=[8,16]", "--set", "net.kernels=[[3,3,3],[3,3,3]]",
                    "--set", "net.strides=[[1,1,1],[2,2,2]]")  # fmt: skip
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert time.monotonic() - begun < 60
    run = Run(tmp_path / "run")
    made = read_json(run.path / "record.json")["seconds"]
    assert run.finished and 5 <= made["whole"] < 35
    assert run.plan.expected.budget_seconds == 15 and run.plan.net.channels == (8, 16)


def test_what_is_not_there_is_an_error_in_words(cohort, tmp_path, capsys):
    for words, code, told in ((["train", str(tmp_path / "none"), "-o", str(tmp_path / "run")], 1, "does not exist"),
                              (["predict", str(tmp_path), str(cohort / "scans")], 1, "is not a run"),
                              (["train", str(cohort / "scans"), "-o", str(tmp_path / "run"), "--budget", "soon"], 2, "20m")):  # fmt: skip
        assert main(words) == code
        said = capsys.readouterr().err
        assert told in said and "Traceback" not in said
