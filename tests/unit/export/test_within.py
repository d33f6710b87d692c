"""The model within a run: it is of the run as it is, or passed over; `predict` goes by it where that is better, with the same answers."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.engine.test_whole import plan_of as plan_of_cases
from tests.unit.engine.tiny import tiny_dataset, tiny_plan, write_run, write_scans
from vesalius.cli.main import main
from vesalius.core.errors import UsageError
from vesalius.core.files import write_json
from vesalius.engine.answered import Options
from vesalius.engine.predict import predict as by_torch
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.state import load_weights, save_weights
from vesalius.export import exporting, predicting, within
from vesalius.export.answering import Answerer
from vesalius.export.exporting import keep
from vesalius.export.predicting import predict
from vesalius.io import load
from vesalius.plan.search import build


def made(folder, settings=()):
    """A run of that plan whose networks are random, and the model within it."""
    plan = tiny_plan((*settings, "train.precision=fp32"))
    run = write_run(folder, tiny_dataset(), plan, folds=[(["c0", "c1", "c2"], ["c3"])] * plan.folds)
    for seed, voice in enumerate(run.members):
        net = build(plan.net, 1, run.task.out_channels(plan.labels), seed=seed)
        with torch.no_grad():
            for weight in net.parameters():
                weight.mul_(2)
            middle = net.eval()(torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(seed))).mean((0, 2, 3, 4))
            for weight in net.parameters():
                if weight.shape == middle.shape:  # of what answers: so that no class is everywhere
                    weight.sub_(middle)
        save_weights(voice / "weights.safetensors", net.state_dict(), {"final": True})
    assert keep(run, Listener())
    return run


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(within, "SWIFT", (*within.SWIFT, "plain", "none"))  # whatever this machine has
    monkeypatch.setattr(within, "gpu_likely", lambda: False)
    return made(tmp_path / "run")


def labels_of(folder):
    return {path.name: load(path).array for path in sorted(folder.glob("*.nii.gz"))}


@pytest.mark.parametrize("settings", [(), ("folds=2",), ("predict.mirror=true",)])
def test_answers_are_those_of_torch(run, tmp_path, settings):
    run = made(tmp_path / "other", settings)
    write_scans(tmp_path / "data", 3)
    assert Answerer.of_run(run.path).mirror == ("predict.mirror=true" in settings)
    mine = predict(run.path, tmp_path / "data" / "images", tmp_path / "mine")
    theirs = by_torch(run.path, tmp_path / "data" / "images", tmp_path / "theirs")
    assert [(one.case, one.path.name) for one in mine] == [(one.case, one.path.name) for one in theirs]
    here, there = labels_of(tmp_path / "mine"), labels_of(tmp_path / "theirs")
    assert here.keys() == there.keys() and len(here) == 3
    for name, labels in there.items():
        assert 0.01 < labels.mean() < 0.99 and (here[name] == labels).mean() >= 0.999
    one, two = (json.loads((tmp_path / who / "predictions.json").read_text()) for who in ("mine", "theirs"))
    assert one["model"] == two["model"] == str(run.path) and one["labels"] == two["labels"]


def test_a_run_that_is_open_answers_too(run, tmp_path):
    write_scans(tmp_path / "data", 1)
    (one,) = predict(Run.open(run.path), tmp_path / "data" / "images", tmp_path / "out")
    assert one.path.exists() and one.volumes is not None


@pytest.mark.parametrize("settings", [("predict.overlap=0.1",), ("predict.mirror=true", "predict.batch=2"), ("predict.skip_air=false",)])
def test_settings_of_how_scans_are_cut_count(run, tmp_path, settings):
    ask, plain = Answerer.of_run(run.path, settings), Answerer.of_run(run.path)
    tiles = run.plan.with_settings(list(settings)).predict
    assert (ask.model.tiles.overlap, ask.model.tiles.batch, ask.model.tiles.skip_air, ask.mirror) == (
        tiles.overlap, tiles.batch, tiles.skip_air, tiles.mirror)  # fmt: skip
    assert (ask.model.tiles, ask.mirror) != (plain.model.tiles, plain.mirror)


@pytest.mark.parametrize("setting", ["predict.overlap=1", "predict.batch=0", "predict.mirror=perhaps"])
def test_a_setting_that_means_nothing_is_refused_by_its_name(run, setting):
    with pytest.raises(UsageError, match=setting.partition("=")[0].replace(".", r"\.")):
        Answerer.of_run(run.path, [setting])


def spoil(run, what):
    """Change one thing of the run."""
    if what == "plan":
        run.replan(run.plan.with_settings(["predict.overlap=0.25"]))
    elif what == "calibration":
        write_json(run.path / "calibration.json", {"version": 1, "outlines": {"ball": {"log_odds": 2.0}}})
    elif what == "weights":
        weights, words = load_weights(run.path / "weights.safetensors")
        name = max(weights, key=lambda one: weights[one].numel())
        save_weights(run.path / "weights.safetensors", {**weights, name: weights[name] * 1.001}, words)
    elif what == "half the weights":
        data = (run.path / "weights.safetensors").read_bytes()
        (run.path / "weights.safetensors").write_bytes(data[: len(data) // 2])
    elif what == "no weights":
        (run.path / "weights.safetensors").unlink()
    elif what == "half a file":
        text = (run.path / within.FILE).read_text()
        (run.path / within.FILE).write_text(text[: len(text) // 2])
    else:
        tree = json.loads((run.path / within.FILE).read_text())
        if what == "other version":
            tree["version"] += 1
        elif what == "no networks":
            tree["model"]["networks"] = []
        elif what == "no voices":
            tree["voices"] = []
        elif what == "a list":
            tree = [tree]
        else:
            del tree[what]
        write_json(run.path / within.FILE, tree)


@pytest.mark.parametrize("what", ["plan", "calibration", "weights", "half the weights", "no weights", "half a file", "other version",
                                  "no networks", "no voices", "a list", "model", "mirror", "made_of"])  # fmt: skip
def test_what_is_not_of_the_run_as_it_is_is_passed_over(run, what):
    assert within.found(run.path) is not None
    spoil(run, what)
    assert within.found(run.path) is None


def test_it_is_kept_anew_only_when_something_has_changed(run, monkeypatch):
    before = (run.path / within.FILE).stat().st_mtime_ns
    assert keep(run, Listener()) and (run.path / within.FILE).stat().st_mtime_ns == before
    spoil(run, "plan")
    assert keep(run, Listener()) and within.found(run.path).model.tiles.overlap == 0.25


def test_where_a_network_cannot_be_written_down_nothing_is_kept(tmp_path, monkeypatch):
    class Odd(nn.Module):
        pooling = (2, 2, 2)

        def forward(self, x):
            return torch.erf(torch.cat([x, -x], 1))

    run = write_run(tmp_path / "run", tiny_dataset(), tiny_plan())
    save_weights(run.path / "weights.safetensors", {"w": torch.zeros(1)}, {"final": True})
    monkeypatch.setattr(Run, "network", lambda self, voice: Odd())
    told = []
    listener = Listener()
    listener.say = told.append
    assert not keep(run, listener) and not (run.path / within.FILE).exists()
    assert len(told) == 1 and "answered by torch" in told[0] and "calls neg" in told[0]
    monkeypatch.delattr(Odd, "pooling")  # as a network of somebody else's
    assert not keep(run, listener) and len(told) == 2


def test_a_full_disk_costs_no_more_than_that(run, monkeypatch):
    (run.path / within.FILE).unlink()

    def full(*args, **words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting.within, "write_json", full)
    assert not keep(run, Listener())


def test_runs_of_whole_cases_and_without_weights_keep_nothing(tmp_path):
    cases = write_run(tmp_path / "cases", tiny_dataset(), plan_of_cases())
    empty = write_run(tmp_path / "empty", tiny_dataset(), tiny_plan())
    assert not keep(cases, Listener()) and not keep(empty, Listener())


@pytest.mark.parametrize(("there", "kernels", "gpu", "settings", "expected"), [
    (True, "avx2", False, (), True),
    (True, "avx512bf16", False, ("predict.mirror=true",), True),
    (True, "plain", False, (), False),
    (True, "none", False, (), False),
    (True, "avx2", True, (), False),
    (True, "avx2", False, ("train.precision=fp32",), False),
    (True, "avx2", False, ("predict.sensitivities=[0.9]",), False),
    (False, "none", True, (), True),
    (False, "none", True, ("train.precision=fp32",), False),
])  # fmt: skip
def test_when_it_is_the_better_way(monkeypatch, there, kernels, gpu, settings, expected):
    monkeypatch.setattr(within, "find_spec", lambda name: object() if there else None)
    monkeypatch.setattr(within, "in_use", lambda: kernels)
    monkeypatch.setattr(within, "gpu_likely", lambda: gpu)
    assert within.wanted(settings) is expected


def test_where_it_is_not_torch_answers(run, tmp_path, monkeypatch):
    write_scans(tmp_path / "data", 1)
    asked = []
    monkeypatch.setattr(within, "in_use", lambda: "none")
    monkeypatch.setattr(within, "SWIFT", ("avx2",))
    monkeypatch.setattr(predicting, "by", lambda *given, **words: asked.append("without"))
    (one,) = predict(run.path, tmp_path / "data" / "images", tmp_path / "out", options=Options())
    assert not asked and one.path.exists()


def test_a_new_training_in_the_same_folder_takes_it_away(run):
    from vesalius.engine.workflow import _clear

    _clear(run.path)
    assert not (run.path / within.FILE).exists()


def test_train_leaves_it_and_predict_takes_it(tmp_path, capsys, monkeypatch):
    write_scans(tmp_path / "data", 8, side=18)
    assert main(["train", str(tmp_path / "data"), "-o", str(tmp_path / "run"), "--budget", "none", "--set", "train.steps=3"]) == 0
    capsys.readouterr()
    assert within.found(tmp_path / "run") is not None
    monkeypatch.setattr(within, "SWIFT", (*within.SWIFT, "plain", "none"))
    monkeypatch.setattr(within, "gpu_likely", lambda: False)
    monkeypatch.setitem(sys.modules, "vesalius.engine.predict", None)  # which would be asked otherwise
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "data" / "images"), "-o", str(tmp_path / "out"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["cases"]) == len(list((tmp_path / "out").glob("*.nii.gz"))) == 8


def test_a_copied_run_answers_from_its_new_place(run, tmp_path):
    write_scans(tmp_path / "data", 1)
    predict(run.path, tmp_path / "data" / "images", tmp_path / "before")
    shutil.move(run.path, tmp_path / "elsewhere")
    assert Answerer.of_run(tmp_path / "elsewhere") is not None
    predict(tmp_path / "elsewhere", tmp_path / "data" / "images", tmp_path / "after")
    one, two = labels_of(tmp_path / "before"), labels_of(tmp_path / "after")
    assert all(np.array_equal(one[name], two[name]) for name in one)
