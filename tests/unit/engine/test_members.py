"""Members of one fold: alike but for their seeds, learned one after another within one budget, and meaned in one pass."""

import numpy as np
import pytest
import torch

from tests.unit.engine.test_whole import cohort, plan_of
from tests.unit.engine.test_workflow import Noted
from tests.unit.engine.tiny import facts, tiny_dataset, tiny_plan, write_scans
from vesalius.core.errors import UsageError
from vesalius.core.files import read_json
from vesalius.data.prepare import prepare
from vesalius.data.read import read_images
from vesalius.data.whole import read_whole
from vesalius.engine.predict import predict
from vesalius.engine.run import CORRECTED, Run
from vesalius.engine.state import load_weights
from vesalius.engine.voices import scores
from vesalius.engine.workflow import train
from vesalius.plan import Request, learning_seconds, plan
from vesalius.report.facts import gather
from vesalius.report.verdict import done


def weights(voice):
    return load_weights(voice / "weights.safetensors")[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three members that classify; the second was stopped half-way and continued."""
    folder = tmp_path_factory.mktemp("members")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VESALIUS_HOME", str(folder / "home"))
        plan_of(steps=6).model_copy(update={"members": 3}).save(folder / "plan.json")
        wish, data = Request(members=3, controls=False), cohort(folder / "pictures")
        stopped = train(data, folder / "run", wish=wish, plan_file=folder / "plan.json", listener=Noted(steps=8))
        assert [voice.exists() for voice in stopped.voices(stopped.path)] == [True, True, False] and not stopped.finished
        first = (folder / "run" / "weights.safetensors").stat()
        made = train(data, folder / "run", wish=wish, listener=Noted())
        assert (folder / "run" / "weights.safetensors").stat().st_mtime_ns == first.st_mtime_ns, "a finished member is kept"
        yield made


def test_each_member_is_what_a_run_with_its_seed_would_be(run, tmp_path, monkeypatch):
    monkeypatch.setenv("VESALIUS_HOME", str(run.path.parent / "home"))
    assert run.finished and [voice.name for voice in run.voices(run.path)] == ["run", "seed_1", "seed_2"]
    plan_of(steps=6, settings=["train.seed=1"]).save(tmp_path / "plan.json")
    alone = train(run.dataset, tmp_path / "alone", wish=Request(controls=False), plan_file=tmp_path / "plan.json")
    assert run.splits == alone.splits
    mine, theirs = weights(run.path / "seed_1"), weights(alone.path)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs), "stopped and continued, too"
    assert any(not torch.equal(weights(run.path)[name], mine[name]) for name in mine)


def test_members_answer_as_the_mean_of_their_logits(run, tmp_path):
    how = read_json(run.path / "calibration.json") if (run.path / "calibration.json").exists() else {"temperature": 1.0}
    rows = run.metrics["parts"]["test"]["model"]["rows"]
    nets = [run.network(voice) for voice in run.voices(run.path)]
    for row in rows:
        pixels = torch.from_numpy(read_whole(run.dataset.case(row["case"]), run.plan.preparation, run.plan.patch.size))[None]
        with torch.inference_mode():
            z = torch.stack([net(pixels.contiguous(memory_format=torch.channels_last))[0] for net in nets]).double().mean(0)
        assert row["probabilities"]["bright"] == pytest.approx(float(torch.softmax(z / how["temperature"], 0)[1]), abs=1e-4)
    told = {a.case: a.probabilities["bright"] for a in predict(run, [run.dataset.case(row["case"]) for row in rows], tmp_path / "out")}
    assert told == pytest.approx({row["case"]: row["probabilities"]["bright"] for row in rows}, abs=1e-6)


def test_the_report_has_a_curve_of_each(run):
    found = gather(run.path)
    assert [curve.name for curve in found.curves] == ["", "seed 1", "seed 2"] and done(found) == 1.0


def test_a_run_keeps_its_number_of_members_and_a_plan_its_own(run, tmp_path, monkeypatch):
    monkeypatch.setenv("VESALIUS_HOME", str(tmp_path / "home"))
    (run.path / "seed_2" / "weights.safetensors").rename(tmp_path / "kept")
    with pytest.raises(UsageError, match="planned otherwise than --members 2"):
        train(run.dataset, run.path, wish=Request(members=2))
    (tmp_path / "kept").rename(run.path / "seed_2" / "weights.safetensors")
    with pytest.raises(UsageError, match=r"The plan has 3 members, asked for are 1\. Say --members 3"):
        train(run.dataset, tmp_path / "other", wish=Request(controls=False), plan_file=run.path / "plan.json")


def test_members_share_the_time_with_folds_and_with_each_other():
    assert learning_seconds(Request(budget="60s", members=3, folds=2)) == pytest.approx(learning_seconds(Request(budget="60s")) / 6)
    made = plan(tiny_dataset(), facts=facts(), budget="2m", members=2)
    assert made.members == 2 and made.leaves()["members"][1] and made.of_member(1).train.seed == made.train.seed + 1
    one = plan(tiny_dataset(), facts=facts(), budget="2m")  # whose machine may be measured otherwise: one network or two
    assert made.train.seconds * made.net.networks == pytest.approx(one.train.seconds * one.net.networks / 2)


def test_images_alone_are_learned_from_once(tmp_path):
    from dataclasses import replace

    data = cohort(tmp_path / "pictures", 12)
    with pytest.raises(UsageError, match="leave --members out"):
        plan(replace(data, task="anomaly", alone=True), facts={**facts(cases=12), "shapes": [[8, 8]] * 12}, members=2)


def test_masks_are_learned_by_members_of_two_networks_each(tmp_path, monkeypatch):
    monkeypatch.setenv("VESALIUS_HOME", str(tmp_path / "home"))
    tiny_plan(["net.prior=1"], steps=2).model_copy(update={"members": 2}).save(tmp_path / "plan.json")
    run = train(write_scans(tmp_path / "scans", 6), tmp_path / "run", wish=Request(members=2), plan_file=tmp_path / "plan.json")
    places = [str(voice.relative_to(run.path)) for voice in run.voices(run.path)]
    assert places == [".", CORRECTED, "seed_1", f"seed_1/{CORRECTED}"] and run.finished
    assert [run.corrects(voice) for voice in run.voices(run.path)] == [False, True, False, True]
    assert run.metrics["parts"]["test"]["model"]["rows"]
    (run.path / "calibration.json").unlink(missing_ok=True)
    name = run.splits["folds"][0]["val"][0]
    prepared = prepare(read_images(run.dataset.case(name), run.plan.preparation.channels), run.plan.preparation)

    class Case:
        image, target = prepared.image, np.ones((1, *prepared.image.shape[1:]), np.uint8)

    assert len(scores(Run(run.path), run.path, Case)) == 3
    names = {path.name for path in tmp_path.glob("run/**/log.csv")} and [c.name for c in gather(run.path).curves]
    assert names == ["", "seed 1", "corrects the baseline", "seed 1, corrects the baseline"]
