"""Subsets of labels: nested, alike, by patient; and the statistics over seeds, whose coverage is simulated."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vesalius.audit.rounds import Outcome, compared, interval
from vesalius.audit.subsets import nested
from vesalius.core.errors import DataError, UsageError
from vesalius.data.case import Case
from vesalius.data.labels import Labels

LABELS = Labels(names=("no", "yes"), values=((0,), (1,)), kind="classes")


def pool(patients, *, share=0.3, most=3, seed=0, whole=True):
    """Cases of patients with one to `most` cases each, a share of whom have the finding."""
    random = np.random.default_rng(seed)
    made = []
    for p in range(patients):
        yes = random.random() < share
        for k in range(int(random.integers(1, most + 1))):
            made.append(Case(f"{p}_{k}", f"p{p}", {"image": Path("x")}, classes={"no": int(not yes), "yes": int(yes)} if whole else None))
    return made


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(12, 60), st.floats(0.1, 0.9), st.booleans())
def test_subsets_hold_one_another_and_no_patient_is_on_two_sides(seed, patients, share, whole):
    cases = pool(patients, share=share, seed=seed, whole=whole)
    made = nested(cases, seed=seed)
    before = (set(), set())
    for number in range(10, len(cases) + 1):  # of four patients at least, and one of the first four validates
        train, val = (set(case.name for case in side) for side in made.first(number))
        assert len(train) + len(val) == number
        assert before[0] <= train and before[1] <= val and not train & val
        before = train, val
    sides = made.first(len(cases))
    assert not {case.patient for case in sides[0]} & {case.patient for case in sides[1]}
    assert sorted(case.name for case in made.cases) == sorted(case.name for case in cases)


def test_every_subset_has_the_classes_in_their_proportion():
    cases = pool(400, share=0.25, most=1)
    yes = np.array([case.classes["yes"] for case in nested(cases, seed=1).cases])
    share = np.mean([case.classes["yes"] for case in cases])
    for number in (10, 20, 50, 100, 300):
        assert abs(yes[:number].sum() - number * share) <= 1
    assert set(yes[:2]) == {0, 1}


def test_a_rare_class_is_there_from_the_beginning():
    cases = [*pool(100, share=0, most=1), Case("rare", "rare", {"image": Path("x")}, classes={"no": 0, "yes": 1})]
    assert "rare" in [case.name for case in nested(cases, seed=0).cases[:2]]


def test_another_seed_gives_another_subset_and_the_same_seed_the_same():
    cases = pool(50)
    names = [[case.name for case in nested(order, seed=s).cases] for order, s in ((cases, 0), (cases[::-1], 0), (cases, 1))]
    assert names[0] == names[1] != names[2]


def test_too_few_and_too_many_labels_are_refused():
    made = nested(pool(30, most=1), seed=0)
    with pytest.raises(UsageError, match="too few"):
        made.first(2)
    with pytest.raises(UsageError, match="30 cases beside the test part"):
        made.first(31)


# -- over seeds -----------------------------------------------------------------------------------------------------------


def outcome(scores, patients=None):
    names = tuple(f"c{k}" for k in range(len(scores)))
    return Outcome(names, tuple(patients or names), scores=np.asarray(scores, float))


def test_means_and_paired_gaps_by_hand():
    ours = {0: outcome([1, 2, 3]), 1: outcome([2, 2, 2]), 2: outcome([9, 9, 9])}
    found = compared({"scratch": {0: outcome([0, 1, 2]), 1: outcome([1, 1, 1])}, "ssl": ours}, LABELS, against="scratch")
    assert found["scratch"]["value"] == 1 and found["scratch"]["gap"] is None
    assert found["ssl"]["value"] == (2 + 2 + 9) / 3 and found["ssl"]["seeds"] == {0: 2, 1: 2, 2: 9}
    gap = found["ssl"]["gap"]
    assert gap == pytest.approx({"difference": 1, "low": 1, "high": 1, "seeds": 2})  # of the seeds that both have


def test_answers_are_ranked_by_the_area():
    random = np.random.default_rng(0)
    p, y = random.random(40), np.arange(40) % 2
    names, truth = tuple(map(str, range(40))), y[:, None].astype(np.uint8)
    one = Outcome(names, names, probabilities=np.stack([1 - p, p], 1), truth=truth)
    from sklearn.metrics import roc_auc_score

    assert one.measure(LABELS)(np.arange(40)) == pytest.approx(roc_auc_score(y, p))
    again = Outcome.from_json(one.to_json())
    assert again.measure(LABELS)(np.arange(5, 25)) == pytest.approx(roc_auc_score(y[5:25], p[5:25]))
    assert np.isnan(one.measure(LABELS)(np.array([0, 2])))


def test_other_test_cases_are_refused():
    with pytest.raises(DataError, match="same test cases"):
        compared({"scratch": {0: outcome([0, 1])}, "ssl": {0: outcome([0, 1, 2])}}, LABELS, against="scratch")


def test_the_interval_covers_the_truth_over_seeds_and_patients():
    """Scores are patient + seed + noise; the truth is the mean over all patients and seeds. Eight seeds: 95 % are promised."""
    inside = 0
    for trial in range(150):
        random = np.random.default_rng(trial)
        patients, seeds = random.normal(0, 1, 60), random.normal(0, 0.2, 8)
        scores = patients[:, None] + seeds + random.normal(0, 0.5, (60, 8))
        rows = [np.arange(60), *(random.integers(60, size=60) for _ in range(200))]
        _, low, high = interval(np.stack([scores[some].mean(0) for some in rows]), random)
        inside += low <= 0 <= high
    assert 0.89 <= inside / 150 <= 0.99


def test_seeds_that_differ_widen_the_interval():
    random = np.random.default_rng(0)
    table = 0.7 + random.normal(0, 0.001, (500, 3))
    narrow, wide = (interval(table + shift, random) for shift in (np.zeros(3), np.array([-0.1, 0, 0.1])))
    assert wide[2] - wide[1] > 20 * (narrow[2] - narrow[1])
    assert interval(table[:, :1], random)[1] is not None and interval(table[:1], random)[1:] == (None, None)


def test_proportions_hold_for_several_cases_of_a_patient():
    cases = pool(200, share=0.5, most=4)
    made = Counter(case.classes["yes"] for case in nested(cases, seed=3).cases[:100])
    share = np.mean([case.classes["yes"] for case in cases])
    assert abs(made[1] - 100 * share) <= 4
