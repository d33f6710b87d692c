"""How many folds there are where nobody says."""

from dataclasses import replace

import pytest

from tests.unit.engine.tiny import facts, plan_of, tiny_dataset
from vesalius.data.case import Case
from vesalius.plan import Request, rules
from vesalius.plan import plan as make_plan
from vesalius.plan.folding import FEW, FEWEST, FOLDS, by_patients, decided


def people(number, *, scans=1, test=0):
    """A data set of `number` patients to learn from, with so many scans each, and `test` patients to test on (0: no split is given)."""
    data = tiny_dataset()
    one = data.cases[0]

    def of(patient, split):
        return [replace(one, name=f"{patient}_{k}", patient=patient, split=split) for k in range(scans)]

    cases: list[Case] = []
    for k in range(number):
        cases += of(f"p{k}", "train" if test else "")
    for k in range(test):
        cases += of(f"t{k}", "test")
    return data.with_cases(tuple(cases))


@pytest.mark.parametrize(("patients", "budget", "folds"), [
    (FEWEST, "20m", FOLDS), (FEW, "20m", FOLDS), (FEW + 1, "20m", 1), (FEWEST - 1, "20m", 1), (11, "10m", FOLDS), (11, "9m", 1),
    (11, None, 1),
])  # fmt: skip
def test_few_patients_and_time_enough_make_folds(patients, budget, folds):
    for scans in (1, 3):
        number, why = by_patients(Request(budget=budget), people(patients, scans=scans, test=4))
        assert number == folds and (str(patients) in why or budget is None)


def test_patients_that_will_be_for_testing_do_not_count():
    assert by_patients(Request(), people(22))[0] == FOLDS, "22 patients without a split leave 18"
    assert by_patients(Request(), people(24))[0] == 1


def test_what_is_asked_for_holds():
    assert decided(Request(folds=1), people(11, test=4)).folds == 1
    assert decided(Request(folds=3), people(40, test=4)).folds == 3


def test_folds_that_the_data_set_states_are_taken_where_there_are_any_at_all():
    stated = [{"train": [], "val": []}] * 5
    few, many = (replace(people(number, test=4), metadata={"folds": stated}) for number in (11, 40))
    assert by_patients(Request(), few)[0] == 5 and by_patients(Request(), many)[0] == 1
    assert by_patients(Request(), replace(few, metadata={"folds": stated[:1]}))[0] == FOLDS


def test_a_plan_that_is_given_has_its_folds(tmp_path):
    plan_of().model_copy(update={"folds": 3}).save(tmp_path / "plan.json")
    assert decided(Request(), people(11, test=4), plan_file=tmp_path / "plan.json").folds == 3


def test_the_plan_says_why_and_shares_the_budget():
    made = make_plan(people(11, test=4), facts=facts(), budget="20m")
    whole = make_plan(people(11, test=4), facts=facts(), budget="20m", folds=1)
    assert made.folds == FOLDS and "11 patients" in made.reasons["folds"] and whole.reasons["folds"] == "as asked for"
    assert made.train.seconds * made.net.networks * FOLDS == pytest.approx(whole.train.seconds * whole.net.networks)


def test_members_of_one_split_take_the_place_of_folds():
    assert by_patients(Request(members=3), people(11, test=4))[0] == 1


def test_folds_that_the_data_set_states_are_kept():
    data = people(11, test=4)
    stated = replace(data, metadata={**data.metadata, "folds": [{}] * 5})
    assert by_patients(Request(), stated)[0] == 5


def test_a_network_from_nothing_learns_beside_the_other_sooner_in_folds():
    """Of 430 steps each it is left out in one run, and belongs to the answer of four folds."""
    assert rules.networks(430, 1)[0] is False and rules.networks(430, 1, folds=4)[0] is True
    assert rules.networks(100, 1, folds=4)[0] is False
