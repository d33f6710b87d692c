"""Plans where images alone are learned from: grids, intensities from 0 to 1, methods built from the words of a plan, wrong words told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.plan.test_whole_plan import dataset, facts
from vesalius.core.errors import UsageError
from vesalius.data.normalise import Normalise, unit
from vesalius.plan import images, plan
from vesalius.plan.budget import Measured
from vesalius.plan.methods import built, rates, takes
from vesalius.plan.plan import Plan
from vesalius.plan.search import Limits
from vesalius.tasks import aimed

TINY = ("train.method=vae", 'train.arguments={"code": 4, "widths": [4]}', "patch.batch=4")


def planned(task="pretrain", *, settings=TINY, **more):
    return plan(aimed(dataset(), task), facts=facts([(12, 10)] * 9), settings=settings, **{"budget": None, **more})


def test_grids_are_multiples_of_four_and_none_is_finer_than_the_images():
    assert images.grids(facts([(28, 28)] * 5)) == [(28, 28)]
    assert images.grids(facts([(512, 256)] * 5)) == [(128, 64), (96, 48), (64, 32), (48, 24), (32, 16)]
    shapes = images.grids(facts([(35, 51, 35)] * 5))
    assert shapes[0] == (36, 52, 36) and all(side % 4 == 0 for size in shapes for side in size)


def test_every_value_has_a_reason_and_survives_the_file(tmp_path):
    made = planned()
    made.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json").values() == made.values()
    assert [name for name, (_, why) in made.leaves().items() if not why] == []
    assert made.train.method == "vae" and made.patch.size == (12, 12) and made.net.name == "own" and made.patch.batch == 4
    assert (made.train.learning_rate, made.train.weight_decay) == rates("vae") == (1e-3, 1e-4)
    assert {rule.kind for rule in made.preparation.normalise} == {"unit"}


def test_gaussian_pixels_are_standardised():
    made = planned(settings=("train.method=rbm", 'train.arguments={"hidden": 4, "visible": "gaussian"}', "patch.batch=4"))
    assert {rule.kind for rule in made.preparation.normalise} == {"zscore"}


def test_makers_are_told_the_bounds_and_the_number_of_classes():
    small = 'train.arguments={"design": {"latent": 3, "widths": [4]}}'
    made = planned("generate", settings=("train.method=conditional_gan", small, "patch.batch=4"))
    design = {"bounds": [0.0, 1.0], "latent": 3, "widths": [4], "views": {"horizon": images.HORIZON}}
    assert made.train.arguments == {"design": design, "classes": 2}
    method = built("conditional_gan", (1, 8, 8), made.train.arguments, learning_rate=1e-3, weight_decay=0.0, seed=0)
    assert method.design.bounds == (0.0, 1.0) and method.design.widths == (4,) and method.classes == 2
    assert made.holds(small) and not made.holds('train.arguments={"design": {"latent": 4}}')
    bare = replace(dataset(), labels=replace(dataset().labels, kind="findings"))
    with pytest.raises(UsageError, match="images with classes"):
        plan(aimed(bare, "generate"), facts=facts([(12, 10)] * 9), settings=("train.method=conditional_gan",), budget=None)


@pytest.mark.parametrize(
    ("task", "setting", "words"),
    [("pretrain", "train.method=vea", "Did you mean"), ("anomaly", "train.method=dcgan", "method for this task"),
     ("pretrain", 'train.arguments={"cod": 3}', "Did you mean code"), ("pretrain", 'train.arguments={"code": "many"}', "train.arguments"),
     ("pretrain", 'train.rules={"quantile": 0.9}', "train.rules"), ("pretrain", 'train.loss={"gamma": 2}', "train.loss")],
)  # fmt: skip
def test_wrong_words_are_told(task, setting, words):
    with pytest.raises(UsageError, match=words):
        data = aimed(replace(dataset(), labels=replace(dataset().labels, names=("normal", "ill"))), task)
        plan(data, facts=facts([(12, 10)] * 9), settings=(*(TINY[:1] if "arguments" in setting else TINY), setting), budget=None)


def test_labels_are_not_learned_by_a_method_without_them():
    with pytest.raises(UsageError, match="--task anomaly"):
        plan(dataset(), facts=facts([(12, 10)] * 9), settings=("train.method=vae", "patch.size=[12, 12]"), budget="20s")


def test_some_methods_take_larger_batches():
    sizes = {name: images.timed((28, 28), 3000, Limits(None, None), build=build(name), own=images.Own(name, {}, (28, 28), 0)).batch
             for name in ("rbm", "sparse_autoencoder")}  # fmt: skip
    assert sizes == {"rbm": 256, "sparse_autoencoder": 128}


def test_bf16_is_for_methods_that_were_checked_in_it(monkeypatch):
    monkeypatch.setattr(images, "precision", lambda where: ("bf16", "it pays"))
    monkeypatch.setattr(images, "device", lambda: "cpu")
    monkeypatch.setattr(images, "measured", lambda method, batch, kind="fp32": Measured({"fp32": 0.3, "bf16": 0.2}[kind], 0.1, 1000, 10))
    small = 'train.arguments={"hidden": 4}'
    told = {"rbm": ("bf16", "it pays", 0.2), "dbm": ("fp32", "the method was checked in fp32", 0.3)}
    for method, row in told.items():
        made = planned(settings=(f"train.method={method}", small if method == "rbm" else small.replace("4", "[4, 3]"), "patch.batch=4"))
        assert (made.train.precision, made.reasons["train.precision"], made.expected.step_seconds) == row
    assert [images.precise("simclr", {"trunk": {"name": name}})[0] for name in ("resnet", "vit")] == ["bf16", "fp32"]


def build(name):
    return lambda size: (built(name, (1, *size), {}, learning_rate=0.1, weight_decay=0.0, seed=0), {})


def test_it_is_done_once():
    with pytest.raises(UsageError, match=r"--seed .* --init PRETRAINED --folds"):
        planned(folds=3)


def test_every_method_can_be_built_from_a_plan():
    assert set(takes("rbm")) == {"hidden", "visible", "dream", "centred"}
    method = built("rbm", (1, 4, 4), {"hidden": 5, "dream": {"kind": "cd", "sweeps": 2}}, learning_rate=0.1, weight_decay=0.0, seed=1)
    assert method.dream.kind == "cd" and method.dream.sweeps == 2
    with pytest.raises(UsageError, match="dream"):
        built("rbm", (1, 4, 4), {"dream": {"kind": "nightmare"}}, learning_rate=0.1, weight_decay=0.0, seed=1)


def test_the_settings_that_are_left_change_the_promise():
    made = planned(settings=(*TINY, "train.steps=50", 'train.rules={}'))
    assert made.train.steps == made.expected.steps == 50 and made.reasons["train.steps"] == "set by the user"
    assert made.expected.epochs == pytest.approx(50 * 4 / 100)


def test_intensities_come_into_the_unit_interval():
    eight = {"mean": 90.0, "std": 50.0, "p0.5": 3.0, "p99.5": 250.0, "low": 0.0, "high": 240.0, "median": 80.0, "minimum": 0.0,
             "whole": 1.0, "near_water": 0.2, "below_air": 0.0}  # fmt: skip
    assert unit("x", eight)[0] == Normalise(kind="unit", low=0.0, high=255.0)
    assert unit("x", {**eight, "high": 900.0})[0] == Normalise(kind="unit")
    hounsfield = {**eight, "low": -900.0, "minimum": -1000.0, "p0.5": -950.0, "high": 300.0}
    assert unit("x", hounsfield)[0] == Normalise(kind="unit", low=-950.0, high=250.0)
    values = np.linspace(-3, 7, 1001).astype(np.float32)
    own = Normalise(kind="unit").apply(values)
    np.testing.assert_allclose(own, ((values + 2.95) / 9.9).clip(0, 1), atol=1e-5)
    assert Normalise(kind="unit", low=0, high=5).apply(values).max() == 1 == torch.tensor(own).max()
