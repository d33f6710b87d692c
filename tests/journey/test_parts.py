"""Several processes share the cases of one folder; one of them is killed in the middle of a case and started again."""

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import torch

from tests.unit.engine.tiny import Threshold, answering, tiny_dataset, tiny_plan, write_run, write_scans
from vesalius.cli.main import main
from vesalius.engine.answered import Options, share
from vesalius.engine.predict import predict
from vesalius.io import load

PARTS, CASES = 3, 10
PATIENCE = 120  # seconds that a process is waited for


class Hangs(Threshold):
    """Answers the first scan, then waits for ever."""

    scans = 0

    def forward(self, x):
        if self.scans >= 1:
            time.sleep(3600)
        self.scans += 1
        return super().forward(x)


def worker(words):
    """What one job of an array does: the command, in a process of its own."""
    torch.set_num_threads(1)
    os._exit(main(words))


def started(folder, out, part):
    words = ["predict", folder / "run", folder / "in", "-o", folder / out, "--num-parts", PARTS, "--part-id", part]
    process = multiprocessing.get_context("fork").Process(target=worker, args=([str(word) for word in words],))
    process.start()
    return process


def answers(folder):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.nii.gz")}


def ended(process):
    process.join(PATIENCE)
    assert process.exitcode == 0


def test_a_part_that_is_killed_is_started_again_and_nothing_is_done_twice(tmp_path, monkeypatch):
    dataset = write_scans(tmp_path / "cohort", CASES, side=10)
    (tmp_path / "cohort" / "images").rename(tmp_path / "in")
    plan = tiny_plan(("train.precision=fp32", "predict.batch=1", "patch.size=[16,16,16]"))  # one tile, one call for each scan
    run = write_run(tmp_path / "run", tiny_dataset(), plan)
    answering(run, monkeypatch, [Hangs()])
    doomed = started(tmp_path, "out", 1)
    answering(run, monkeypatch, [Threshold()])
    others = [started(tmp_path, "out", part) for part in (0, 2)]
    limit = time.monotonic() + PATIENCE
    for process in others:
        ended(process)
    while len(answers(tmp_path / "out")) < 1 + CASES - len(mine(dataset, 1)) and time.monotonic() < limit:
        time.sleep(0.02)
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.join(PATIENCE)
    assert doomed.exitcode == -signal.SIGKILL
    before = answers(tmp_path / "out")
    assert len(before) == 1 + CASES - len(mine(dataset, 1)), "the killed process left one answer, the others all of theirs"

    again = started(tmp_path, "out", 1)
    ended(again)
    after = answers(tmp_path / "out")
    assert len(after) == CASES and all(after[name] == before[name] for name in before), "an answer was made twice"
    rows = [json.loads((tmp_path / "out" / f"predictions-{part}.json").read_text())["cases"] for part in range(PARTS)]
    assert sorted(row["case"] for part in rows for row in part) == sorted(case.name for case in dataset.cases)

    predict(tmp_path / "run", tmp_path / "in", tmp_path / "alone")
    for name in answers(tmp_path / "alone"):
        np.testing.assert_array_equal(load(tmp_path / "out" / name).array, load(tmp_path / "alone" / name).array)


def mine(dataset, part):
    return share(dataset.cases, Options(parts=PARTS, part=part))
