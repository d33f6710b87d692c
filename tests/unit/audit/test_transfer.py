"""The transfer audit: the same labels, steps and network for every rival, jobs that are continued, sentences that do not say too much."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from tests.unit.engine.test_whole import SIDE, TWO, plan_of
from tests.unit.engine.tiny import tiny_plan, write_scans
from vesalius.audit import transfer, transfer_runs
from vesalius.audit.rounds import Outcome
from vesalius.audit.transfer import outcome_file
from vesalius.audit.transfer_plan import Asked, Job, able, jobs_of, prepared, trunk
from vesalius.audit.transfer_table import tabled, verdict
from vesalius.core.errors import DataError, UsageError
from vesalius.core.files import read_json
from vesalius.core.settings import text_of
from vesalius.core.space import Space
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.state import load_weights
from vesalius.engine.workflow import train
from vesalius.io import save
from vesalius.io.image import Image
from vesalius.nets import NETS
from vesalius.plan import Request
from vesalius.plan.plan import Net
from vesalius.report.transfer import write_transfer


def stripes(folder, number, *, seed=0, given=()):
    """Pictures of stripes with a random phase, across or along, over an uneven ground: no pixel tells them apart."""
    cases, draw = [], np.random.default_rng(seed)
    place = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"))
    for k in range(number):
        wave = np.sin(np.pi / 2 * place[k % 2] + draw.uniform(0, 2 * np.pi))
        ground = np.kron(draw.normal(0, 15, (2, 2)), np.ones((SIDE // 2, SIDE // 2)))
        pixels = (110 + 20 * wave + ground + draw.normal(0, 8, wave.shape)).clip(0, 255)[None].astype(np.uint8)
        path = Path(folder) / f"{seed}_{k:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(Image(pixels, Space.of((SIDE, SIDE), physical=False)), path)
        cases.append(Case(f"s{seed}_{k:03}", f"q{seed}_{k // 2:03}", {"image": path}, classes={TWO.names[k % 2]: 1},
                          split=given[k] if given else ""))  # fmt: skip
    return Dataset("stripes", Path(folder), "classify", tuple(cases), ("image",), TWO)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """40 cases to give labels to, 24 to test on; patients of two cases, one of each class."""
    return stripes(tmp_path_factory.mktemp("stripes"), 64, given=["train"] * 40 + ["test"] * 24)


def begun(folder, plan):
    """A folder whose shared plan is made by hand, so that nothing is measured."""
    plan.save(Path(folder) / "plan.json")
    return Path(folder)


def asked(**more):
    return Asked.checked({"labels": (10, 20), "seeds": 2, "budget": None, "methods": ("simclr",), "draws": 100, **more})


# -- the logic, without any learning --------------------------------------------------------------------------------------


class Jobs:
    """In place of learning: every rival has a gain over scratch in each case; the n-th call is interrupted if asked for."""

    def __init__(self, monkeypatch, *, gains, interrupt=None):
        self.calls, self.gains, self.interrupt = [], gains, interrupt
        monkeypatch.setattr(transfer_runs, "begun_from", lambda audit, job, listener: "")
        monkeypatch.setattr(transfer_runs, "done", self.done)

    def done(self, audit, job, *, init, listener):
        if self.interrupt is not None and len(self.calls) == self.interrupt:
            raise KeyboardInterrupt
        self.calls.append(job)
        draw = np.random.default_rng((job.seed, job.labels))
        scores = 0.5 + draw.normal(0, 0.1, len(audit.test)) + self.gains[job.rival]
        names = tuple(case.name for case in audit.test)
        one = Outcome(names, tuple(case.patient for case in audit.test), scores=scores)
        return {"outcomes": {"fine_tuned": one.to_json()}, "seconds": {"fine_tuned": 1.0}}


def plain(found):
    return {name: value for name, value in found.items() if name != "record"}


def test_a_killed_audit_continues_with_what_is_missing(data, tmp_path, monkeypatch):
    jobs = Jobs(monkeypatch, gains={"scratch": 0, "simclr": 0.1}, interrupt=3)
    folder = begun(tmp_path / "a", plan_of())
    with pytest.raises(KeyboardInterrupt):
        transfer.transfer(data, folder, asked=asked())
    assert read_json(folder / "transfer.json")["done"] == 3
    first, jobs.interrupt = list(jobs.calls), None
    found = transfer.transfer(data, folder, asked=asked())
    assert len(jobs.calls) == 8 == len(set(jobs.calls)) and jobs.calls[:3] == first
    whole = transfer.transfer(data, begun(tmp_path / "b", plan_of()), asked=asked())
    assert json.dumps(plain(transfer_json(folder))) == json.dumps(plain(transfer_json(tmp_path / "b"))) and found["done"] == 8
    assert whole["verdict"] == found["verdict"]


def transfer_json(folder):
    return read_json(folder / "transfer.json")


def test_one_that_is_half_written_is_done_again(data, tmp_path, monkeypatch):
    jobs = Jobs(monkeypatch, gains={"scratch": 0, "simclr": 0})
    folder = begun(tmp_path, plan_of())
    transfer.transfer(data, folder, asked=asked())
    outcome_file(folder, Job("simclr", 20, 1)).unlink()
    transfer.transfer(data, folder, asked=asked())
    assert jobs.calls[8:] == [Job("simclr", 20, 1)]


def test_labels_seeds_and_rivals_may_be_added_and_nothing_else_changed(data, tmp_path, monkeypatch):
    jobs = Jobs(monkeypatch, gains={"scratch": 0, "simclr": 0, "rotation": 0})
    folder = begun(tmp_path, plan_of())
    transfer.transfer(data, folder, asked=asked(labels=(10,), seeds=1))
    transfer.transfer(data, folder, asked=asked(labels=(10, 20), seeds=1, methods=("simclr", "rotation")))
    assert len(jobs.calls) == 6
    with pytest.raises(UsageError, match="another budget"):
        transfer.transfer(data, folder, asked=asked(budget="20s"))
    with pytest.raises(UsageError, match="another data"):
        transfer.transfer(data.with_cases(data.cases[:-1]), folder, asked=asked())


def test_a_gain_is_found_and_none_is_not(data, tmp_path, monkeypatch):
    Jobs(monkeypatch, gains={"scratch": 0, "simclr": 0.1})
    found = transfer.transfer(data, begun(tmp_path / "a", plan_of()), asked=asked())
    gap = found["tables"]["fine_tuned"]["10"]["simclr"]["gap"]
    assert gap["difference"] == pytest.approx(0.1) and gap["low"] > 0.09
    assert found["verdict"]["headline"] == "Better than from scratch: simclr (at 10 and 20 labels)." and found["verdict"]["tone"] == "good"
    Jobs(monkeypatch, gains={"scratch": 0, "simclr": 0})
    found = transfer.transfer(data, begun(tmp_path / "b", plan_of()), asked=asked())
    assert found["verdict"]["headline"] == "Nothing is better than learning from scratch on this data."
    assert "Not told apart from it: simclr (at 10 and 20 labels)." in found["verdict"]["sentences"]
    assert any("2 seeds" in remark for remark in found["remarks"])


def test_the_page_says_who_is_better(data, tmp_path, monkeypatch):
    Jobs(monkeypatch, gains={"scratch": 0, "simclr": -0.2})
    found = transfer.transfer(data, begun(tmp_path, plan_of()), asked=asked())
    page = write_transfer(found, tmp_path / "transfer.html").read_text()
    assert "Worse than from scratch: simclr (at 10 and 20 labels)." in page and ": worse" in page
    assert page.count("<svg") == 2 and "10 labels" in page and "SimCLR" in page  # the button's and the curves


def cell(low, high):
    return {"value": 0.5, "low": 0.4, "high": 0.6, "seeds": {0: 0.5}, "gap": {"difference": (low + high) / 2, "low": low, "high": high}}


def test_the_verdict_by_number_of_labels():
    made = verdict({"10": {"a": cell(0.1, 0.2), "b": cell(-0.2, -0.1)}, "20": {"a": cell(-0.1, 0.2), "b": cell(-0.3, -0.1)}})
    assert made["headline"] == "Better than from scratch: a (at 10 labels)."
    assert made["sentences"] == ["Worse than from scratch: b (at 10 and 20 labels).", "Not told apart from it: a (at 20 labels)."]
    assert verdict({})["tone"] == "unsure" and tabled([], TWO, draws=10)["tables"] == {}


def test_jobs_come_seed_by_seed():
    made = jobs_of(asked())
    assert len(made) == 8 and [job.seed for job in made] == [0] * 4 + [1] * 4 and made[0] == Job("scratch", 10, 0)


def test_what_cannot_be_asked_is_refused(data, tmp_path):
    with pytest.raises(UsageError, match="network of its own"):
        able("rbm")
    with pytest.raises(UsageError, match="Did you mean simclr"):
        able("simcrl")
    for wrong in ({"labels": (1,)}, {"seeds": 0}, {"inits": {"x": "/nowhere"}}, {"inits": {"scratch": str(tmp_path)}}):
        with pytest.raises(UsageError, match="In settings"):
            asked(**wrong)
    with pytest.raises(UsageError, match="40 cases beside the test part"):
        prepared(data, asked(labels=(10, 50)), folder=tmp_path, listener=Listener())


def test_a_method_that_cannot_teach_the_network_is_refused_before_any_work(data, tmp_path, monkeypatch):
    jobs = Jobs(monkeypatch, gains={"scratch": 0, "inpainting": 0})
    with pytest.raises(UsageError, match=r"inpainting cannot teach the network of this audit, compact: .*gives no image.*--methods"):
        transfer.transfer(data, begun(tmp_path / "audit", plan_of()), asked=asked(methods=("inpainting",)))
    assert not jobs.calls


def test_weights_of_another_network_are_refused_before_the_first_run(data, tmp_path, monkeypatch):
    """Those of torchvision's ResNet, where the audit's network is a small one of ours; named, it takes them."""
    jobs = Jobs(monkeypatch, gains={"scratch": 0, "general": 0})
    net = NETS["resnet"](2, 3, 5, scale=1 / 16)
    theirs = {ours_as_theirs(name): value.contiguous() for name, value in net.state_dict().items() if not name.endswith("stream")}
    save_file(theirs, tmp_path / "general.safetensors")
    wish, folder = {"labels": (10,), "seeds": 1, "methods": ("scratch",)}, begun(tmp_path / "audit", plan_of())
    inits = {"general": str(tmp_path / "general.safetensors")}
    with pytest.raises(UsageError, match=r"compact, cannot begin from the weights general: .* --set net.name=resnet"):
        transfer.transfer(data, folder, asked=asked(**wish, inits=inits))
    assert not jobs.calls and not (folder / "asked.json").exists()
    fits = Net(name="resnet", ndim=2, arguments={"scale": 1 / 16})
    transfer.transfer(data, begun(folder, plan_of().model_copy(update={"net": fits})), asked=asked(**wish, inits=inits))
    assert {job.rival for job in jobs.calls} == {"scratch", "general"}


def ours_as_theirs(name):
    """The name that torchvision's ResNet has for a weight of ours."""
    parts = name.split(".")
    if name.startswith("stages.0."):
        return f"{'bn1' if parts[3] == '1' else 'conv1'}.{parts[-1]}"
    if parts[0] == "head":
        return f"fc.{parts[-1]}"
    if "shortcut" in parts:
        return f"layer{parts[1]}.{parts[2]}.downsample.{parts[4]}.{parts[5]}"
    return f"layer{parts[1]}.{parts[2]}.{'bn' if parts[5] == '1' else 'conv'}{int(parts[4]) + 1}.{parts[6]}"


def test_weights_that_have_seen_the_test_are_refused(data, tmp_path):
    """An in-domain run that was trained on the whole data set would win by memory."""
    from tests.unit.engine.tiny import write_run

    whole = data.with_cases(tuple(replace(case, split="") for case in data.cases))
    run = write_run(tmp_path / "run", whole, plan_of())
    with pytest.raises(DataError, match="24 of the test cases"):
        prepared(data, asked(inits={"cheat": str(run.path)}), folder=tmp_path / "audit", listener=Listener())


# -- with learning --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audited(data, tmp_path_factory):
    """Scratch, a method without labels, and a run that has learned to tell stripes from 80 other pictures; a few steps each."""
    folder = tmp_path_factory.mktemp("audit")
    other = stripes(folder / "other", 80, seed=7)
    plan = plan_of(steps=120)
    plan.save(folder / "other.json")
    elsewhere = train(other, folder / "elsewhere", wish=Request(budget=None), plan_file=folder / "other.json").path
    begun(folder / "audit", plan_of(steps=4))
    wish = asked(labels=(10,), seeds=1, inits={"elsewhere": str(elsewhere)}, settings=("train.steps=4",), unlabelled="6")
    return folder / "audit", transfer.transfer(data, folder / "audit", asked=wish)


def test_every_rival_has_the_same_labels_network_and_steps(audited):
    folder, _ = audited
    runs = {rival: Run.open(folder / "runs" / rival / "labels_10" / "seed_0") for rival in ("scratch", "simclr", "elsewhere")}
    assert len({json.dumps(run.splits["folds"]) for run in runs.values()}) == 1
    fold = runs["scratch"].splits["folds"][0]
    assert len(fold["train"]) + len(fold["val"]) == 10 and len(runs["scratch"].splits["test"]) == 24
    assert len({(r.plan.net.model_dump_json(), r.plan.train.steps, text_of(r.plan.preparation)) for r in runs.values()}) == 1
    assert runs["scratch"].plan.train.init == "" and runs["simclr"].plan.train.init.endswith("pretrained/simclr/seed_0")
    assert runs["simclr"].plan.train.learning_rate == runs["scratch"].plan.train.learning_rate, "four steps: too few to be cautious in"


def test_no_test_image_was_looked_at_while_learning_without_labels(audited):
    folder, _ = audited
    run = Run.open(folder / "pretrained" / "simclr" / "seed_0")
    fold = run.splits["folds"][0]
    assert len(fold["train"]) + len(fold["val"]) == 40 and not run.splits["test"]
    assert run.plan.train.steps == 6, "learning without labels has the steps asked for it, not those of a run with labels"
    assert not {*fold["train"], *fold["val"]} & set(read_json(folder / "splits.json")["test"])


def test_the_network_begins_from_what_was_learned_without_labels(audited):
    """Features on which probes are fitted are those of the learned trunk itself."""
    folder, _ = audited
    plan = transfer_runs.plan_of(plan_of(steps=4), seed=0, init=folder / "pretrained" / "simclr" / "seed_0")
    images = np.random.default_rng(0).normal(size=(3, 1, SIDE, SIDE)).astype(np.float32)
    rows = transfer_runs._beginning(plan, plan.train.init)(images)
    import torch

    method = Run.open(folder / "pretrained" / "simclr" / "seed_0").method()
    assert rows == pytest.approx(method.features(torch.from_numpy(images)).numpy(), abs=1e-4)
    weights, _ = load_weights(folder / "pretrained" / "simclr" / "seed_0" / "weights.safetensors")
    assert trunk(plan) == {"name": "compact", "channels": (4, 6)} and len(weights) > 10


def test_outcomes_are_those_of_the_runs(audited):
    folder, found = audited
    for rival in ("scratch", "simclr", "elsewhere"):
        run = Run.open(folder / "runs" / rival / "labels_10" / "seed_0")
        stated = run.metrics["parts"]["test"]["model"]["summary"]["all"]["auc"]["mean"]
        assert found["tables"]["fine_tuned"]["10"][rival]["value"] == pytest.approx(stated, abs=1e-6)


def test_weights_that_know_the_difference_win_and_pixels_cannot(audited):
    """Planted: the run from elsewhere tells stripes; four steps from scratch and lines through pixels do not."""
    _, found = audited
    fine, probe = (found["tables"][way]["10"] for way in ("fine_tuned", "linear_probe"))
    assert probe["elsewhere"]["value"] > 0.9 and probe["elsewhere"]["gap"]["low"] is not None
    assert fine["elsewhere"]["value"] > fine["scratch"]["value"]
    assert probe["pixels"]["value"] < 0.85 and set(probe) == {"scratch", "elsewhere", "simclr", "pixels"}
    assert set(found["tables"]["neighbour_probe"]["10"]) == set(probe) and "neighbour" not in fine


def test_outlines_are_audited_by_dice(tmp_path):
    """Segmentation: the same audit, Dice per case in place of the area, and no probes of whole cases."""
    data = write_scans(tmp_path / "scans", 12)
    plan = tiny_plan(["train.steps=2"], steps=2)
    folder = begun(tmp_path / "audit", plan)
    found = transfer.transfer(data, folder, asked=asked(labels=(6,), seeds=1, methods=("models_genesis",), settings=("train.steps=2",)))
    assert found["measure"] == "dice" and set(found["tables"]) == {"fine_tuned"}
    assert set(found["tables"]["fine_tuned"]["6"]) == {"scratch", "models_genesis"}
    run = Run.open(folder / "runs" / "scratch" / "labels_6" / "seed_0")
    stated = run.metrics["parts"]["test"]["model"]["summary"]["all"]["dice"]["mean"]
    assert found["tables"]["fine_tuned"]["6"]["scratch"]["value"] == pytest.approx(stated)


def test_the_bar_never_moves_back():
    """Learning without labels, then with them, then a test whose ticks do not count: one job of three."""
    told = []
    within = transfer.Within(Listener(), lambda done, total=None, note="": told.append((done, total, note)), (1, 3, "simclr"))
    for what, done in (("learning", 0.5), ("testing on test", 0.1), ("learning", 0.25), ("learning", 1.0)):
        with within.stage(what) as tick:
            tick(done, 1.0)
    assert told == [(1.5, 3, "simclr"), (1.5, 3, "simclr"), (1.5, 3, "simclr"), (2.0, 3, "simclr")]


def test_no_two_rivals_have_one_colour():
    from vesalius.report.transfer import colour

    rivals = ["scratch", "general", "simclr", "vicreg", "rotation", "byol", "pixels"]
    assert len({colour(rivals, rival) for rival in rivals}) == len(rivals)


def test_rates_that_the_user_sets_are_those_of_every_rival():
    shared = plan_of(steps=1000)
    begun, mine = (transfer_runs.plan_of(shared, seed=1, init="weights", asked=words) for words in ((), ("train.learning_rate=0.01",)))
    assert begun.train.learning_rate == shared.train.learning_rate / 4 and begun.train.layer_decay == 0.8 and begun.train.seed == 1
    assert mine.train.learning_rate == 0.01 and mine.train.layer_decay == 0.8
