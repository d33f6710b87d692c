"""Search, retrieval and cluster agreement against brute force, scikit-learn and cases counted by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from vesalius.core.errors import DataError
from vesalius.data.labels import IGNORE
from vesalius.metrics import METRICS, _search
from vesalius.metrics._search import Described, ranked
from vesalius.metrics.clusters import clusters
from vesalius.metrics.retrieval import by_chance, precisions, retrieval


def described(features, labels, patients=None):
    features = np.asarray(features, float)
    features = features[:, None] if features.ndim == 1 else features
    whose = np.arange(len(features)) if patients is None else np.asarray(patients)
    return Described(features, np.asarray(labels), whose.astype(str))


# -- search ---------------------------------------------------------------------------------------------------------------


def test_the_nearest_by_brute_force_in_blocks_of_any_size(monkeypatch):
    random = np.random.default_rng(0)
    a, b = random.normal(size=(23, 5)), random.normal(size=(41, 5))
    whole = np.sort(cdist(a, b), 1)[:, :7]
    for block in (4, 10, 2048):
        monkeypatch.setattr(_search, "BLOCK", block)
        near, which = ranked(a, b, 7)
        assert near == pytest.approx(whole, rel=1e-12)
        assert cdist(a, b)[np.arange(23)[:, None], which] == pytest.approx(near, rel=1e-12)


def test_nobody_of_the_own_patient_is_found_and_what_lacks_is_told():
    rows = np.arange(6.0)[:, None]
    owner = np.array(["a", "a", "a", "b", "b", "b"])
    near, which = ranked(rows, rows, 4, apart=(owner, owner))
    assert which[0].tolist() == [3, 4, 5, -1] and near[0].tolist() == [3, 4, 5, math.inf]
    assert which[4].tolist() == [2, 1, 0, -1]


def test_distances_of_near_copies_far_from_the_origin_are_not_lost_to_rounding():
    rows = 1e6 + np.array([[0.0], [1e-3], [5e-3]])
    near, which = ranked(rows[:1], rows, 3)
    assert which.tolist() == [[0, 1, 2]] and near[0] == pytest.approx([0, 1e-3, 5e-3], rel=1e-4)


def test_a_search_in_another_space_is_refused():
    with pytest.raises(DataError, match="same features"):
        ranked(np.zeros((2, 3)), np.zeros((2, 4)), 1)


# -- retrieval ------------------------------------------------------------------------------------------------------------


def test_precision_counted_by_hand():
    """Images on a line at 0, 1, 2, 3, 10 with classes 0 0 1 0 1: nearest of the first are 1, 2, 3, 10."""
    line = described([0, 1, 2.1, 3.3, 10], [0, 0, 1, 0, 1])
    assert precisions(line, k=1).tolist() == [1, 1, 0, 0, 0]
    assert precisions(line, k=2).tolist() == [1 / 2, 1 / 2, 0, 1 / 2, 1 / 2]
    found = retrieval(line)
    assert found["precision_at_1"] == 2 / 5
    assert found["precision_at_10"] == found["by_chance"] == pytest.approx((2 / 4 * 3 + 1 / 4 * 2) / 5)  # all there are


def test_a_patient_never_retrieves_itself():
    """Two patients with ten copies each of one image, and opposite classes: all that is near is of the own patient."""
    features, patients = np.repeat([0.0, 9.0], 10), np.repeat(["a", "b"], 10)
    assert retrieval(described(features, np.repeat([0, 1], 10)))["precision_at_5"] == 1
    assert retrieval(described(features, np.repeat([0, 1], 10), patients))["precision_at_5"] == 0


def test_findings_are_alike_that_share_one_or_have_none():
    labels = [[1, 0], [1, 1], [0, 1], [0, 0], [0, 0]]
    found = precisions(described([0, 1, 2.1, 3.3, 4.6], labels), k=1)
    assert found.tolist() == [1, 1, 1, 0, 1]


def test_unknown_images_neither_ask_nor_answer():
    line = described([0, 1, 2.5], [0, IGNORE, 0])
    found = precisions(line, k=1)
    assert np.isnan(found[1]) and found[[0, 2]].tolist() == [1, 1]
    assert np.isnan(retrieval(described([0, 1], [0, 1], ["a", "a"]))["precision_at_1"])


def test_by_chance_is_what_random_features_give():
    random = np.random.default_rng(1)
    made = described(random.normal(size=(600, 3)), random.integers(0, 3, 600), random.integers(0, 200, 600))
    assert precisions(made, k=10).mean() == pytest.approx(np.mean(by_chance(made)), abs=4 * math.sqrt(0.22 / 10 / 600) * 2)


# -- clusters -------------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=40))
def test_agreement_is_that_of_scikit_learn(pairs):
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    truth, groups = np.array(pairs).T
    found = clusters(truth, groups)
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(truth, groups), abs=1e-9)
    assert found["ari"] == pytest.approx(adjusted_rand_score(truth, groups), abs=1e-9)


def test_rand_index_pair_by_pair():
    truth, groups = np.array([0, 0, 0, 1, 1, 2, 2, 2]), np.array([0, 0, 1, 1, 1, 2, 2, 0])
    pairs = list(itertools.combinations(range(8), 2))
    together = [[part[i] == part[j] for i, j in pairs] for part in (truth, groups)]
    both, one, other = sum(np.multiply(*together)), sum(together[0]), sum(together[1])
    chance = one * other / len(pairs)
    assert clusters(truth, groups)["ari"] == pytest.approx((both - chance) / ((one + other) / 2 - chance))


def test_closed_cases_of_agreement():
    truth = np.repeat([0, 1, 2], 5)
    assert clusters(truth, 7 - truth) == pytest.approx({"nmi": 1, "ari": 1})  # names do not matter
    assert clusters(truth, np.zeros(15, int)) == {"nmi": 0, "ari": 0}
    crossed = clusters(np.repeat([0, 1], 4), np.tile([0, 1], 4))  # independent
    assert crossed["nmi"] == pytest.approx(0, abs=1e-12) and crossed["ari"] < 0
    assert clusters(np.repeat([0, 1], 4), np.arange(8))["nmi"] == pytest.approx(math.log(2) / ((math.log(2) + math.log(8)) / 2))
    with pytest.raises(DataError, match="one group for each case"):
        clusters([0, 1], [0])


@pytest.mark.parametrize("name", ["retrieval", "clusters"])
def test_the_card_defines_each_number(name):
    labels = np.arange(20) % 2
    found = METRICS[name](described(np.arange(20), labels)) if name == "retrieval" else METRICS[name](labels, labels)
    assert found.keys() == METRICS.card(name).facts.keys()
