"""Plans for whole cases: grids shaped like the images, balance by counts, no flips of anatomy, a reason for everything."""

from pathlib import Path

import numpy as np
import pytest

from vesalius.core.errors import DataError, UsageError
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.plan import build, plan, whole
from vesalius.plan.budget import Measured
from vesalius.plan.plan import Net, Plan
from vesalius.plan.search import Limits

STATS = {
    **{"mean": 100.0, "std": 20.0, "p0.5": 60.0, "p99.5": 200.0, "low": 60.0, "high": 200.0, "median": 100.0},
    **{"minimum": 50.0, "whole": 1.0, "near_water": 0.0, "below_air": 0.0},
}


def facts(shapes, *, counts=(50, 50), spacing=1.0, physical=False, missing=0):
    """A fingerprint of images of these shapes."""
    shown = [list(shape) for shape in shapes]
    classes = {f"c{k}": {"cases": n, "share": 0.5} for k, n in enumerate(counts)}
    return {"cases": sum(counts), "channels": {"image": 1}, "shapes": shown, "cropped_shapes": shown, "physical": physical,
            "spacings": [[spacing] * len(s) for s in shapes], "cropped": 1.0, "intensities": {"image": STATS},
            "missing": {"image": missing}, "classes": classes}  # fmt: skip


def dataset(modality="X-ray"):
    labels = Labels(names=("c0", "c1"), values=((0,), (1,)), kind="classes")
    cases = tuple(Case(f"x{k}", f"x{k}", {}, classes={f"c{k % 2}": 1}) for k in range(100))
    return Dataset("d", Path("."), "classify", cases, ("image",), labels, modality=modality)


def test_small_images_keep_their_grid_and_large_ones_are_tried_from_fine_to_coarse():
    assert whole.grids(facts([(28, 28)] * 5)) == [(28, 28)]
    assert whole.grids(facts([(512, 512)] * 5)) == [(s, s) for s in (224, 192, 160, 128, 96, 64, 48)]
    assert whole.grids(facts([(100, 50)] * 5)) == [(100, 50), (96, 48), (64, 32), (48, 24)]


def test_pictures_of_one_shape_fill_the_grid_and_of_several_keep_their_proportions():
    assert whole.fit(facts([(100, 50)] * 5)) == "stretch" and whole.fit(facts([(100, 50), (50, 100)] * 5)) == "pad"
    assert whole.grids(facts([(100, 50), (50, 100)] * 5))[-1] == (48, 48)


def test_thick_volumes_are_not_made_finer_than_they_are():
    thick = facts([(200, 200, 10)] * 5, physical=True)
    thick["spacings"] = [[1.0, 1.0, 10.0]] * 5
    assert whole.grids(thick)[0] == (128, 128, 10)
    thick["shapes"] = [[16, 16, 8]] * 5  # small: kept as it is, though it is longest across its few slices
    assert whole.grids(thick) == [(16, 16, 8)]
    thick["shapes"] = [[200, 200, 10]] * 5
    made, _ = whole.preparation_rule(thick, (64, 64, 10))
    assert made.fit == "pad" and made.spacing == pytest.approx((200 / 64, 200 / 64, 10))


@pytest.mark.parametrize(("counts", "balance"), [((50, 50), 0.0), ((30, 80), 0.0), ((10, 90), 0.5)])
def test_rare_classes_are_drawn_more_often(counts, balance):
    assert whole.balance_rule(facts([(28, 28)], counts=counts))[0] == balance


def test_anatomy_is_not_mirrored_and_cells_are():
    for modality, flips in (("X-ray", (False, False)), ("", (False, False)), ("histology", (True, True))):
        made, why = whole.augment_rule(dataset(modality), facts([(28, 28)]), (28, 28))
        assert made.mirror == flips and why["augment__mirror"]


def test_the_finest_grid_that_leaves_time_is_taken(monkeypatch):
    def cost(net, shape, *, where, kind):
        return Measured(1e-6 * float(np.prod(shape)), 1e-3, 1 << 20, 1)

    monkeypatch.setattr(whole, "measure", cost)
    known = facts([(512, 512)] * 5, counts=(2000, 2000))
    ends = {"ends": (1, 2), "net": "compact", "wanted": 40_000}
    assert whole.search(known, Limits(None, None), **ends).size == (224, 224)
    for seconds, size in ((1e-6 * 160**2 * 40_000, 160), (1e-6 * 64**2 * 40_000, 64), (1.0, 48)):
        assert whole.search(known, Limits(1.001 * seconds, None), **ends).size == (size, size)


def test_every_value_has_a_reason_and_the_plan_survives_the_disk(tmp_path):
    made = plan(dataset(), facts=facts([(12, 12)] * 5), budget="1m", settings=['train.loss={"label_smoothing": 0.1}'])
    assert [name for name, (_, why) in made.leaves().items() if not why] == []
    assert made.patch.size == (12, 12) and made.preparation.fit == "stretch" and made.train.loss == {"label_smoothing": 0.1}
    assert made.train.most_seconds > 0 and made.patch.batch == 8
    made.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json").values() == made.values()


def test_a_network_is_given_what_it_takes_and_refuses_what_it_does_not():
    net = Net(name="compact", ndim=2, channels=(4, 6), kernels=((3, 3),) * 2, strides=((1, 1),) * 2, arguments={"dropout": 0.5})
    assert build(net, 1, 2).drop.rate == 0.5
    with pytest.raises(UsageError, match="dropout"):
        build(net.model_copy(update={"arguments": {"dropuot": 0.5}}), 1, 2)


@pytest.mark.parametrize(("loss", "counts", "problem"), [
    ('{"name": "focall"}', (50, 50), UsageError), ('{"gamma": 2}', (50, 50), UsageError), ('{"name": "ldam"}', (100, 0), DataError),
])  # fmt: skip
def test_a_loss_that_cannot_be_made_is_told_before_any_work(loss, counts, problem):
    with pytest.raises(problem):
        plan(dataset(), facts=facts([(12, 12)] * 5, counts=counts), budget="1m", settings=[f"train.loss={loss}"])


def test_mixing_is_off_with_a_reason_that_says_when_to_try_it():
    few, _ = whole.augment_rule(dataset(), facts([(28, 28)] * 5), (28, 28))
    assert few.mixup == few.cutmix == 0
    assert "--set augment.mixup=0.2" in whole.augment_rule(dataset(), facts([(28, 28)] * 5), (28, 28))[1]["augment__mixup"]
    assert "enough" in whole.augment_rule(dataset(), facts([(28, 28)] * 5, counts=(900, 900)), (28, 28))[1]["augment__mixup"]
    made = plan(dataset(), facts=facts([(28, 28)] * 5), budget=None, settings=["augment.mixup=0.2"])
    assert made.augment.mixup == 0.2 and made.reasons["augment.mixup"] == "set by the user"
