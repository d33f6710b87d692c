"""Which images are normal, distances in raw pixels, and measures against scikit-learn and by hand."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors

from vesalius.core.errors import DataError, UsageError
from vesalius.core.space import Space
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.data.prepare import Preparation
from vesalius.data.split import Fold, Split
from vesalius.io import save
from vesalius.io.image import Image
from vesalius.tasks import Images
from vesalius.tasks.anomaly import Anomaly, areas, everyone, gallery, measures, pixels
from vesalius.tasks.anomaly.normals import is_strange, normal_names, parted
from vesalius.tasks.anomaly.pixels import Pixels, abnormal, cut

CLASSES = Labels(names=("healthy lung", "pneumonia", "effusion"), values=((0,), (1,), (2,)), kind="classes")
FINDINGS = Labels(names=("effusion", "mass"), values=((0,), (1,)), kind="findings")
MASKS = Labels(names=("lesion",), values=((1,),))


def case(name, **words):
    return Case(name, words.pop("patient", name), {"image": Path("/nowhere.png")}, **words)


def test_a_class_called_healthy_is_normal_and_others_are_named():
    assert normal_names(CLASSES, {}) == ("healthy lung",)
    assert normal_names(CLASSES, {"normal": ["effusion"]}) == ("effusion",)
    other = Labels(names=("a", "b"), values=((0,), (1,)), kind="classes")
    with pytest.raises(UsageError, match="--normal"):
        normal_names(other, {})
    assert is_strange(case("x", classes={"healthy lung": 1}), CLASSES, {}) is False
    assert is_strange(case("x", classes={"pneumonia": 1}), CLASSES, {}) is True
    assert is_strange(case("x"), CLASSES, {}) is None


def test_a_case_without_any_finding_is_normal_where_all_were_looked_for():
    assert is_strange(case("x", classes={"effusion": 0, "mass": 0}), FINDINGS, {}) is False
    assert is_strange(case("x", classes={"effusion": 0, "mass": 1}), FINDINGS, {}) is True
    assert is_strange(case("x", classes={"effusion": 0}), FINDINGS, {}) is None


def test_an_empty_mask_is_normal_and_none_is_unknown(tmp_path):
    for name, value in (("empty", 0), ("full", 1)):
        save(Image(np.full((1, 6, 6), value, np.uint8), Space.of((6, 6), physical=False)), tmp_path / f"{name}.png")
    assert is_strange(case("x", masks={"r": tmp_path / "empty.png"}), MASKS, {}) is False
    assert is_strange(case("x", masks={"r": tmp_path / "full.png"}), MASKS, {}) is True
    assert is_strange(case("x"), MASKS, {}) is None


def cohort(**splits):
    classes = {"a": "healthy lung", "b": "healthy lung", "c": "pneumonia", "d": "pneumonia", "e": "healthy lung"}
    cases = tuple(case(n, patient="p" if n in "de" else n, classes={c: 1}, split=splits.get(n, "")) for n, c in classes.items())
    return Dataset("set", Path("/set"), "anomaly", cases, ("image",), CLASSES, alone=True)


def test_abnormal_patients_of_training_are_tested_on_unless_the_split_was_given():
    split = Split((Fold(("a", "b", "c", "d", "e"), ("v",)),), ("t",), "")
    made, words = parted(cohort(), split)
    assert made.folds[0].train == ("a", "b", "e") and made.test == ("t", "c")  # d is of the patient of e, who stays
    assert "3 normal images (of the class 'healthy lung')" in words and "1 abnormal" in words and "1 others, abnormal" in words
    given, _ = parted(cohort(c="train"), split)
    assert given.test == ("t",)


def test_too_few_normals_and_no_labels_are_told():
    with pytest.raises(DataError, match=r"0 normal images .* Normal is: of the class 'healthy lung'. Add such images; .* --normal NAME"):
        parted(cohort(), Split((Fold(("c", "d"), ()),), (), ""))
    nothing = Dataset("set", Path("/set"), "anomaly", (case("a"),), ("image",), Labels(names=(), values=()), alone=True)
    split = Split((Fold(("a",), ()),), (), "")
    assert parted(nothing, split)[0] == split and "Nothing says which images are normal" in parted(nothing, split)[1]


def images(number, seed, shape=(2, 5, 4)):
    draw = np.random.default_rng(seed)
    return Images([case(f"{k}") for k in range(number)], list(draw.random((number, *shape)).astype(np.float16)), CLASSES)


def test_distances_in_raw_pixels_are_those_of_brute_force():
    trained, seen = images(30, 0), images(7, 1)
    rows, others = (np.stack(part.pixels).reshape(len(part), -1).astype(np.float64) for part in (seen, trained))
    beside = Pixels(trained)
    nearest = NearestNeighbors(n_neighbors=1).fit(others).kneighbors(rows)[0][:, 0] ** 2 / rows.shape[1]
    np.testing.assert_allclose(beside.to_nearest(seen), nearest, rtol=1e-4)
    spread = others.var(0) + 0.01 * others.var(0).mean()
    np.testing.assert_allclose(beside.to_mean(seen), ((rows - others.mean(0)) ** 2 / spread).mean(1), rtol=1e-6)
    assert beside.to_nearest(trained).max() < 1e-6


@pytest.mark.parametrize("number", [30, 90])  # fewer images than pixels, and more
def test_what_components_leave_over_is_what_scikit_learn_leaves(number):
    trained, seen = images(number, 0), images(7, 1)
    rows, others = (np.stack(part.pixels).reshape(len(part), -1).astype(np.float64) for part in (seen, trained))
    rival = PCA(0.95, svd_solver="full").fit(others)
    left = ((rows - rival.inverse_transform(rival.transform(rows))) ** 2).mean(1)
    np.testing.assert_allclose(Pixels(trained).left_over(seen), left, rtol=1e-6)


def test_a_pixel_that_never_changes_and_images_all_alike_have_distances():
    alike = Images([case(f"{k}") for k in range(4)], [np.ones((1, 3, 3), np.float16)] * 4, CLASSES)
    beside = Pixels(alike)
    assert all(not there(alike).any() for there in (beside.to_mean, beside.to_nearest, beside.left_over))
    other = Images(alike.cases[:1], [np.zeros((1, 3, 3), np.float16)], CLASSES)
    assert beside.left_over(other)[0] == 1 and np.isfinite(beside.to_mean(other)[0])


def test_pixels_are_compared_as_the_data_say_and_not_as_the_method_sees_them():
    """Two methods, one of which sees images standardised: whoever is asked, what stands beside is the same."""
    plain, others = images(20, 0), images(6, 1)
    scaled = [replace(part, pixels=[(one.astype(np.float32) - 0.5) * 3 + k for k, one in enumerate(part.pixels)], plain=part.pixels)
              for part in (plain, others)]  # fmt: skip
    method = SimpleNamespace(score=lambda image: image.flatten(1).mean(1))
    same = [everyone(method, seen, Pixels(trained.as_compared)) for trained, seen in ((plain, others), scaled)]
    assert not np.allclose(same[0]["model"], same[1]["model"])
    assert len(same[0]) == 4 and all(np.array_equal(same[0][who], same[1][who]) for who in same[0] if who != "model")
    some = scaled[1].chosen([4, 2])
    assert np.array_equal(some.as_compared.pixels[0], others.pixels[4]) and some.as_compared.names == ["4", "2"]


def test_measures_agree_with_scikit_learn_and_leave_the_unknown_out():
    draw = np.random.default_rng(3)
    truth = draw.integers(0, 2, 60).astype(float)
    scores = np.round(draw.normal(size=60) + truth, 1)  # with ties
    found = measures(np.append(scores, [9.0, 9.0]), np.append(truth, [np.nan, np.nan]), 0.7)
    assert found["auc"] == pytest.approx(roc_auc_score(truth, scores))
    assert found["average_precision"] == pytest.approx(average_precision_score(truth, scores))
    assert found["sensitivity"] == pytest.approx((scores[truth == 1] > 0.7).mean())
    assert found["specificity"] == pytest.approx((scores[truth == 0] <= 0.7).mean())
    assert np.isnan(measures(scores, np.ones(60), None)["auc"]) and np.isnan(measures(scores, truth, None)["sensitivity"])
    delong = areas({"model": scores}, truth, [str(k) for k in range(60)])
    assert delong["model"]["area"] == pytest.approx(found["auc"]) and delong["model"]["low"] < found["auc"] < delong["model"]["high"]
    assert areas({"model": scores}, np.ones(60), ["a"] * 60) is None


def test_the_quantile_is_a_part():
    Anomaly().ruled({"quantile": 0.9, "normal": ["a"]})
    for wrong in ({"quantile": 1.5}, {"quantile": "high"}, {"quantil": 0.9}):
        with pytest.raises(UsageError):
            Anomaly().ruled(wrong)


def test_a_mask_comes_onto_the_grid_of_the_network(tmp_path):
    mask = np.zeros((1, 20, 30), np.uint8)
    mask[0, 4:12, 6:18] = 1
    save(Image(mask, Space.of((20, 30), physical=False)), tmp_path / "m.png")
    how = Preparation(channels={"image": 1}, normalise=(), fit="stretch")
    found = abnormal(case("x", masks={"r": tmp_path / "m.png"}), MASKS, how, size=(10, 15))
    right = np.zeros((10, 15), bool)
    right[2:6, 3:9] = True
    assert np.array_equal(found, right) and abnormal(case("y"), MASKS, how, size=(10, 15)) is None


def test_maps_are_measured_where_masks_are(tmp_path):
    how = Preparation(channels={"image": 1}, normalise=(), fit="stretch")
    mask = np.zeros((1, 8, 8), np.uint8)
    mask[0, 2:5, 2:5] = 1
    for name, pixels_ in (("ill", mask), ("well", 0 * mask)):
        save(Image(pixels_, Space.of((8, 8), physical=False)), tmp_path / f"{name}.png")
    cases = [case(name, masks={"r": tmp_path / f"{name}.png"}) for name in ("ill", "well")]
    seen = Images(cases, [np.zeros((1, 8, 8))] * 2, MASKS, how=how)
    heat = np.stack([mask, 0 * mask]).astype(np.float32)
    found = pixels(heat, seen)
    assert found["pixel_auroc"] == found["pixel_ap"] == found["best_dice"] == 1 and found["images"] == 2
    assert pixels(heat[1:], Images(cases[1:], seen.pixels[:1], MASKS, how=how)) is None and pixels(None, seen) is None


def test_the_gallery_shows_the_nearest_misses_first():
    rows = [{"case": f"{kind}{k}", "truth": kind, "strangeness": float(k)} for kind in ("normal", "abnormal") for k in range(9)]
    roles = gallery(rows)
    assert [name for name, role in roles.items() if role == "most strange normal"] == ["normal8", "normal7", "normal6", "normal5"]
    assert next(name for name, role in roles.items() if role == "least strange abnormal") == "abnormal0"
    assert {"typical normal", "typical abnormal"} <= set(roles.values())


def test_of_a_volume_the_slice_with_most_of_the_mask_or_the_heat_is_shown():
    heat = np.zeros((10, 12, 4))
    heat[3, 5, 2] = 1
    image = np.arange(480, dtype=float).reshape(1, 10, 12, 4)
    grey, hot = cut(image, heat)
    assert grey.shape == hot.shape == (12, 10) and hot.sum() == 1 and grey[hot == 1][0] == image[0, 3, 5, 2]
    mask = np.zeros(heat.shape, bool)
    mask[4, 6, 1] = True
    grey, hot, marked = cut(image, heat, mask)
    assert hot.sum() == 0 and grey[marked == 1][0] == image[0, 4, 6, 1]
