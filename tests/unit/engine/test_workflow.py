"""From a folder to a tested run: each step leaves its file, a run goes on where it stopped, and what cannot go on is told."""

import json

import nibabel as nib
import numpy as np
import pytest

from tests.unit.engine.tiny import tiny_plan, write_scans
from vesalius.core.errors import DataError, UsageError
from vesalius.core.files import read_json, write_json
from vesalius.engine import forecast
from vesalius.engine import workflow as room
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.state import load_weights
from vesalius.engine.workflow import Session, _with_deadline, train
from vesalius.plan import Plan, Request

FILES = ("plan.json", "record.json", "dataset.json", "splits.json", "doctor.json", "fingerprint.json", "log.csv", "weights.safetensors",
         "metrics.json")  # fmt: skip


def foreseen(run):
    """Seconds of testing on an idle machine."""
    return forecast.testing_voxels(run, None, busy=1.0)


class Noted(Listener):
    """Remembers what it is told; asks for the end after `steps` rows."""

    def __init__(self, steps=10**9):
        self.told, self.rows, self.steps = [], [], steps

    def say(self, text):
        self.told.append(text)

    def row(self, row):
        self.rows.append(row)

    def stop(self):
        return len(self.rows) >= self.steps


@pytest.fixture
def scans(tmp_path, monkeypatch):
    monkeypatch.setenv("VESALIUS_HOME", str(tmp_path / "home"))
    return write_scans(tmp_path / "scans", 6)


@pytest.fixture
def plan_file(tmp_path):
    tiny_plan(steps=4).save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


def files(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def test_every_step_leaves_its_file(scans, plan_file, tmp_path):
    listener = Noted()
    run = train(scans, tmp_path / "run", plan_file=plan_file, listener=listener)
    assert [name for name in FILES if not (run.path / name).is_file()] == []
    assert run.finished and run.metrics["parts"].keys() == {"val", "test"}
    made = read_json(run.path / "record.json")
    assert made["ended"] and made["processes"] == 1 and {"examine", "prepare", "learn", "test", "whole"} <= made["seconds"].keys()
    assert all(scores["baseline"] is not None for scores in run.metrics["parts"].values())
    assert len(listener.rows) == 4 and any("Plan: unet" in text for text in listener.told)
    kept = {path.stem.split(".")[0] for path in (run.path / "predictions").rglob("*.nii.gz")}
    assert kept == {*run.splits["test"], *run.splits["folds"][0]["val"]}


def test_a_finished_run_is_left_as_it_is(scans, plan_file, tmp_path):
    run = train(scans, tmp_path / "run", plan_file=plan_file)
    before, listener = files(run.path), Noted()
    train(scans, tmp_path / "run", plan_file=plan_file, listener=listener)
    assert files(run.path) == before and "finished already" in listener.told[0] and "--overwrite" in listener.told[0]


def test_what_a_finished_run_does_not_hold_is_refused(scans, plan_file, tmp_path):
    train(scans, tmp_path / "run", plan_file=plan_file)
    with pytest.raises(UsageError, match=r"planned otherwise than train.steps=99.*--overwrite"):
        train(scans, tmp_path / "run", wish=Request(settings=("train.steps=99",)))
    with pytest.raises(UsageError, match="Unknown word of the metadata 'sexx'"):
        train(scans, tmp_path / "other", plan_file=plan_file, by=("sexx",))
    assert not (tmp_path / "other").exists()


def test_a_plan_file_that_is_wrong_is_told_before_anything_is_looked_at(scans, tmp_path):
    (tmp_path / "plan.json").write_text('{"version": 1, "trian": {}}')
    with pytest.raises(UsageError, match=r"trian: Unknown setting 'trian'\. Did you mean train"):
        train(scans, tmp_path / "run", plan_file=tmp_path / "plan.json")
    assert not (tmp_path / "run").exists()


def test_overwritten_it_begins_anew(scans, plan_file, tmp_path):
    run = train(scans, tmp_path / "run", plan_file=plan_file)
    (run.path / "notes.txt").write_text("mine")
    before = load_weights(run.path / "weights.safetensors")[0]
    train(scans, tmp_path / "run", plan_file=plan_file, overwrite=True, wish=Request(settings=("train.seed=5",)))
    after = load_weights(run.path / "weights.safetensors")[0]
    assert (run.path / "notes.txt").read_text() == "mine" and any((after[name] != before[name]).any() for name in after)


@pytest.mark.parametrize("lost", ["metrics.json", "record.json"])
def test_what_is_missing_at_the_end_is_made(scans, plan_file, tmp_path, lost):
    """Killed while it was tested: the learned weights stay, only the rest is done."""
    run = train(scans, tmp_path / "run", plan_file=plan_file)
    before = files(run.path)
    (run.path / lost).unlink()
    listener = Noted()
    train(scans, tmp_path / "run", plan_file=plan_file, listener=listener)
    assert (run.path / lost).exists() and not listener.rows
    assert (run.path / "weights.safetensors").read_bytes() == before["weights.safetensors"]
    assert (run.path / "metrics.json").read_bytes() == before["metrics.json"]


def test_stopped_it_is_tested_and_goes_on(scans, plan_file, tmp_path):
    whole = train(scans, tmp_path / "whole", plan_file=plan_file)
    listener = Noted(steps=1)
    run = train(scans, tmp_path / "run", plan_file=plan_file, listener=listener)
    assert not run.finished and run.metrics is not None and not read_json(run.path / "record.json")["ended"]
    assert any("Stopped before the end" in text for text in listener.told)
    again = Noted()
    run = train(scans, tmp_path / "run", plan_file=plan_file, listener=again)
    assert run.finished and len(again.rows) == 2 and any("Continuing" in text for text in again.told)
    first, second = (load_weights(r.path / "weights.safetensors")[0] for r in (run, whole))
    assert all((first[name] == second[name]).all() for name in first)
    assert json.dumps(run.metrics["parts"]["test"]["model"]["rows"]) == json.dumps(whole.metrics["parts"]["test"]["model"]["rows"])


def test_folds_learn_in_turn_and_a_stop_in_the_first_ends_well(scans, tmp_path):
    tiny_plan(("folds=2",), steps=3).save(tmp_path / "two.json")
    wish = Request(folds=2)
    run = train(scans, tmp_path / "run", wish=wish, plan_file=tmp_path / "two.json", listener=Noted(steps=1))
    assert [(member / "weights.safetensors").exists() for member in run.members] == [True, False]
    assert len(run.metrics["parts"]["val"]["model"]["rows"]) == len(run.splits["folds"][0]["val"])
    run = train(scans, tmp_path / "run", wish=wish, plan_file=tmp_path / "two.json")
    assert run.finished and [member.name for member in run.members] == ["fold_0", "fold_1"]
    validated = {row["case"] for row in run.metrics["parts"]["val"]["model"]["rows"]}
    assert validated == {name for fold in run.splits["folds"] for name in fold["val"]}
    assert validated.isdisjoint(run.splits["test"]) and len(validated) + len(run.splits["test"]) == 6


def test_a_plan_of_other_folds_is_refused(scans, plan_file, tmp_path):
    with pytest.raises(UsageError, match="--folds 1"):
        train(scans, tmp_path / "run", wish=Request(folds=2), plan_file=plan_file)


def test_a_run_keeps_its_plan_or_says_so(scans, plan_file, tmp_path):
    train(scans, tmp_path / "run", plan_file=plan_file, listener=Noted(steps=1))
    with pytest.raises(UsageError, match=r"planned otherwise than train\.steps=9.*--overwrite"):
        train(scans, tmp_path / "run", wish=Request(settings=("train.steps=9",)))
    assert train(scans, tmp_path / "run", wish=Request(settings=("train.steps=4",))).finished


def test_other_data_in_an_old_folder_are_refused(scans, plan_file, tmp_path):
    train(scans, tmp_path / "run", plan_file=plan_file, listener=Noted(steps=1))
    more = write_scans(tmp_path / "scans", 7)
    with pytest.raises(UsageError, match=r"other data.*case6"):
        train(more, tmp_path / "run", plan_file=plan_file)


def test_a_broken_scan_stops_the_run_or_is_left_out(scans, plan_file, tmp_path):
    (tmp_path / "scans" / "images" / "case2.nii.gz").write_bytes(b"no scan")
    with pytest.raises(DataError, match="case2"):
        train(scans, tmp_path / "run", plan_file=plan_file)
    assert not (tmp_path / "run" / "plan.json").exists() and (tmp_path / "run" / "doctor.json").exists()
    listener = Noted()
    run = train(scans, tmp_path / "run", plan_file=plan_file, skip_bad=True, listener=listener)
    assert any("Left out" in text and "case2" in text for text in listener.told)
    assert [case.name for case in run.dataset.cases] == [f"case{k}" for k in (0, 1, 3, 4, 5)]
    assert "case2" not in json.dumps(run.splits)


def test_a_leak_stops_the_run_even_so(tmp_path, plan_file, monkeypatch):
    monkeypatch.setenv("VESALIUS_HOME", str(tmp_path / "home"))
    data = write_scans(tmp_path / "scans", 4)
    parts = ("train", "val", "test", "test")
    cases = tuple(type(c)(c.name, "anna" if k in (0, 3) else c.patient, c.images, c.masks, parts[k]) for k, c in enumerate(data.cases))
    with pytest.raises(DataError, match="anna"):
        train(data.with_cases(cases), tmp_path / "run", plan_file=plan_file, skip_bad=True)


def test_a_mask_off_its_scan_is_told_with_the_remedy(scans, plan_file, tmp_path):
    path = tmp_path / "scans" / "masks" / "case1.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj)[:-1], np.eye(4)), path)
    with pytest.raises(DataError, match=r"case1"):
        train(scans, tmp_path / "run", plan_file=plan_file)


def test_deterministic_is_asked_of_a_plan_from_a_file_too(scans, tmp_path):
    timed = tiny_plan(("train.deterministic=false", "train.seconds=1000"), steps=3)
    timed.save(tmp_path / "timed.json")
    run = train(scans, tmp_path / "run", plan_file=tmp_path / "timed.json", wish=Request(deterministic=True))
    assert run.plan.train.deterministic and run.plan.train.seconds is None and run.finished


# -- the deadline ------------------------------------------------------------------------------------------------------------


def timed(tmp_path, *, budget=100.0, seconds=85.0, folds=1, ndim=3):
    """A planned run of ten cases whose tile takes 5 ms."""
    plan = tiny_plan((f"train.seconds={seconds}", f"folds={folds}"), ndim=ndim)
    plan = plan.model_copy(update={"expected": plan.expected.model_copy(update={"budget_seconds": budget})})
    plan.save(tmp_path / "plan.json")
    fold = {"train": [f"c{k}" for k in range(6)], "val": ["c6", "c7"]}
    write_json(tmp_path / "splits.json", {"folds": [fold] * folds, "test": ["c8", "c9"], "reason": ""})
    write_json(tmp_path / "fingerprint.json", {"shapes": [[16, 8, 4]] * 8, "spacings": [[1.0] * 3] * 8})
    return Run(tmp_path)


def test_testing_is_foreseen_from_the_tiles(tmp_path):
    """16 x 8 x 4 voxels by patches of 8 with steps of 4: 3 x 1 x 1 tiles; two test and two validation cases."""
    per_case = 1.2 * 3 * 0.005 + forecast.VOXEL_SECONDS * 16 * 8 * 4 + 0.1
    assert foreseen(timed(tmp_path)) == pytest.approx(forecast.REPORT_SECONDS + 4 * per_case)


def test_what_is_gone_and_testing_are_taken_from_the_budget(tmp_path):
    run = timed(tmp_path)
    session = Session(tmp_path, None, Listener(), Request())
    session.started -= 30
    expected = 100 - 30 - foreseen(run)
    assert _with_deadline(session, run, left=1).train.seconds == pytest.approx(expected, abs=0.2)
    session.started -= 1000
    assert _with_deadline(session, run, left=1).train.seconds == room.LEAST_SECONDS


def test_folds_share_what_is_left(tmp_path):
    run = timed(tmp_path, folds=3)
    session = Session(tmp_path, None, Listener(), Request())
    assert _with_deadline(session, run, left=2).train.seconds == pytest.approx((100 - foreseen(run)) / 2, abs=0.2)


def test_a_continued_run_keeps_to_the_share_of_its_plan(tmp_path):
    """What earlier sittings took is not known; each member goes on with the seconds that the plan gave it."""
    session = Session(tmp_path, None, Listener(), Request(), continued=True)
    assert _with_deadline(session, timed(tmp_path, folds=3), left=2).train.seconds == 85


def test_without_a_deadline_there_is_none(tmp_path):
    tiny_plan().save(tmp_path / "plan.json")
    assert _with_deadline(Session(tmp_path, None, Listener(), Request()), Run(tmp_path), left=1) == Plan.load(tmp_path / "plan.json")
