"""Networks that correct the baseline, from groups of patients to a whole run."""

import numpy as np
import pytest

from tests.unit.engine.tiny import tiny_plan, write_scans
from vesalius.core.files import read_json, write_json
from vesalius.data.primed import LIMIT, stored_odds, with_odds
from vesalius.engine.evaluate import evaluate
from vesalius.engine.extras import Extras
from vesalius.engine.predict import predict
from vesalius.engine.priming import FILE, SHOWN, groups
from vesalius.engine.run import CORRECTED, FIRST, Run
from vesalius.engine.voices import chosen
from vesalius.engine.workflow import train


class Half:
    """A prior whose log odds are ten times the first channel."""

    def odds(self, image):
        return 10 * image[:1]


def test_groups_keep_patients_together_and_cover_all():
    patients = ["a", "b", "a", "c", "d", "e", "f", "b", "g"]
    found = groups(patients)
    assert sorted(i for part in found for i in part) == list(range(9)) and len(found) <= 5
    for who in set(patients):
        assert sum(any(patients[i] == who for i in part) for part in found) == 1


def test_odds_are_cut_and_lie_above_zero():
    image = np.array([[[-9.0, -0.1, 0.2, 9.0]]], np.float32)
    assert np.allclose(stored_odds(Half(), image), [[[0, LIMIT - 1, LIMIT + 2, 2 * LIMIT]]])
    assert with_odds(image, []) is image and with_odds(image, [Half(), Half()]).shape == (3, 1, 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("primed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VESALIUS_HOME", str(folder / "home"))
        tiny_plan(["net.prior=1"], steps=4).save(folder / "plan.json")
        yield train(write_scans(folder / "scans", 7), folder / "run", plan_file=folder / "plan.json")


def test_two_networks_learn_and_answer_together(run):
    assert run.finished and [voice.name for voice in run.voices(run.path)] == ["run", CORRECTED]
    first, second = (run.network(voice) for voice in run.voices(run.path))
    assert first.prior == 0 and second.prior == 1
    assert (run.path / CORRECTED / FILE).exists() and not (run.path / CORRECTED / SHOWN).exists()
    assert run.metrics["parts"]["test"]["model"]["rows"]


def test_scoring_again_and_predicting_give_the_same(run, tmp_path):
    before = run.metrics["parts"]["test"]["model"]["rows"]
    again = evaluate(Run(run.path), parts=("test",))["parts"]["test"]["model"]["rows"]
    assert again == before
    names = read_json(run.path / "splits.json")["test"]
    answers = predict(run, [run.dataset.case(name) for name in names], tmp_path / "out")
    for answer in answers:
        assert answer.path is not None and answer.path.read_bytes() == (run.path / "predictions" / "test" / answer.path.name).read_bytes()


def test_a_second_network_that_is_missing_is_learned(run):
    (run.path / CORRECTED / "weights.safetensors").unlink()
    (run.path / CORRECTED / "checkpoint" / "state.safetensors").unlink()
    assert not Run(run.path).finished
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VESALIUS_HOME", str(run.path.parent / "home"))
        again = train(run.dataset.root, run.path, plan_file=run.path.parent / "plan.json")
    assert again.finished and (run.path / CORRECTED / "weights.safetensors").exists()


def test_learning_starts_at_the_baseline(run):
    """Before its first step the second network says what its prior says."""
    from vesalius.engine.infer import callables, classes
    from vesalius.engine.priming import priors_of
    from vesalius.plan import build

    plan = run.plan
    net = build(plan.net, plan.preparation.in_channels, 2)
    (prior,) = priors_of(run, run.voices(run.path))
    image = np.random.default_rng(0).standard_normal((1, 14, 14, 14)).astype(np.float32)
    said = classes(callables([net], plan, "cpu"), with_odds(image, [prior]), (14, 14, 14), plan=plan, device="cpu")
    assert np.mean(said == prior.predict(image)) > 0.99


def test_one_network_answers_where_it_is_clearly_better():
    even = np.array([[0.8, 0.7, 0.81], [0.7, 0.8, 0.79], [0.75, 0.75, 0.78]])
    assert chosen(even) == [FIRST, CORRECTED]
    assert chosen(even + np.array([0, 0.3, 0])) == [CORRECTED] and chosen(even + np.array([0.3, 0.2, 0])) == [FIRST]
    assert chosen(even[:1] + np.array([0.3, 0, 0])) == [FIRST, CORRECTED], "one case says nothing"
    assert chosen(even + np.array([0, 0.04, 0])) == [FIRST, CORRECTED], "a little better on average is not clearly better"


def test_who_answers_is_kept_and_heeded(run):
    kept = read_json(run.path / "calibration.json")
    assert kept["networks"] in ([FIRST, CORRECTED], [FIRST], [CORRECTED])
    for asked in ([CORRECTED], [FIRST], [FIRST, CORRECTED]):
        write_json(run.path / "calibration.json", {**kept, "networks": asked})
        again = Run(run.path)
        assert [net.prior for net in again.networks()] == [int(name == CORRECTED) for name in asked] and again.finished
        assert len(Extras.of(again).priors) == (CORRECTED in asked)
    write_json(run.path / "calibration.json", kept)


def test_the_correcting_network_may_answer_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("VESALIUS_HOME", str(tmp_path / "home"))
    tiny_plan(["net.prior=1", "net.first=false"], steps=3).save(tmp_path / "plan.json")
    run = train(write_scans(tmp_path / "scans", 7), tmp_path / "run", plan_file=tmp_path / "plan.json")
    assert run.finished and not (run.path / CORRECTED).exists() and (run.path / FILE).exists()
    (net,) = run.networks()
    assert net.prior == 1 and run.metrics["parts"]["test"]["model"]["rows"]
    again = evaluate(Run(run.path), parts=("test",))["parts"]["test"]["model"]["rows"]
    assert again == run.metrics["parts"]["test"]["model"]["rows"]
    from vesalius.engine.begin import weights_of

    assert weights_of(run.path) == run.path / "weights.safetensors"
