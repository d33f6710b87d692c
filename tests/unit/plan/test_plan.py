"""Plans: every value with its reason, kept and read back, changed by hand, and cut to the time and the memory there is."""

import json
from importlib import import_module

import pytest

from tests.unit.engine.tiny import facts, plan_of, tiny_dataset
from vesalius.core.errors import DataError, UsageError, VesaliusError
from vesalius.core.files import read_json
from vesalius.plan import Plan, Request
from vesalius.plan import plan as make_plan
from vesalius.plan.budget import Measured
from vesalius.plan.plan import VERSION
from vesalius.plan.search import BASE_MEMORY, Limits, Scan, build, search, sketch, work


@pytest.fixture
def machine(monkeypatch):
    """A machine on which a step costs time by voxels and the square of the width, and memory by voxels and the width."""
    asked = []

    def measure(net, shape, *, where, kind):
        voxels, width = shape[0], net.down[0][1][0].out_channels
        for side in shape[2:]:
            voxels *= side
        asked.append((width, shape))
        return Measured(step=voxels * width**2 * 1e-6 / 256, tile=0.1, memory=int(voxels * width * 100 / 16), parameters=10)

    for room in ("vesalius.plan", "vesalius.plan.search"):
        monkeypatch.setattr(import_module(room), "measure", measure)
    return asked


@pytest.fixture(scope="module")
def made():
    """Measured on the machine at hand."""
    return make_plan(tiny_dataset(), facts=facts(), budget="2m")


def test_every_leaf_has_a_reason(made):
    silent = [name for name, (_, why) in made.leaves().items() if not why.strip()]
    assert silent == []
    assert set(made.reasons) == set(made.leaves()), "reasons for what is no leaf, or the other way round"


def test_a_plan_survives_its_file_with_its_reasons(made, tmp_path):
    made.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert again == made and again.reasons == made.reasons


def test_the_file_is_value_beside_reason(made, tmp_path):
    made.save(tmp_path / "plan.json")
    tree = read_json(tmp_path / "plan.json")
    assert tree["folds"] == {"value": 1, "reason": "5 patients are too few for folds"}
    assert all(set(pair) == {"value", "reason"} for group in tree.values() if "value" not in group for pair in group.values())


def test_a_plan_may_be_edited_without_reasons(made, tmp_path):
    made.save(tmp_path / "plan.json")
    tree = read_json(tmp_path / "plan.json")
    tree["train"]["learning_rate"], tree["folds"] = 0.5, 3
    (tmp_path / "plan.json").write_text(json.dumps(tree))
    again = Plan.load(tmp_path / "plan.json")
    assert (again.train.learning_rate, again.folds) == (0.5, 3)
    assert again.reasons["train.learning_rate"] == again.reasons["folds"] == "edited by hand"


def test_scans_whose_voxels_have_answers_are_not_mixed():
    with pytest.raises(UsageError, match="mix whole cases"):
        make_plan(tiny_dataset(), facts=facts(), budget="none", settings=["augment.cutmix=1"])


@pytest.mark.parametrize(("edit", "told"), [
    ({"train": {"rate": {"value": 1, "reason": ""}}}, "train.rate"),
    ({"patch": {"batch": {"value": "many", "reason": ""}}}, "patch.batch"),
    ({"paint": {"colour": {"value": 1, "reason": ""}}}, "paint"),
])  # fmt: skip
def test_a_wrong_edit_is_told_by_its_name(made, tmp_path, edit, told):
    made.save(tmp_path / "plan.json")
    tree = read_json(tmp_path / "plan.json")
    for group, leaves in edit.items():
        tree.setdefault(group, {}).update(leaves)
    (tmp_path / "plan.json").write_text(json.dumps(tree))
    with pytest.raises(UsageError, match=told):
        Plan.load(tmp_path / "plan.json")


@pytest.mark.parametrize(("tree", "told"), [
    ({"version": {"value": VERSION + 1, "reason": ""}}, f"version {VERSION + 1}.*Update"),
    ({"train": {}}, "not a plan"), ([1, 2], "not a plan"), ({"version": {"value": "new", "reason": ""}}, "not a plan"),
])  # fmt: skip
def test_what_is_no_plan_or_too_new_is_refused(tmp_path, tree, told):
    (tmp_path / "plan.json").write_text(json.dumps(tree))
    with pytest.raises(VesaliusError, match=told):
        Plan.load(tmp_path / "plan.json")


def test_settings_are_applied_with_their_reason(made):
    changed = made.with_settings(["train.learning_rate=0.5", "patch.size=[8,8,8]", "net.name=residual_unet"])
    assert (changed.train.learning_rate, changed.patch.size, changed.net.name) == (0.5, (8, 8, 8), "residual_unet")
    assert changed.reasons["patch.size"] == "set by the user" and made.reasons["patch.size"] != "set by the user"


@pytest.mark.parametrize(("setting", "told"), [
    ("train.learning_rat=1", "learning_rate"), ("trian.steps=1", "train"), ("train.steps=many", "train.steps"),
    ("train.steps", "NAME=VALUE"), ("patch.size=8", "patch.size"), ("foldz=1", "folds"),
])  # fmt: skip
def test_a_wrong_setting_names_the_right_one(made, setting, told):
    with pytest.raises(UsageError, match=told):
        made.with_settings([setting])


def test_what_the_user_changes_is_measured_again(machine):
    small = ["net.channels=[8,16]", "net.kernels=[[3,3,3],[3,3,3]]", "net.strides=[[1,1,1],[2,2,2]]", "patch.size=[8,8,8]"]
    made, changed = (make_plan(tiny_dataset(), facts=facts(), budget="2m", settings=wish) for wish in ([], small))
    assert changed.expected.step_seconds < made.expected.step_seconds and changed.train.steps > made.train.steps
    assert changed.expected.steps == changed.train.steps


def test_an_unlike_number_of_stages_is_told_when_planning(machine):
    with pytest.raises(UsageError, match="per stage"):
        make_plan(tiny_dataset(), facts=facts(), budget="2m", settings=["net.channels=[8,16]"])


def test_without_a_deadline_the_schedule_counts_steps(machine):
    for budget in (None, "none"):
        made = make_plan(tiny_dataset(), facts=facts(), budget=budget, settings=["train.steps=12"])
        assert made.train.seconds is None and made.expected.budget_seconds is None and made.train.steps == made.expected.steps == 12


def test_deterministic_counts_the_steps_that_the_budget_allows(machine):
    made = make_plan(tiny_dataset(), facts=facts(), budget="2m", deterministic=True)
    assert made.train.seconds is None and made.train.deterministic
    assert made.train.steps == pytest.approx(0.85 * 120 / 2 / made.expected.step_seconds, abs=1.01), "two networks share the time"


def test_the_budget_is_shared_by_the_folds(machine):
    made = plan_of(budget="10m", folds=5)
    assert made.train.best == 0 and "unseen" in made.reasons["train.best"]
    assert made.folds == 5 and made.train.seconds == pytest.approx(0.85 * 600 / 5 / 2) and made.expected.budget_seconds == 600


def test_few_cases_get_a_second_network_that_corrects_the_baseline():
    few = make_plan(tiny_dataset(), facts=facts(), budget="10m")
    many = make_plan(tiny_dataset(), facts=facts(cases=200), budget="10m")
    assert few.net.prior == 1 and many.net.prior == 0
    assert "baseline" in few.reasons["net.prior"] and "200 cases" in many.reasons["net.prior"]
    assert few.train.seconds == pytest.approx(many.train.seconds / 2)
    some = make_plan(tiny_dataset(), facts=facts(cases=20), budget="10m")
    assert some.net.prior == 0 and "20 cases" in some.reasons["net.prior"] and some.train.seconds == many.train.seconds
    short = make_plan(tiny_dataset(), facts=facts(), budget="20s")
    assert short.net.prior == 1 and not short.net.first and short.net.networks == 1, "too short for a network that starts from nothing"
    assert short.train.seconds == pytest.approx(0.85 * 20)
    own = make_plan(tiny_dataset(), facts=facts(), budget="10m", settings=("net.prior=0",))
    assert own.net.prior == 0 and own.train.seconds == pytest.approx(many.train.seconds), "the whole time is the one network's"


def test_a_request_is_checked():
    with pytest.raises(UsageError, match="bugdet"):
        make_plan(tiny_dataset(), facts=facts(), bugdet="2m")
    assert Request(budget="none").budget is None


# -- the search, with a machine of which everything is known ------------------------------------------------------------------


def found(seconds, memory=None):
    return search(Scan((200, 200, 200), (1.0, 1.0, 1.0)), Limits(seconds, memory), ends=(1, 2), net="unet")


def test_with_time_and_memory_the_largest_is_taken(machine):
    chosen = found(None)
    assert chosen.net.channels[0] == 32 and chosen.batch == 4 and chosen.size == (96, 96, 96)
    assert [width for width, _ in machine] == [16, 32], "the least costly is timed first, and nothing after the largest that fits"


def test_less_time_means_a_narrower_network_then_a_smaller_batch_then_a_smaller_patch(machine):
    steps = [3.6 * n for n in (8000, 1100, 400, 100)]
    sizes = [(f.net.channels[0], f.batch, max(f.size)) for f in map(found, steps)]
    assert sizes[0] == (32, 4, 96) and sizes[1] == (16, 4, 96) and sizes[2] == (16, 2, 96) and sizes[3][2] < 96


def test_what_would_take_far_too_long_is_not_timed(machine):
    found(60.0)
    assert max(shape[2] for _, shape in machine) < 96 and all(width == 16 for width, _ in machine)


def test_work_grows_with_voxels_and_the_square_of_the_width():
    small, large, wide = (sketch(Scan((200,) * 3, (1.0,) * 3), of, net="unet") for of in ((16, 64**3), (16, 96**3), (32, 64**3)))
    assert work(large, (1, 2)) == pytest.approx(work(small, (1, 2)) * 1.5**3, rel=0.1)
    assert 3.5 < work(wide, (1, 2)) / work(small, (1, 2)) < 4.1


def test_less_memory_means_a_smaller_batch_then_a_smaller_patch(machine):
    whole = 4 * 96**3 * 100
    order = [found(None, BASE_MEMORY + int(whole * part)) for part in (2.1, 1.1, 0.55, 0.3, 0.14)]
    costs = [chosen.cost.memory for chosen in order]
    assert costs == sorted(costs, reverse=True)
    assert [chosen.batch for chosen in order[:4]] == [4, 4, 2, 1] and max(order[4].size) < 96
    assert all(c <= whole * part for c, part in zip(costs, (2.1, 1.1, 0.55, 0.3, 0.14), strict=True))


def test_planning_itself_keeps_to_the_memory(machine):
    """No candidate is timed that needs more than there is; the memory of this machine goes by voxels and width alone."""
    for part in (1.1, 0.55, 0.3, 0.14):
        machine.clear()
        found(None, BASE_MEMORY + int(4 * 96**3 * 100 * part))
        assert max(shape[0] * shape[2] ** 3 * width * 100 / 16 for width, shape in machine) <= 4 * 96**3 * 100 * part


def test_when_nothing_fits_that_is_said(machine):
    with pytest.raises(DataError, match="--memory"):
        found(None, BASE_MEMORY + 1000)


def test_every_process_gets_a_sample(machine, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert found(3.6 * 300).batch >= 3
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert found(None).batch == 8


def test_the_real_memory_contract_shrinks_the_plan():
    wide = make_plan(tiny_dataset(), facts=facts(), budget=None)
    limit = f"{(wide.expected.memory_bytes - BASE_MEMORY) // 3 + BASE_MEMORY}"
    small = make_plan(tiny_dataset(), facts=facts(), budget=None, memory=limit)
    assert small.expected.memory_bytes <= int(limit) < wide.expected.memory_bytes
    assert small.patch.batch < wide.patch.batch or small.net.channels[0] < wide.net.channels[0]


# -- coarser grids where time is short ----------------------------------------------------------------------------------------

THICK = {"factors": [1.5, 2.0, 3.0, 4.0], "dice": [0.999, 0.995, 0.985, 0.96]}
THIN = {"factors": [1.5, 2.0, 3.0, 4.0], "dice": [0.96, 0.9, 0.7, 0.5]}


def scan(detail, *, cases=50):
    return Scan((200, 200, 200), (1.0, 1.0, 1.0), cases, detail)


def test_a_short_time_is_spent_on_whole_scans_where_masks_are_thick(machine):
    """8 million voxels at 1e-6 s: a hundred passes over 50 scans are 40,000 s."""
    short = search(scan(THICK), Limits(3600.0, None), ends=(1, 2), net="unet")
    assert 2 < short.spacing[0] <= 3 and short.spacing[0] == short.spacing[2] and "Dice" in short.why_spacing
    assert all(side * short.spacing[0] >= 195 for side in short.size), "the whole scan is in the patch"


def test_thin_structures_and_long_times_keep_the_grid(machine):
    for detail, seconds in ((THIN, 3600.0), (None, 3600.0), (THICK, 1e6), (THICK, None)):
        chosen = search(scan(detail), Limits(seconds, None), ends=(1, 2), net="unet")
        assert chosen.spacing == (1.0, 1.0, 1.0) and not chosen.why_spacing


def test_a_thick_axis_keeps_its_spacing(machine):
    thick = Scan((600, 600, 12), (1.0, 1.0, 8.0), 500, THICK)
    chosen = search(thick, Limits(600.0, None), ends=(1, 2), net="unet")
    assert chosen.spacing[0] == chosen.spacing[1] > 1 and chosen.spacing[2] == 8.0


def test_pictures_without_a_size_count_in_pixels(machine):
    chosen = search(Scan((800, 900), (), 500, THICK), Limits(60.0, None), ends=(1, 2), net="unet")
    assert chosen.spacing == (3.0, 3.0)


def test_the_plan_says_so_and_prepares_on_that_grid(machine):
    found = facts(side=120, cases=200) | {"detail": THICK}
    made = make_plan(tiny_dataset(), facts=found, budget="10m")
    assert 1 < made.preparation.spacing[0] <= 3 and "as coarse" in made.reasons["preparation.spacing"]
    assert make_plan(tiny_dataset(), facts=facts(side=120, cases=200), budget="10m").preparation.spacing == (1.0, 1.0, 1.0)


# -- where a network starts ---------------------------------------------------------------------------------------------------


def test_the_network_starts_from_how_rare_each_class_is(made):
    import torch

    assert made.net.bias == pytest.approx((-0.1054, -2.3026), abs=1e-4)  # log .9, log .1
    net = build(made.net.alone(), 1, 2)
    for layer in net.outs:
        assert layer.bias.tolist() == pytest.approx(made.net.bias)
        torch.nn.init.zeros_(layer.weight)
    assert net(torch.zeros(1, 1, *made.patch.size)).softmax(1)[0, 1].mean().item() == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(("text", "said"), [
    ("trian.steps=3", "Unknown setting in the plan 'trian'. Did you mean train"),
    ("train.step=3", "Unknown setting in train 'step'. Did you mean steps"),
    ("net.name=unett", "Did you mean unet"),
    ("train.steps", "Expected NAME=VALUE"),
])  # fmt: skip
def test_a_wrong_name_is_told_before_any_scan_is_looked_at(text, said):
    with pytest.raises(UsageError, match=said):
        Request(settings=(text,))


def test_every_value_of_a_plan_can_be_asked_for(made):
    assert Request(settings=tuple(f"{name}=1" for name in made.leaves() if name != "net.name"))


@pytest.mark.parametrize(("text", "said"), [
    ("patch.size=[8]", r"patch.size has one entry for each of the 3 axes of the images; got \[8\]"),
    ("augment.mirror=[true]", "augment.mirror has one entry for each of the 3 axes"),
    ("patch.size=[0,8,8]", r"patch.size.0: Input should be greater than or equal to 1 \(got 0\)"),
    ("patch.batch=0", r"patch.batch: Input should be greater than or equal to 1 \(got 0\)"),
    ("train.learning_rate=-1", r"train.learning_rate: Input should be greater than 0 \(got -1\)"),
    ("train.steps=-1", "train.steps"), ("patch.foreground=2", "patch.foreground"), ("predict.overlap=1", "predict.overlap"),
])  # fmt: skip
def test_values_that_no_training_can_have_are_refused_by_name(made, text, said):
    with pytest.raises(UsageError, match=said):
        made.with_settings([text])


@pytest.mark.parametrize("wish", [{"folds": 0}, {"seed": -1}, {"budget": "3x"}, {"budget": "0s"}, {"memory": "3X"}])
def test_a_wish_that_cannot_be_is_refused_when_it_is_made(wish):
    with pytest.raises(UsageError):
        Request.checked(wish)
    assert Request.checked({"budget": "none"}).budget is None and Request.checked({"budget": 90.0, "memory": "8G"}).budget == 90
