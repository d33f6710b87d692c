"""From a folder of scans to a tested model and back to a mask on a new scan, by the commands alone."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from tests.journey.conftest import write_head
from vesalius.core.files import read_json

PROMISED = ("plan.json", "record.json", "dataset.json", "splits.json", "doctor.json", "fingerprint.json", "log.csv",
            "weights.safetensors", "metrics.json", "report.html")  # fmt: skip


@pytest.fixture(scope="session")
def trained(scans, tmp_path_factory):
    """A run of 25 seconds, made by the command."""
    import subprocess
    import sys

    run = tmp_path_factory.mktemp("run") / "run"
    words = [sys.executable, "-m", "vesalius", "train", str(scans), "-o", str(run), "--budget", "25s", "--json"]
    made = subprocess.run(words, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return run, json.loads(made.stdout), made.stderr


def test_inspect_knows_the_layout(scans, run_command):
    assert "pairs" in json.dumps(run_command("inspect", scans))


def test_plan_writes_what_train_reads(scans, run_command, tmp_path):
    run_command("plan", scans, "-o", tmp_path / "plan.json", "--budget", "5m", "--set", "train.learning_rate=0.005")
    plan = read_json(tmp_path / "plan.json")
    assert plan["train"]["learning_rate"] == {"value": 0.005, "reason": "set by the user"}
    silent = [f"{group}.{leaf}" for group, leaves in plan.items() if isinstance(leaves, dict) and "value" not in leaves
              for leaf, pair in leaves.items() if not pair["reason"]]  # fmt: skip
    assert silent == [], f"without a reason: {silent}"


def test_everything_that_is_promised_is_in_the_run_folder(trained):
    run, _, _ = trained
    assert [name for name in PROMISED if not (run / name).is_file()] == []
    rows = list(csv.DictReader((run / "log.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(1, len(rows) + 1))


def test_progress_is_on_stderr_and_the_answer_on_stdout(trained):
    run, answer, told = trained
    assert answer["run"] == str(run) and "learning" in told


def test_no_patient_is_on_two_sides(trained):
    splits = read_json(trained[0] / "splits.json")
    sides = [*splits["folds"][0].values(), splits["test"]]
    assert all(sides) and len({name for side in sides for name in side}) == sum(map(len, sides)) == 12


def test_the_ball_is_found(trained):
    metrics = read_json(trained[0] / "metrics.json")
    rows = metrics["parts"]["test"]["model"]["rows"]
    assert metrics["unit"] == "mm" and len(rows) == len(read_json(trained[0] / "splits.json")["test"])
    assert np.mean([row["dice"] for row in rows]) > 0.6


def test_a_new_scan_is_answered_on_its_own_grid(trained, run_command, tmp_path):
    write_head(tmp_path / "new", "carla", 77)
    scan = tmp_path / "new" / "images" / "carla.nii.gz"
    run_command("predict", trained[0], scan, "-o", tmp_path / "answers")
    (found,) = (tmp_path / "answers").glob("*.nii.gz")
    answer, asked = nib.load(found), nib.load(scan)
    assert answer.shape == asked.shape and np.allclose(answer.affine, asked.affine, atol=1e-4)
    truth = nib.load(tmp_path / "new" / "masks" / "carla.nii.gz").get_fdata() > 0
    said = answer.get_fdata() > 0
    assert 2 * (said & truth).sum() / (said.sum() + truth.sum()) > 0.6


def test_scoring_again_gives_the_same(trained, run_command):
    before = read_json(trained[0] / "metrics.json")
    again = run_command("evaluate", trained[0])
    dice = [[row["dice"] for row in found["parts"]["test"]["model"]["rows"]] for found in (before, again)]
    assert dice[0] == pytest.approx(dice[1])


def test_the_report_stands_alone(trained, run_command):
    page = (trained[0] / "report.html").read_text(encoding="utf-8")
    assert "<html" in page and 'src="http' not in page and "<link" not in page
    assert run_command("report", trained[0])
