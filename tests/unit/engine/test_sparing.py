"""How far tiles overlap is asked of validation cases: as little as they bear, kept in the plan with its reason, never against a user."""

import numpy as np
import pytest

from tests.unit.engine.tiny import Threshold, answering, plan_of, stored, tiny_dataset, tiny_plan, write_run
from vesalius.engine import sparing
from vesalius.engine.run import Run
from vesalius.engine.sparing import HALF, borne, free, settle_overlap, tiles_of, with_overlap
from vesalius.plan import Plan


def silent(*_):
    """Nobody listens."""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of tiles of 8 whose network answers voxel by voxel, and its validation cases: cubes of 15, three tiles a side or two."""
    made = answering(write_run(tmp_path, tiny_dataset(), tiny_plan()), monkeypatch, [Threshold()])
    return made, {case.name: case for case in stored(6, side=15)}


def test_tiles_are_counted_as_they_are_cut():
    plan = tiny_plan()
    counts = [tiles_of(with_overlap(plan, overlap), [(15, 15, 15), (8, 8, 30)]) for overlap in (0.5, 0.25, 0.125)]
    assert counts == [3**3 + 7, 3**3 + 5, 2**3 + 5]


def test_fewer_tiles_are_borne_where_the_mean_does_not_lose_and_is_known_well_enough():
    truth = np.full(9, 0.8)
    assert borne(truth, truth) and borne(truth + 0.1, truth)
    assert borne(truth - 0.0009, truth) and not borne(truth - 0.0011, truth)
    swing = np.array([-1, 0, 1] * 3)  # its standard error is sqrt(6 / 8) / 3: .00866 times that is .0025
    assert borne(truth + 0.0086 * swing, truth) and not borne(truth + 0.0087 * swing, truth)
    assert not borne(truth[:1], truth[:1]), "one case says nothing"


def test_a_network_that_sees_voxels_one_by_one_needs_the_fewest_tiles(run):
    """Its answer is the same however a scan is cut."""
    made, cases = run
    why = settle_overlap(made, cases, tick=silent)
    assert made.plan.predict.overlap == 0.125 and made.plan.reasons["predict.overlap"] == why
    assert "a case at worst +0.0000, 0.30 of the tiles" in why, "8 of 27"
    assert Run(made.path).plan == made.plan, "it is in the file"


@pytest.mark.parametrize(("losses", "found"), [({0.125: 0.01, 0.25: 0.0}, 0.25), ({0.125: 0.01, 0.25: 0.002}, HALF), ({}, 0.125)])
def test_the_fewest_tiles_that_are_borne_are_taken(run, monkeypatch, losses, found):
    """Cubes of 22 are cut into another number of tiles by each."""
    made, _ = run
    cases = {case.name: case for case in stored(6, side=22)}
    monkeypatch.setattr(sparing, "scores", lambda run, asked, overlap, *, tick: np.full(len(asked), 0.9 - losses.get(overlap, 0)))
    counts = [tiles_of(with_overlap(made.plan, overlap), [(22, 22, 22)]) for overlap in (0.125, 0.25, 0.5)]
    assert counts == [3**3, 4**3, 5**3]
    why = settle_overlap(made, cases, tick=silent)
    assert made.plan.predict.overlap == found and why.startswith(sparing.FEWER if found < HALF else sparing.AS_PLANNED)
    assert f"{0.9 - losses.get(0.125, 0):.4f}" in why


def test_what_a_user_has_set_is_left_alone_and_what_was_set_here_is_asked_again(run, monkeypatch):
    made, cases = run
    for settings in (["predict.overlap=0.25"], ["predict.overlap=0.5"]):
        made.replan(tiny_plan(settings))
        assert not settle_overlap(made, cases, tick=silent) and not free(made.plan)
    assert not free(tiny_plan().because(predict__overlap="mine").model_copy(update={"predict": tiny_plan(["predict.overlap=0.1"]).predict}))
    made.replan(tiny_plan())
    first = settle_overlap(made, cases, tick=silent)
    assert settle_overlap(made, cases, tick=silent) == first, "a run that was killed in the middle says the same again"
    monkeypatch.setattr(sparing, "borne", lambda scored, truth: False)
    assert settle_overlap(made, cases, tick=silent).startswith(sparing.AS_PLANNED) and made.plan.predict.overlap == HALF


def test_nothing_is_asked_of_scans_of_one_tile_or_of_two_cases(run):
    made, cases = run
    assert not settle_overlap(made, {name: case for name, case in list(cases.items())[:2]}, tick=silent)
    assert not settle_overlap(made, {case.name: case for case in stored(6, side=8)}, tick=silent)
    assert made.plan.values() == tiny_plan().values(), "the plan is as it was"


def test_planning_leaves_it_open():
    made = plan_of()
    assert isinstance(made, Plan) and made.predict.overlap == HALF and free(made)
