"""Weights to begin from: of a run, of a file of ours, of torchvision's names; what was taken is said."""

import pytest
import torch
from safetensors.torch import save_file

from tests.unit.engine.tiny import facts as volumes
from tests.unit.engine.tiny import tiny_dataset, tiny_plan
from tests.unit.plan.test_whole_plan import dataset, facts
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.engine.begin import begin
from vesalius.engine.state import save_weights
from vesalius.nets import NETS
from vesalius.nets._blocks import initialise
from vesalius.plan import build, plan, whole
from vesalius.plan.begin import caution
from vesalius.plan.budget import Measured
from vesalius.plan.methods import built
from vesalius.tasks import aimed


def resnet(classes, *, channels=1, seed=0, **more):
    made = NETS["resnet"](2, channels, classes, **{"depth": 18, "stem": "small", "scale": 0.125, **more})
    return initialise(made, torch.Generator().manual_seed(seed))


def test_all_but_the_head_of_other_classes_is_taken(tmp_path):
    first, second = resnet(2), resnet(3, seed=1)
    (tmp_path / "run").mkdir()
    save_weights(tmp_path / "run" / "weights.safetensors", dict(first.state_dict()), {"step": 1})
    drawn = second.head[2].weight.clone()
    words = begin(second, tmp_path / "run")
    assert "head.2.weight, head.2.bias" in words and "Drawn anew" in words
    assert torch.equal(second.head[2].weight, drawn)
    for name, value in second.state_dict().items():
        assert name.startswith("head.") or torch.equal(value, first.state_dict()[name])


def test_an_image_whose_channels_are_alike_gets_the_answer_of_one(tmp_path):
    one, three = resnet(2), resnet(2, channels=3, seed=1)
    save_weights(tmp_path / "w.safetensors", dict(one.state_dict()))
    assert "Averaged over other channels: stages.0.0.0.weight" in begin(three, tmp_path / "w.safetensors")
    image = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(three.eval()(image.expand(-1, 3, -1, -1)), one.eval()(image), rtol=1e-4, atol=1e-5)


def test_weights_under_the_names_of_torchvision_are_translated(tmp_path):
    one, other = resnet(2, stem="published"), resnet(2, stem="published", seed=1)
    theirs = {"fc.weight": one.head[2].weight, "fc.bias": one.head[2].bias}
    for name, value in one.state_dict().items():
        parts = name.split(".")
        if name.startswith("stages.0."):
            theirs[f"{'bn1' if parts[3] == '1' else 'conv1'}.{parts[-1]}"] = value
        elif "shortcut" in parts:
            theirs[f"layer{parts[1]}.{parts[2]}.downsample.{parts[4]}.{parts[5]}"] = value
        elif "residual" in parts:
            theirs[f"layer{parts[1]}.{parts[2]}.{'bn' if parts[5] == '1' else 'conv'}{int(parts[4]) + 1}.{parts[6]}"] = value
    save_file({name: value.detach().clone() for name, value in theirs.items()}, tmp_path / "theirs.safetensors")
    assert begin(other, tmp_path / "theirs.safetensors").endswith("100.0% of the weights are taken.")
    image = torch.randn(1, 1, 40, 40)
    assert torch.equal(one.eval()(image), other.eval()(image))


def test_what_does_not_belong_together_is_refused(tmp_path):
    save_weights(tmp_path / "w.safetensors", dict(resnet(2, scale=0.25).state_dict()))
    with pytest.raises(VesaliusError, match="at least half was expected"):
        begin(resnet(2), tmp_path / "w.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VesaliusError, match="no weights to begin from"):
        begin(resnet(2), tmp_path / "empty")
    with pytest.raises(UsageError, match="nothing to begin from"):
        plan(dataset(), facts=facts([(28, 28)] * 5), settings=[f"train.init={tmp_path / 'nowhere'}"])


def test_the_network_of_the_run_is_planned_and_learns_at_smaller_rates(tmp_path, monkeypatch):
    monkeypatch.setattr(whole, "measure", lambda net, shape, *, where, kind: Measured(1e-3, 1e-3, 1 << 20, 1))
    monkeypatch.setattr(whole, "precision", lambda where: ("fp32", "as the tests say"))
    monkeypatch.setattr("vesalius.plan.measure", lambda net, shape, *, where, kind: Measured(1e-3, 1e-3, 1 << 20, 1))
    small = ["net.name=mobilenet", 'net.arguments={"scale": 0.25}']
    before = plan(dataset(), facts=facts([(28, 28)] * 5), settings=small)
    before.save(tmp_path / "plan.json")
    made = plan(dataset(), facts=facts([(40, 40)] * 5), settings=[f"train.init={tmp_path}"])
    assert made.net == before.net and made.patch.size == (28, 28) and made.train.init == str(tmp_path)
    assert made.train.layer_decay == 0.8 and made.train.learning_rate == before.train.learning_rate / 4
    assert "begins from" in made.reasons["net.name"] and all(why for _, why in made.leaves().values())
    mine = plan(dataset(), facts=facts([(28, 28)] * 5), settings=[f"train.init={tmp_path}", "train.layer_decay=1", "train.freeze=1"])
    assert mine.train.layer_decay == 1 and mine.train.freeze == 1
    with pytest.raises(UsageError, match="2 axes; these have 3"):
        plan(dataset(), facts=facts([(16, 28, 28)] * 5), settings=[f"train.init={tmp_path}"])


def test_learned_weights_are_kept_near_only_where_there_is_time_to_move(tmp_path, monkeypatch):
    """The whole rate up to 250 steps, a quarter from 1,000 on, half of it in the middle (of factors: 500); the user's word counts most."""
    monkeypatch.setattr(whole, "measure", lambda net, shape, *, where, kind: Measured(1e-3, 1e-3, 1 << 20, 1))
    monkeypatch.setattr(whole, "precision", lambda where: ("fp32", "as the tests say"))
    before = plan(dataset(), facts=facts([(28, 28)] * 5), settings=["net.name=compact"], budget=None)
    before.save(tmp_path / "plan.json")

    def rates(steps, *more):
        words = [f"train.init={tmp_path}", f"train.steps={steps}", *more]
        made = plan(dataset(), facts=facts([(28, 28)] * 5), settings=words, budget=None)
        assert all(why for _, why in made.leaves().values())
        return made.train.learning_rate / before.train.learning_rate, made.train.layer_decay

    assert rates(40) == rates(250) == (1, 1)
    assert rates(500) == (pytest.approx(1 / 2), pytest.approx(0.8**0.5))
    assert rates(1000) == rates(9000) == (1 / 4, 0.8)
    assert rates(100, "train.layer_decay=0.7") == (1, 0.7)
    assert caution(0) == 0


def test_a_method_with_its_own_network_says_which_runs_it_begins_from(tmp_path):
    seen = facts([(12, 8)] * 9)
    trunk = ("train.method=simclr", 'train.arguments={"trunk": {"channels": [4, 6]}}', "patch.batch=4")
    plan(aimed(dataset(), "pretrain"), facts=seen, settings=trunk, budget=None).save(tmp_path / "plan.json")
    with pytest.raises(UsageError, match=r"compact by simclr; reverse_distillation .* padim, patchcore, .*autoencoder_kl"):
        words = ("train.method=reverse_distillation", f"train.init={tmp_path}")
        plan(aimed(dataset(), "anomaly", normal=("c0",)), facts=seen, settings=words, budget=None)


@pytest.mark.parametrize("method", ["patchcore", "padim"])
def test_what_finds_anomalies_looks_with_the_network_of_a_run(tmp_path, method):
    seen, strange = facts([(12, 8)] * 9), aimed(dataset(), "anomaly", normal=("c0",))
    trunk = ("train.method=simclr", 'train.arguments={"trunk": {"channels": [4, 6]}}', "patch.batch=4")
    before = plan(aimed(dataset(), "pretrain"), facts=seen, settings=trunk, budget=None)
    before.save(tmp_path / "plan.json")
    learned = built("simclr", (1, 12, 8), before.train.arguments, learning_rate=0.1, weight_decay=0.0, seed=3)
    save_weights(tmp_path / "weights.safetensors", dict(learned.net.state_dict()))
    more = 'train.arguments={"shrinkage": 0.1}' if method == "padim" else "patch.batch=2"
    words = (f"train.method={method}", f"train.init={tmp_path}", more)
    made = plan(strange, facts=seen, settings=words, budget="1m")
    assert made.train.arguments["widths"]["name"] == "compact" and made.train.arguments["widths"]["channels"] == [4, 6]
    assert made.train.arguments.get("shrinkage", 0.1) == 0.1 and (made.train.steps, made.train.seconds) == (1, None)
    assert made.preparation.normalise == before.preparation.normalise and made.patch.size == before.patch.size
    looking = built(method, (1, 12, 8), made.train.arguments, learning_rate=0.1, weight_decay=0.0, seed=0)
    assert "100.0% of the weights are taken" in begin(looking.net, tmp_path)
    for name, value in looking.net.coder.state_dict().items():
        assert torch.equal(value, learned.net.state_dict()[name])
    with pytest.raises(UsageError, match="has no weights for it"):
        plan(strange, facts=seen, settings=(words[0], 'train.arguments={"widths": {"name": "compact"}}'), budget=None)


@pytest.mark.parametrize("method", ["dbn", "stacked_autoencoder"])
def test_layers_learned_one_upon_the_other_become_a_perceptron(tmp_path, monkeypatch, method):
    monkeypatch.setattr(whole, "measure", lambda net, shape, *, where, kind: Measured(1e-3, 1e-3, 1 << 20, 1))
    monkeypatch.setattr(whole, "precision", lambda where: ("fp32", "as the tests say"))
    words = (f"train.method={method}", 'train.arguments={"hidden": [6, 4], "greedy": 2}', "patch.batch=4")
    before = plan(aimed(dataset(), "pretrain"), facts=facts([(12, 8)] * 9), settings=words, budget=None)
    before.save(tmp_path / "plan.json")
    learned = built(method, (1, 12, 8), before.train.arguments, learning_rate=0.1, weight_decay=0.0, seed=3)
    with torch.no_grad():
        for weight in learned.net.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    save_weights(tmp_path / "weights.safetensors", dict(learned.net.state_dict()))
    made = plan(dataset(), facts=facts([(24, 16)] * 9), settings=[f"train.init={tmp_path}"])
    assert made.net.name == "perceptron" and made.net.arguments == {"sides": [12, 8], "units": [6, 4]} and made.patch.size == (12, 8)
    assert made.preparation.normalise == before.preparation.normalise and made.train.layer_decay == 0.8
    net = build(made.net, 1, 2)
    assert "2 of 3 layers" in begin(net, tmp_path)
    image = torch.rand(5, 1, 12, 8)
    torch.testing.assert_close(net.trunk(image).flatten(1), learned.encoder()(image))
    with pytest.raises(UsageError, match="dbn, stacked_autoencoder"):
        plan(tiny_dataset(), facts=volumes(), budget="10s", settings=[f"train.init={tmp_path}"])


def test_a_run_of_masks_is_begun_from_too(tmp_path, monkeypatch):
    from tests.unit.engine import tiny

    before = tiny_plan()
    before.save(tmp_path / "plan.json")
    made = plan(tiny_dataset(), facts=tiny.facts(), budget="10s", settings=[f"train.init={tmp_path}"])
    assert made.net.channels == (4, 8) and made.net.strides == before.net.strides and made.patch.size == (8, 8, 8)
