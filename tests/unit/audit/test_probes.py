"""Probes, principal components and k-means against scikit-learn, closed forms and counts by hand."""

import numpy as np
import pytest

from vesalius.audit import probes, rivals
from vesalius.audit.probes import Parts, Told, linear_probe, neighbour_probe, votes
from vesalius.core.errors import DataError
from vesalius.data.labels import IGNORE, Labels

CLASSES = Labels(names=("a", "b", "c"), values=((0,), (1,), (2,)), kind="classes")
TWO = Labels(names=("no", "yes"), values=((0,), (1,)), kind="classes")
FINDINGS = Labels(names=("effusion", "mass"), values=((1,), (2,)), kind="findings")


def told(n, *, classes=3, seed=0, features=6, gap=1.5, per_patient=2):
    """Clouds around points of their class."""
    random = np.random.default_rng(seed)
    y = np.arange(n) // per_patient % classes
    x = random.normal(size=(n, features)) + gap * np.random.default_rng(9).normal(size=(classes, features))[y]
    return Told(x.astype(np.float32), y[:, None].astype(np.uint8), np.array([f"{seed}_{k // per_patient}" for k in range(n)]))


def parts(**more):
    return Parts(told(90, **more), told(60, seed=1, **more), told(80, seed=2, **more))


def test_a_linear_probe_is_the_logistic_regression_of_scikit_learn():
    """Its penalty on squares per case is 1 / (C N); the choice on validation is the same too."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    made = parts(gap=0.6)
    mean, spread = made.train.features.mean(0), made.train.features.std(0) + 1e-6
    x = [np.clip((part.features - mean) / spread, -4, 4) for part in (made.train, made.val, made.test)]
    fitted = [LogisticRegression(C=1 / (90 * p), tol=1e-8, max_iter=2000).fit(x[0], made.train.targets[:, 0]) for p in probes.PENALTIES]
    costs = [log_loss(made.val.targets[:, 0], model.predict_proba(x[1])) for model in fitted]
    found = linear_probe(made, CLASSES)
    assert found.chosen == probes.PENALTIES[int(np.argmin(costs))]
    assert found.answers.probabilities == pytest.approx(fitted[int(np.argmin(costs))].predict_proba(x[2]), abs=3e-3)


def test_without_validation_the_penalty_is_chosen_on_folds_that_part_no_patient():
    made = parts()
    empty = made.val.take(np.zeros(0, np.intp))
    for learned, checked in probes._choices(Parts(made.train, empty, made.test), CLASSES):
        assert not set(learned.patients) & set(checked.patients)
        assert len(np.unique(learned.targets)) == 3 and len(learned.targets) + len(checked.targets) == 90
    assert linear_probe(Parts(made.train, empty, made.test), CLASSES).answers.right.mean() > 0.7


def test_a_probe_knows_nothing_of_random_labels():
    made = parts(gap=0.0)
    for probe in (linear_probe, neighbour_probe):
        assert probe(made, CLASSES).answers.right.mean() < 0.55


def test_votes_counted_by_hand():
    """Two labelled images at right angles: cosines 1 and 0, so that the far one has exp(-1 / .07) of a vote, and the shares one."""
    learned = Told(np.array([[1, 1], [-1, -1]], np.float32), np.array([[1], [0]], np.uint8), np.array(["p", "q"]))
    p = votes(learned, np.array([[2, 2]], np.float32), TWO, most=(1, 2))
    assert p[0][0] == pytest.approx([0.25, 0.75])
    far = np.exp(-2 / 0.07)
    assert p[1][0] == pytest.approx([(far + 0.5) / (2 + far), 1.5 / (2 + far)])


def test_unknown_findings_do_not_vote():
    targets = np.array([[1, IGNORE], [1, 0], [0, 1]], np.uint8)
    learned = Told(np.array([[1, 0], [1, 0.01], [-2, 0]], np.float32), targets, np.array(list("pqr")))
    p = votes(learned, np.array([[1, 0]], np.float32), FINDINGS, most=(1,))[0][0]
    assert p == pytest.approx([(1 + 2 / 3) / 2, 1 / 2])  # of the mass only its share is known


def test_neighbours_agree_with_scikit_learn_where_every_vote_is_whole(monkeypatch):
    from sklearn.neighbors import KNeighborsClassifier

    monkeypatch.setattr(probes, "TEMPERATURE", 1e9)
    made = parts()
    centre = made.train.features.mean(0)
    unit = [probes.directions(part.features, centre) for part in (made.train, made.test)]
    model = KNeighborsClassifier(7).fit(unit[0], made.train.targets[:, 0])
    shares = np.bincount(made.train.targets[:, 0]) / 90
    assert votes(made.train, made.test.features, CLASSES, most=(7,))[0] == pytest.approx((7 * model.predict_proba(unit[1]) + shares) / 8)


def test_findings_are_probed_one_by_one():
    random = np.random.default_rng(3)
    x = random.normal(size=(200, 4)).astype(np.float32)
    y = np.stack([x[:, 0] > 0, x[:, 1] > 0], 1).astype(np.uint8)
    y[::9, 1] = IGNORE
    patients = np.arange(200).astype(str)
    made = Told(x, y, patients)
    found = linear_probe(Parts(made.take(np.arange(100)), made.take(np.arange(100, 140)), made.take(np.arange(140, 200))), FINDINGS)
    assert [problem.curve.area > 0.97 for problem in found.answers.problems] == [True, True]


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="a target and a patient"):
        Told(np.zeros((3, 2), np.float32), np.zeros((2, 1), np.uint8), np.array(["a", "b", "c"]))


# -- rivals ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 9), (12, 50)])
def test_principal_components_are_those_of_scikit_learn(shape):
    from sklearn.decomposition import PCA

    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32) @ np.diag(np.linspace(3, 0.1, shape[1])).astype(np.float32)
    ours, theirs = rivals.principal(rows, 5), PCA(5, svd_solver="full").fit(rows)
    assert ours.variance == pytest.approx(theirs.explained_variance_, rel=1e-4)
    assert np.abs(np.sum(ours.axes * theirs.components_, 1)) == pytest.approx(np.ones(5), abs=1e-4)
    assert ours.back(ours(rows)) == pytest.approx(theirs.inverse_transform(theirs.transform(rows)), abs=1e-3)
    assert len(rivals.principal(rows, 1000).axes) == min(shape[0] - 1, shape[1])


def test_k_means_finds_what_scikit_learn_finds():
    from sklearn.cluster import KMeans

    random = np.random.default_rng(1)
    rows = (random.normal(size=(300, 5)) + 4 * random.normal(size=(6, 5))[np.arange(300) % 6]).astype(np.float32)
    ours = float(rivals.squared(rows, rivals.centres(rows, 6)).min(1).sum())
    assert ours <= KMeans(6, n_init=5, random_state=0).fit(rows).inertia_ * 1.01


def test_no_more_centres_than_images_that_differ():
    rows = np.repeat(np.eye(3, dtype=np.float32), 2, 0)
    assert len(rivals.centres(rows, 5)) == 3


def test_triangle_features_by_hand():
    made = rivals.Triangle(np.array([[0.0], [4.0], [5.0]], np.float32))
    assert made(np.array([[1.0]], np.float32)).tolist() == [[pytest.approx(8 / 3 - 1), 0, 0]]


def test_large_images_become_means_of_blocks():
    images = np.random.default_rng(0).normal(size=(2, 1, 150, 100)).astype(np.float32)
    found, words = rivals.pixels(images)
    assert words == "pixels (means of blocks of 2)" and found.shape == (2, 75 * 50)
    assert found[1, 51] == pytest.approx(images[1, 0, 2:4, 2:4].mean(), abs=1e-5)
    assert rivals.pixels(images[:, :, :20])[1] == "pixels"
