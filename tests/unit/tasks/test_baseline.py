"""The shallow baseline: its parts against formulas and scikit-learn, what it can and cannot learn, and real scans."""

import json
import time

import numpy as np
import pytest

from tests.data import data_folder
from vesalius.core.errors import DataError
from vesalius.data import voxel_odds as answering
from vesalius.data.labels import IGNORE
from vesalius.tasks.segment import baseline as parts
from vesalius.tasks.segment.baseline import Baseline


def dice(a, b):
    return 2 * (a & b).sum() / max(a.sum() + b.sum(), 1)


def discs(number, shape=(40, 36), *, seed=0, noise=0.3):
    """Bright discs anywhere (class 1) and a dark one on the left (class 2), in noise."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    for _ in range(number):
        target = np.zeros((1, *shape), np.uint8)
        target[0, np.linalg.norm(grid - random.uniform(0.5, 0.8, len(shape)) * shape, axis=-1) < 6] = 1
        target[0, np.linalg.norm(grid - random.uniform(0.15, 0.3, len(shape)) * shape, axis=-1) < 5] = 2
        yield (np.choose(target, [0, 1, -1]) + random.normal(0, noise, target.shape)).astype(np.float32), target


def test_regression_is_scikit_learn_s():
    linear = pytest.importorskip("sklearn.linear_model")
    random = np.random.default_rng(0)
    x = np.concatenate([np.ones((600, 1)), random.standard_normal((600, 3))], 1)
    x /= np.sqrt((x**2).mean(0))
    y = (x[:, 1] + 0.5 * random.standard_normal(600) > 0.3).astype(int) + (x[:, 2] > 0.5)
    w = random.uniform(0.5, 2, 600)
    ours = parts.regression(x.astype(np.float32), y[:, None] == np.arange(3), w.astype(np.float32))
    other = linear.LogisticRegression(C=1 / (parts.PENALTY * w.sum()), fit_intercept=False, tol=1e-8, max_iter=2000)
    other.fit(x, y, w)
    np.testing.assert_allclose(ours - ours.mean(1, keepdims=True), other.coef_.T - other.coef_.T.mean(1, keepdims=True), atol=0.05)


def test_the_quadratic_form_is_the_products():
    random = np.random.default_rng(0)
    x = random.standard_normal((50, 6)).astype(np.float32)
    c = random.standard_normal((parts.products(x).shape[1], 3)).astype(np.float32)
    np.testing.assert_allclose(answering.quadratic(x, c), parts.products(x) @ c, rtol=1e-4, atol=1e-4)
    assert parts.products(x).shape[1] == 1 + 6 + 21


@pytest.mark.parametrize("shape", [(48, 32), (20, 50, 7), (9, 16)])
def test_frequencies_keep_the_volume_and_the_place(shape):
    mask = np.random.default_rng(0).random(shape) < 0.3
    assert parts.frequencies(mask).mean() == pytest.approx(mask.mean(), abs=1e-5)
    mask = np.zeros(shape, bool)
    mask[shape[0] // 2 :] = True
    assert parts.frequencies(mask)[12:].min() > 0.9999 and parts.frequencies(mask)[:7].max() == 0


def test_log_odds_of_a_flat_atlas_are_flat():
    total = np.full((1, 16, 16), 3 * 0.25, np.float32)
    odds = answering.log_odds(total, (11, 40), cases=3, prior=total / 3)
    np.testing.assert_allclose(odds, np.log(0.25 / 0.75), atol=1e-5)


def test_training_voxels_stand_for_the_whole_case():
    """Weighted counts of the drawn voxels are the class frequencies, though rare classes are drawn far more often."""
    image, target = next(discs(1, (200, 180)))
    found = parts.draw(image, target, np.random.default_rng(0))
    assert 2000 < len(found.index) < parts.PER_CASE + 300  # fewer where a class has fewer voxels than its share
    for k in range(3):
        assert found.weight[found.classes[:, 0] == k].sum() == pytest.approx((target == k).mean(), rel=0.1)
    assert (found.classes[:, 0] == 2).mean() > 10 * (target == 2).mean()


def test_shrink_and_grow_are_inverse_on_blocks():
    coded = np.random.default_rng(0).integers(0, 3, (1, 6, 5, 4)).astype(np.uint8)
    large = answering.grow(coded, (2, 1, 4), (11, 5, 16))
    assert large.shape == (1, 11, 5, 16)
    np.testing.assert_array_equal(answering.shrink(large, (2, 1, 4)), coded)


def test_large_images_are_reduced(monkeypatch):
    assert answering.reduction((512, 512)) == (1, 1) and answering.reduction((512, 512, 100)) == (4, 4, 1)
    monkeypatch.setattr(answering, "LARGEST", 500)
    cases = list(discs(6))
    answer = Baseline().fit(cases).predict(cases[0][0])
    assert answer.shape == cases[0][1].shape and dice(answer == 1, cases[0][1] == 1) > 0.5


@pytest.mark.parametrize("shape", [(40, 36), (40, 36, 12)])
def test_it_learns_brightness_and_place(shape):
    *train, (image, target) = discs(9, shape)
    answer = Baseline().fit(train).predict(image)
    assert answer.shape == target.shape and answer.dtype == np.uint8
    assert dice(answer == 1, target == 1) > 0.85 and dice(answer == 2, target == 2) > 0.85


def test_overlapping_classes_and_colour():
    """Three channels, two classes one of which lies in the other."""
    cases = [(np.repeat(image, 3, 0), np.concatenate([target > 0, target == 1]).astype(np.uint8)) for image, target in discs(9)]
    answer = Baseline().fit(cases[:-1]).predict(cases[-1][0])
    assert answer.shape == (2, 40, 36) and set(np.unique(answer)) <= {0, 1}
    assert all(dice(a == 1, t == 1) > 0.85 for a, t in zip(answer, cases[-1][1], strict=True))


def test_ignored_voxels_teach_nothing():
    spoiled = []
    for image, target in discs(8):
        image, target = image.copy(), target.copy()
        image[:, :, 30:], target[:, :, 30:] = 5.0, IGNORE
        spoiled.append((image, target))
    drawn = parts.draw(*spoiled[0], np.random.default_rng(0))
    assert IGNORE not in drawn.classes and IGNORE not in Baseline().fit(spoiled).predict(spoiled[0][0])


def test_a_class_that_some_cases_lack():
    cases = [(i, np.where(t == 2, 0, t).astype(np.uint8) if n % 2 else t) for n, (i, t) in enumerate(discs(8))]
    assert Baseline().fit(cases).predict(cases[0][0]).max() == 2
    empty = [(i, np.zeros_like(t)) for i, t in discs(3)]
    assert Baseline().fit(empty).predict(empty[0][0]).max() == 0


def test_save_and_load_answer_alike(tmp_path):
    cases = list(discs(4))
    made = Baseline(seed=3).fit(cases)
    made.save(tmp_path / "baseline.json")
    json.loads((tmp_path / "baseline.json").read_text())
    np.testing.assert_array_equal(Baseline.load(tmp_path / "baseline.json").predict(cases[0][0]), made.predict(cases[0][0]))


def test_the_same_seed_gives_the_same_baseline():
    a, b = (Baseline(seed=1).fit(discs(3)).coefficients for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_nothing_to_learn_from_is_said():
    with pytest.raises(DataError, match="no case"):
        Baseline().fit([])
    with pytest.raises(DataError, match="ignored"):
        Baseline().fit([(i, np.full_like(t, IGNORE)) for i, t in discs(1)])
    with pytest.raises(DataError, match="fit first"):
        Baseline().predict(np.zeros((1, 4, 4), np.float32))


def test_hippocampus():
    """A quarter of the training scans, in seconds, to a fair opponent: mean Dice above .72 on validation scans."""
    nibabel = pytest.importorskip("nibabel")
    folder = data_folder("seg3d_hippocampus_mr")
    splits = json.loads((folder / "dataset.json").read_text())["splits"]

    def case(name):
        image, target = (np.asarray(nibabel.load(folder / part / f"{name}.nii.gz").dataobj) for part in ("images", "labels"))
        return ((image - image.mean()) / image.std())[None].astype(np.float32), target[None].astype(np.uint8)

    start = time.process_time()
    made = Baseline().fit(case(name) for name in splits["train"][::4])
    assert time.process_time() - start < 15
    scores = [dice(made.predict(i) == k, t == k) for i, t in map(case, splits["val"][::3]) for k in (1, 2)]
    assert np.mean(scores) > 0.72
