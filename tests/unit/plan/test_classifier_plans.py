"""Every classifying network from its plan over a step of learning to answers; what it is given, and what is refused in words."""

import json

import numpy as np
import pytest
import torch

from tests.unit.plan.test_whole_plan import dataset, facts
from vesalius.core.errors import DataError, UsageError
from vesalius.data.batch import Batch
from vesalius.engine.infer import callables
from vesalius.engine.member import method_of
from vesalius.engine.whole import logits
from vesalius.nets import NETS
from vesalius.plan import Plan, classifiers, plan, whole
from vesalius.plan.budget import Measured
from vesalius.plan.classifiers import Own
from vesalius.tasks import TASKS

CLASSIFIERS = TASKS["classify"].nets
SHAPES = {2: (28, 28), 3: (15, 20, 18)}
PLANNED = ("sides", "patch", "slices", "stem")  # what planning finds by itself


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    """Steps cost as much as they have voxels: no clock decides what these tests see."""
    monkeypatch.setattr(whole, "measure", lambda net, shape, *, where, kind: Measured(1e-7 * float(np.prod(shape)), 1e-3, 1 << 20, 1))
    monkeypatch.setattr(whole, "precision", lambda where: ("fp32", "as the tests say"))


def planned(name, ndim, *, budget="10m", **arguments):
    small = {k: v for k, v in ((NETS.card(name).facts or {}).get("small") or {}).items() if k not in PLANNED}
    words = [f"net.name={name}", f"net.arguments={json.dumps({**small, **arguments})}"]
    return plan(dataset(), facts=facts([SHAPES[ndim]] * 5, counts=(20, 20)), budget=budget, settings=words)


def test_the_task_knows_every_classifier_of_the_shelf():
    assert set(CLASSIFIERS) == {name for name, card in NETS.cards.items() if "classify" in card.tasks} and CLASSIFIERS[0] == "compact"


@pytest.mark.parametrize(("name", "ndim"), [(name, ndim) for name in CLASSIFIERS for ndim in NETS.card(name).ndim])
def test_from_the_plan_over_a_step_to_answers(name, ndim, tmp_path):
    made = planned(name, ndim)
    assert [leaf for leaf, (_, why) in made.leaves().items() if not why] == [] and made.net.name == name
    made.save(tmp_path / "plan.json")
    made = Plan.load(tmp_path / "plan.json")
    method = method_of(TASKS["classify"](), made, "cpu")
    images = torch.randn(4, 1, *made.patch.size, generator=torch.Generator().manual_seed(0))
    before = {key: value.clone() for key, value in method.net.named_parameters()}
    optimiser = method.optimisers()["net"]
    method.train()
    for _, losses in method.steps(Batch({"image": images, "target": torch.tensor([[0], [1], [0], [1]])}, {})):
        torch.stack(list(losses.values())).sum().backward()
    optimiser.step()
    assert any(not torch.equal(before[key], value) for key, value in method.net.named_parameters())
    said = logits(callables([method.net], made, "cpu"), images.numpy(), made)
    assert said.shape == (4, 2) and np.isfinite(said).all()


def test_small_images_keep_their_size_through_the_first_layers_and_large_ones_do_not():
    for size, small in (((64, 64), True), ((65, 65), False), ((24, 31, 31), True), ((24, 32, 32), False)):
        assert classifiers.is_small("resnet", size, Own()) is small
    assert classifiers.is_small("transmed", (24, 128, 128), Own())  # four pictures of 64 x 64
    assert not classifiers.is_small("transmed", (24, 128, 128), Own(arguments={"grid": 1}))
    assert classifiers.is_small("slice_lstm", (90, 64, 64), Own()) and not classifiers.is_small("slice_lstm", (9, 96, 96), Own())


def test_pieces_are_no_smaller_than_what_published_first_layers_take():
    for size, pieces in (((24, 224, 224), 2), ((24, 64, 64), 2), ((24, 63, 80), 1), ((9, 22, 22), 1), ((64, 64), 2), ((32, 90), 1)):
        assert classifiers.pieces("transmed", size, Own()) == pieces
        assert classifiers.arguments("transmed", size, Own()).get("grid", 2) == pieces
    assert classifiers.pieces("transmed", (24, 32, 32), Own(arguments={"grid": 3})) == 3
    assert classifiers.pieces("transmed", (24, 32, 32), Own(begun=True)) == 2 and classifiers.pieces("resnet", (32, 32), Own()) == 1


def test_slices_are_taken_along_the_thick_axis_by_networks_that_look_at_slices():
    thick, even = [[1.5, 1.5, 10.0]] * 3, [[1.0, 1.1, 1.2]] * 3
    assert classifiers.lead("transmed", thick)[0] == classifiers.lead("slice_lstm", thick)[0] == 2
    for name, spacings in (("resnet", thick), ("transmed", even), ("transmed", [[1.0, 9.0]]), ("feature_fusion", thick)):
        assert classifiers.lead(name, spacings)[0] == 0
    known = {**facts([(80, 72, 9)] * 5, counts=(20, 20), physical=True), "spacings": thick + thick[:2]}
    made = plan(dataset(), facts=known, budget="10m", settings=["net.name=transmed", 'net.arguments={"size": "T", "scale": 0.125}'])
    assert made.preparation.lead == 2 and made.patch.size[0] == made.net.arguments["slices"] == 9
    assert made.preparation.spacing[0] == pytest.approx(10) and "along axis 2" in made.reasons["preparation.lead"]


def test_where_time_is_short_the_first_layers_shrink_the_image_at_once(monkeypatch):
    def cost(net, shape, *, where, kind):
        return Measured(1.0 if any(m.stride == (1, 1) and m.kernel_size == (3, 3) and m.in_channels == 3 for m in net.modules()
                                   if isinstance(m, torch.nn.Conv2d)) else 0.01, 1e-3, 1 << 20, 1)  # fmt: skip

    monkeypatch.setattr(whole, "measure", cost)
    known = facts([(24, 40, 40)] * 5, counts=(100, 100))
    for budget, stem in (("1m", None), ("10h", "small")):
        made = plan(dataset(), facts=known, budget=budget, settings=["net.name=transmed"])
        assert made.net.arguments.get("stem") == stem
    own = plan(dataset(), facts=known, budget="1m", settings=["net.name=transmed", 'net.arguments={"stem": "small"}'])
    assert own.net.arguments["stem"] == "small" and own.net.arguments["scale"] == 0.25


@pytest.mark.parametrize(("size", "grid", "patch"), [((28, 28), (28, 28), (4, 4)), ((97, 65), (104, 72), (8, 8)),
                                                    ((224, 224), (224, 224), (16, 16)), ((5, 70, 70), (5, 72, 72), (5, 8, 8))])  # fmt: skip
def test_a_vision_transformer_gets_a_grid_of_whole_patches(size, grid, patch):
    assert classifiers.accepted("vit", size, Own()) == grid
    given = classifiers.arguments("vit", grid, Own())
    assert (tuple(given["sides"]), tuple(given["patch"])) == (grid, patch)
    assert classifiers.accepted("resnet", size, Own()) == size


def test_widths_are_halved_where_time_is_short_and_only_there(monkeypatch):
    def cost(net, shape, *, where, kind):
        return Measured(1e-3 * sum(p.numel() for p in net.parameters()) / 1.9e6, 1e-3, 1 << 20, 1)

    monkeypatch.setattr(whole, "measure", cost)
    known = facts([(28, 28)] * 5, counts=(20, 20))
    samples = whole.samples_wanted(40)
    for budget, scale in ((samples / 4 * 3e-3, None), (samples / 4 * 0.8e-3, 0.5), (samples / 4 * 1e-6, 0.25)):
        made = plan(dataset(), facts=known, budget=budget, settings=["net.name=mobilenet"])
        assert made.net.arguments.get("scale") == scale and made.net.arguments["stem"] == "small"
    own = plan(dataset(), facts=known, budget=0.01, settings=["net.name=mobilenet", 'net.arguments={"scale": 0.7}'])
    assert own.net.arguments["scale"] == 0.7


def test_what_the_user_says_of_a_network_stands_and_a_run_holds_it():
    made = planned("resnet", 2, depth=34)
    assert made.net.arguments["depth"] == 34 and made.reasons["net.name"] == "set by the user"
    assert made.holds('net.arguments={"depth": 34}') and not made.holds('net.arguments={"depth": 18}')
    assert made.holds("net.name=resnet") and not made.holds("net.name=vgg")
    assert planned("vit", 2).train.learning_rate < made.train.learning_rate


def test_networks_that_cannot_take_the_images_are_refused_in_words(monkeypatch):
    known = facts([(28, 28)] * 5)
    with pytest.raises(UsageError, match=r"3 axes; these have 2.*net.name=compact"):
        plan(dataset(), facts=known, settings=["net.name=slice_lstm"])
    with pytest.raises(UsageError, match=r"Unknown network.*resnet"):
        plan(dataset(), facts=known, settings=["net.name=resent"])
    with pytest.raises(UsageError, match="Unknown network"):
        plan(dataset(), facts=known, settings=["net.name=unet"])
    with pytest.raises(UsageError, match="2 axes"):
        plan(dataset(), facts=known, settings=["patch.size=[28,28,28]"])
    monkeypatch.setattr(whole, "measure", lambda net, shape, *, where, kind: net(torch.zeros(shape)))
    with pytest.raises(DataError, match=r"alexnet does not take.*\[8, 8\].*at least 15.*patch.size"):
        plan(dataset(), facts=known, settings=["net.name=alexnet", 'net.arguments={"scale": 0.1, "hidden": 8}', "patch.size=[8,8]"])
    with pytest.raises(UsageError, match="depht"):
        plan(dataset(), facts=known, settings=["net.name=resnet", 'net.arguments={"depht": 18}'])
