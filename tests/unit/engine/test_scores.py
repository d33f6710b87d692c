"""Scores: rows per case, the patient bootstrap against theory and its coverage on simulated clusters, groups and JSON."""

import json

import numpy as np
import pytest

from vesalius.core.errors import DataError
from vesalius.core.files import plain
from vesalius.core.space import Space
from vesalius.data.labels import Labels
from vesalius.engine.scores import ALL, STATES, intervals, summarise, summary
from vesalius.tasks.segment.scores import definitions, metric_facts, score_case, score_coded

KEYS = {"case", "patient", "label", "dice", "iou", "sensitivity", "precision", "hd95", "assd", "nsd", "volume", "true_volume",
        "volume_error", "lesion_sensitivity", "lesion_precision", "lesion_f1", "state"}  # fmt: skip
SPACE = Space.of((6, 6), (2.0, 1.0))
LABELS = Labels(names=("a", "b"), values=((1,), (2,)))


def rows_of(*values, label="a", patients=None):
    return [
        {"case": f"c{i}", "patient": patients[i] if patients else f"p{i}", "label": label, "dice": v, "state": "scored"}
        for i, v in enumerate(values)
    ]


def test_a_row_holds_what_the_contract_names():
    mask = np.eye(6, dtype=bool)
    (row,) = score_case(mask[None], mask[None], SPACE, names=["a"], case="c", patient="p")
    assert set(row) >= KEYS and row["dice"] == 1 and row["hd95"] == 0 and row["state"] == "scored" and row["volume"] == 12.0
    json.dumps(row, allow_nan=False)


def test_undefined_is_none_and_states_are_told():
    mask, nothing = np.eye(6, dtype=bool), np.zeros((6, 6), bool)
    rows = score_case(np.stack([nothing, mask, nothing]), np.stack([nothing, nothing, mask]), SPACE, names="abc", case="c", patient="p")
    assert [r["state"] for r in rows] == ["both_empty", "hallucinated", "missed"]
    assert [r["sensitivity"] for r in rows] == [None, None, 0] and [r["precision"] for r in rows] == [None, 0, None]
    assert [r["dice"] for r in rows] == [1, 0, 0] and rows[1]["hd95"] == pytest.approx(np.hypot(12, 6))
    counts = summary(rows)[ALL]["counts"]
    assert counts == {"scored": 0, "both_empty": 1, "missed": 1, "hallucinated": 1} and tuple(counts) == STATES


def test_ignored_voxels_count_for_nothing():
    truth = np.zeros((1, 6, 6), np.uint8)
    truth[0, :3], truth[0, 4:] = 1, 255
    prediction = np.ones_like(truth)
    row, other = score_coded(prediction, truth, SPACE, labels=LABELS, case="c", patient="p")
    assert row["dice"] == 2 * 18 / (18 + 24) and other["state"] == "both_empty"
    regions = Labels(names=("a", "b"), values=((1,), (1, 2)), kind="regions")
    twice = score_coded(np.repeat(prediction, 2, 0), np.repeat(truth, 2, 0), SPACE, labels=regions, case="c", patient="p")
    assert [r["dice"] for r in twice] == [row["dice"]] * 2


def test_coded_and_masks_agree():
    prediction, truth = np.random.default_rng(0).integers(0, 3, (2, 1, 6, 6)).astype(np.uint8)
    words = {"case": "c", "patient": "p", "tolerance": 1.5}
    expected = score_case(LABELS.masks(prediction), LABELS.masks(truth), SPACE, names=LABELS.names, **words)
    assert score_coded(prediction, truth, SPACE, labels=LABELS, **words) == expected


def test_masks_and_names_must_match():
    with pytest.raises(DataError, match="names"):
        score_case(np.zeros((1, 6, 6)), np.zeros((1, 6, 6)), SPACE, names="ab", case="c", patient="p")


def test_summary_means_medians_and_all():
    rows = rows_of(0.2, 0.4, 0.9) + rows_of(0.6, 1.0, None, label="b")
    told = summary(rows)
    assert told["a"]["dice"]["mean"] == pytest.approx(0.5) and told["a"]["dice"]["median"] == 0.4 and told["a"]["dice"]["n"] == 3
    assert told["b"]["dice"]["n"] == 2 and told["b"]["dice"]["mean"] == pytest.approx(0.8)
    assert told[ALL]["dice"]["mean"] == pytest.approx((0.4 + 0.7 + 0.9) / 3)
    assert told["a"]["dice"]["low"] < 0.5 < told["a"]["dice"]["high"]
    nothing = summary([{**row, "hd95": None} for row in rows])
    assert nothing["a"]["hd95"] == {"mean": None, "low": None, "high": None, "median": None, "n": 0}


def test_groups_and_json():
    rows = rows_of(0.2, 0.4, 0.9, 0.8)
    told = summarise(rows, groups={"sex": {"c0": "F", "c1": "M", "c2": "F"}})
    assert told["groups"]["sex"]["F"]["a"]["dice"]["mean"] == pytest.approx(0.55)
    assert told["groups"]["sex"]["M"]["a"]["dice"]["n"] == 1 and told["groups"]["sex"]["M"]["a"]["dice"]["low"] is None
    assert json.loads(json.dumps(plain(told), allow_nan=False)) == plain(told)


def test_no_rows_no_numbers():
    assert summary([]) == {ALL: {"counts": dict.fromkeys(STATES, 0)}}


def test_the_seed_decides():
    rows = rows_of(*np.random.default_rng(0).random(12))
    assert summary(rows, seed=3) == summary(rows, seed=3) != summary(rows, seed=4)


def test_one_patient_has_no_interval_and_equal_values_have_a_point():
    low, high = intervals(np.array([[0.5], [0.7]]), ["p", "p"])
    assert np.isnan(low[0]) and np.isnan(high[0])
    low, high = intervals(np.full((5, 1), 0.3), list("abcde"))
    assert low[0] == pytest.approx(0.3) and high[0] == pytest.approx(0.3)


def test_copies_of_a_case_do_not_narrow_the_interval():
    """Ten cases of each patient carry no more than one: an interval over cases would be three times too narrow."""
    values = np.random.default_rng(1).random((20, 1))
    once = intervals(values, [f"p{i}" for i in range(20)])
    copied = intervals(np.repeat(values, 10, 0), [f"p{i // 10}" for i in range(200)])
    np.testing.assert_allclose(np.ravel(copied), np.ravel(once), atol=1e-12)


def test_a_large_sample_has_the_interval_of_the_normal_law():
    values = np.random.default_rng(0).standard_normal((400, 1))
    low, high = intervals(values, [f"p{i}" for i in range(400)], draws=20000)
    half = 1.966 * values.std(ddof=1) / 20
    expected = [values.mean() - half, values.mean() + half]
    np.testing.assert_allclose([low[0], high[0]], expected, atol=0.05 * half)


def clusters(generator, patients, *, skewed):
    """1 to 4 cases per patient with an intra-class correlation of .5, and the true mean."""
    owner = np.repeat(np.arange(patients), generator.integers(1, 5, patients))
    z = (generator.standard_normal(patients)[owner] + generator.standard_normal(len(owner))) * np.sqrt(0.5)
    return (1 - 0.1 * np.exp(0.8 * z), 1 - 0.1 * np.exp(0.32), owner) if skewed else (z, 0.0, owner)


@pytest.mark.parametrize(("patients", "skewed", "least"), [(40, False, 0.91), (12, False, 0.89), (40, True, 0.885)])
def test_coverage_on_simulated_clusters(patients, skewed, least):
    """About 95 % of the intervals hold the truth; over cases instead of patients they would not (the last line)."""
    generator, repeats, hits, naive = np.random.default_rng(7), 300, 0, 0
    for seed in range(repeats):
        values, truth, owner = clusters(generator, patients, skewed=skewed)
        low, high = intervals(values[:, None], owner.astype(str).tolist(), seed=seed, draws=500)
        hits += bool(low[0] <= truth <= high[0])
        low, high = intervals(values[:, None], [str(i) for i in range(len(values))], seed=seed, draws=200)
        naive += bool(low[0] <= truth <= high[0])
    assert least <= hits / repeats <= 0.985 and naive < hits


def test_every_number_is_defined_in_words():
    told = definitions(tolerance=2.0, unit="mm")
    assert set(told) == set(metric_facts()) >= KEYS - {"case", "patient", "label", "state"}
    assert "tolerance 2 mm" in told["nsd"] and "diagonal" in told["hd95"] and "in mm" in told["assd"]
