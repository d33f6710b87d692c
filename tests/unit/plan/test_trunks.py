"""The trunk that learns without labels is planned as the network that will learn with them, and views keep to what occurs."""

import pytest

from tests.unit.engine.tiny import LABELS, tiny_dataset
from tests.unit.engine.tiny import facts as volumes
from tests.unit.plan.test_whole_plan import dataset, facts
from vesalius.core.errors import UsageError
from vesalius.data.labels import Labels
from vesalius.nets import NETS
from vesalius.plan import images, plan, trunks, whole
from vesalius.plan.budget import Measured
from vesalius.plan.methods import built
from vesalius.plan.search import build
from vesalius.tasks import aimed


def made(method, size, *, data=None, looked_at=None, **given):
    looked_at = looked_at or facts([size] * 4)
    return trunks.arguments(method, given, dataset=data or dataset(), facts=looked_at, size=size)


@pytest.mark.parametrize(("method", "name"), [("simclr", "compact"), ("simmim", "compact"), ("mae", "vit"), ("models_genesis", "unet")])
def test_the_network_suits_the_method(method, name):
    words = made(method, (28, 28))
    assert words["trunk"]["name"] == name
    assert built(method, (1, 28, 28), words).eval() is not None


def test_where_voxels_are_labelled_an_encoder_learns():
    words = made("simclr", (24, 24, 24), data=tiny_dataset(), looked_at=volumes())
    assert words["trunk"]["name"] == "unet" and LABELS.names == tiny_dataset().labels.names
    nothing = tiny_dataset()
    nothing = type(nothing)(**{**vars(nothing), "labels": Labels(names=(), values=())})
    assert made("simclr", (24, 24, 24), data=nothing, looked_at=volumes())["trunk"]["name"] == "compact"


def test_a_compact_trunk_is_the_classifier_that_would_be_planned(monkeypatch):
    monkeypatch.setattr(whole, "measure", lambda net, shape, *, where, kind: Measured(1e-3, 1e-3, 1 << 20, 1))
    monkeypatch.setattr(whole, "precision", lambda where: ("fp32", "as the tests say"))
    later = plan(dataset(), facts=facts([(28, 28)] * 5)).net
    trunk = trunks.net(made("simclr", (28, 28)), 2)
    assert trunk == later


@pytest.mark.parametrize("size", [(28, 28), (64, 48), (24, 40, 40), (8, 64, 64)])
def test_a_unet_takes_the_whole_grid(size):
    words = trunks.unet(size)
    total = [1] * len(size)
    for step in words["strides"]:
        total = [t * s for t, s in zip(total, step, strict=True)]
    assert all(side % t == 0 and side // t >= trunks.COARSEST for side, t in zip(size, total, strict=True))
    assert max(side // t for side, t in zip(size, total, strict=True)) < 2 * trunks.COARSEST or len(words["strides"]) == 6 or any(
        (side // t) % 2 for side, t in zip(size, total, strict=True))  # fmt: skip
    net = trunks.net({"trunk": {"name": "unet", **words}}, len(size))
    assert build(net, 1, 2).pooling == tuple(total)


@pytest.mark.parametrize("size", [(28, 28), (100, 64), (24, 20, 16)])
def test_patches_divide_the_grid(size):
    patch = trunks.dividing(size)
    assert all(side % p == 0 and p >= 4 for side, p in zip(size, patch, strict=True))


def test_what_the_user_says_stands():
    words = made("simclr", (28, 28), trunk={"name": "resnet", "depth": 34}, views={"rotation": 3})
    assert words["trunk"]["depth"] == 34 and words["trunk"]["stem"] == "small" and words["views"]["rotation"] == 3
    assert NETS.card(words["trunk"]["name"]).name == "resnet"


def test_views_mirror_only_what_may_be_mirrored_and_spare_hounsfield_units():
    assert made("simclr", (28, 28))["views"]["mirror"] == [False, False]
    cells = type(dataset())(**{**vars(dataset()), "modality": "blood cell microscopy"})
    free = made("simclr", (28, 28), data=cells)["views"]
    assert free["mirror"] == [True, True] and free["rotation"] == 180
    assert "colour" not in made("simclr", (28, 28))["views"]
    assert made("simclr", (28, 28), looked_at={**facts([(28, 28)] * 4), "channels": {"image": 3}})["views"]["colour"] > 0
    looked_at = volumes()
    tissue = {**looked_at["intensities"]["image"], "low": -1000.0, "high": 400.0, "minimum": -1024.0, "whole": 1.0, "near_water": 0.3}
    scanned = made("simclr", (24, 24, 24), looked_at={**looked_at, "intensities": {"image": tissue}})["views"]
    assert scanned["contrast"] == made("simclr", (24, 24, 24), looked_at=looked_at)["views"]["contrast"] / 2


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(images, "measured", lambda method, batch, kind="fp32": Measured(1e-3, 1e-3, 1 << 20, 1))


def test_the_plan_names_the_trunk_and_reasons_for_everything(quick):
    data = aimed(dataset(), "pretrain", method="vicreg")
    found = plan(data, facts=facts([(28, 28)] * 5), settings=["train.method=vicreg", "net.name=mobilenet", 'net.arguments={"scale": 0.25}'])
    assert found.net.name == "mobilenet" and found.net.arguments["scale"] == 0.25
    assert found.train.arguments["trunk"] == {"name": "mobilenet", **found.net.arguments}
    assert all(rule.kind != "unit" for rule in found.preparation.normalise) and all(why for _, why in found.leaves().values())


def test_a_run_with_labels_begins_with_the_trunk_on_its_grid(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(whole, "measure", lambda net, shape, *, where, kind: Measured(1e-3, 1e-3, 1 << 20, 1))
    monkeypatch.setattr(whole, "precision", lambda where: ("fp32", "as the tests say"))
    before = plan(aimed(dataset(), "pretrain"), facts=facts([(28, 28)] * 5), settings=["train.method=mae"])
    before.save(tmp_path / "plan.json")
    after = plan(dataset(), facts=facts([(40, 40)] * 5), settings=[f"train.init={tmp_path}"])
    assert after.net == before.net and after.patch.size == before.patch.size == (28, 28)


def test_the_grid_of_whole_images_is_no_patch(quick, tmp_path):
    before = plan(aimed(tiny_dataset(), "pretrain"), facts=volumes(), settings=["train.method=models_genesis", "patch.size=[16,16,16]"])
    before.save(tmp_path / "plan.json")
    after = plan(tiny_dataset(), facts=volumes(), budget="10s", settings=[f"train.init={tmp_path}", "patch.size=[8,8,8]", "patch.batch=2"])
    assert after.net.channels == before.net.channels and after.net.strides == before.net.strides
    assert after.patch.size == (8, 8, 8) and after.preparation.spacing != before.preparation.spacing


def test_a_trunk_of_other_depth_than_would_be_planned_is_taken_whole(quick, tmp_path):
    trunk = 'train.arguments={"trunk": {"channels": [4, 4, 8, 8], "strides": [1, 2, 2, 2]}}'
    words = ["train.method=simclr", trunk, "patch.size=[16,16,16]"]
    plan(aimed(tiny_dataset(), "pretrain"), facts=volumes(), settings=words).save(tmp_path / "plan.json")
    words = [f"train.init={tmp_path}", "patch.size=[16,16,16]", "patch.batch=2"]
    after = plan(tiny_dataset(), facts=volumes(), budget="10s", settings=words)
    assert after.net.channels == (4, 4, 8, 8) and after.net.kernels == ((3, 3, 3),) * 4 and len(after.net.strides) == 4


def test_a_network_for_masks_is_no_beginning_where_whole_images_are_classified(quick, tmp_path):
    plan(aimed(dataset(), "pretrain"), facts=facts([(32, 32)] * 5), settings=["train.method=models_genesis"]).save(tmp_path / "plan.json")
    with pytest.raises(UsageError, match=r"unet by models_genesis; no run that classifies whole images .* for instance compact"):
        plan(dataset(), facts=facts([(32, 32)] * 5), settings=[f"train.init={tmp_path}"])
    plan(aimed(tiny_dataset(), "pretrain"), facts=volumes(), settings=["train.method=mae"]).save(tmp_path / "plan.json")
    with pytest.raises(UsageError, match=r"vit by mae; no run that answers every voxel .* unet"):
        plan(tiny_dataset(), facts=volumes(), budget="10s", settings=[f"train.init={tmp_path}"])


def test_a_method_with_a_network_of_its_own_is_no_beginning(quick, tmp_path):
    plan(aimed(dataset(), "pretrain"), facts=facts([(28, 28)] * 5), settings=["train.method=rbm"]).save(tmp_path / "plan.json")
    with pytest.raises(UsageError, match="features are there for probes"):
        plan(dataset(), facts=facts([(28, 28)] * 5), settings=[f"train.init={tmp_path}"])
