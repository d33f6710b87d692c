"""Answers lie on the grid of the scan, in its form, once each, and never in place of a scan."""

import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture

from tests.unit.data.test_prepare import oblique
from tests.unit.engine.tiny import LABELS, Threshold, answering, tiny_dataset, tiny_plan, write_run
from vesalius.core.errors import DataError, UsageError, VesaliusError
from vesalius.data.case import Case
from vesalius.data.labels import Labels
from vesalius.data.normalise import Normalise
from vesalius.data.prepare import Preparation
from vesalius.engine.answered import Options, share
from vesalius.engine.predict import predict
from vesalius.engine.progress import Listener
from vesalius.io import load, save
from vesalius.io.image import Image

OWN_GRID = ("preparation.spacing=[]", "train.precision=fp32")


@pytest.fixture
def run(tmp_path, monkeypatch):
    return answering(write_run(tmp_path / "run", tiny_dataset(), tiny_plan(OWN_GRID)), monkeypatch, [Threshold()])


def scan(path, *, space=None, seed=0):
    """Noise on an oblique, flipped, permuted grid; where it is above its mean."""
    space = space or oblique((11, 9, 13), seed=seed, order=(2, 0, 1), flips=(-1, 1, -1))
    pixels = np.random.default_rng(seed).choice([90.0, 110.0], space.shape) + np.random.default_rng(seed).normal(0, 1, space.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(Image(pixels[None].astype(np.float32), space), path)
    return pixels > pixels.mean()


def test_the_answer_lies_on_the_scans_own_grid(run, tmp_path):
    expected = scan(tmp_path / "in" / "carla.nii.gz")
    (found,) = predict(run, tmp_path / "in" / "carla.nii.gz", tmp_path / "out")
    asked, said = nib.load(tmp_path / "in" / "carla.nii.gz"), nib.load(found.path)
    assert found.path == tmp_path / "out" / "carla.nii.gz" and found.problem == ""
    assert np.array_equal(said.get_fdata().astype(bool), expected)
    np.testing.assert_array_equal(said.affine, asked.affine)
    for field in ("sform_code", "qform_code", "xyzt_units"):
        assert said.header[field] == asked.header[field]
    voxel = abs(np.linalg.det(asked.affine[:3, :3])) / 1000
    assert found.volumes == {"ball": pytest.approx(expected.sum() * voxel, rel=1e-3)}


def test_another_spacing_comes_back_too(tmp_path, monkeypatch):
    """A half space on a grid twice as fine: the edge is where it was, to half a voxel."""
    plan = tiny_plan(("preparation.spacing=[0.5,0.5,0.5]", "preparation.order=1"))
    run = answering(write_run(tmp_path / "run", tiny_dataset(), plan), monkeypatch, [Threshold()])
    space = oblique((12, 10, 9), spacing=(1.0, 1.0, 1.0))
    pixels = np.where(np.arange(12)[:, None, None] < 6, 0.0, 100.0) * np.ones(space.shape)
    save(Image((pixels + np.random.default_rng(0).normal(0, 0.1, pixels.shape))[None].astype(np.float32), space), tmp_path / "a.nii.gz")
    (found,) = predict(run, tmp_path / "a.nii.gz", tmp_path / "out")
    said = load(found.path)
    assert said.space.same_as(space) and np.array_equal(said.array[0] > 0, pixels > 0)


def test_an_empty_border_that_is_cut_away_is_background_in_the_answer(tmp_path, monkeypatch):
    run = answering(
        write_run(tmp_path / "run", tiny_dataset(), tiny_plan((*OWN_GRID, "preparation.crop=true"))), monkeypatch, [Threshold()]
    )
    space = oblique((12, 12, 12))
    pixels = np.zeros(space.shape, np.float32)
    inside = np.random.default_rng(0).choice([50.0, 100.0], (6, 7, 8)) + np.random.default_rng(1).normal(0, 1, (6, 7, 8))
    pixels[3:9, 2:9, 1:9] = inside
    save(Image(pixels[None], space), tmp_path / "a.nii.gz")
    (found,) = predict(run, tmp_path / "a.nii.gz", tmp_path / "out")
    expected = np.zeros(space.shape, bool)
    expected[3:9, 2:9, 1:9] = inside > inside.mean()
    assert np.array_equal(load(found.path).array[0] > 0, expected)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".npz"])
def test_the_answer_has_the_form_of_the_scan(run, tmp_path, suffix):
    expected = scan(tmp_path / "in" / f"a{suffix}")
    (found,) = predict(run, tmp_path / "in", tmp_path / "out")
    assert found.path.name == f"a{suffix}" and np.array_equal(load(found.path).array[0] > 0, expected)


def test_a_photograph_in_a_picture_out(tmp_path, monkeypatch):
    plan = tiny_plan(ndim=2).model_copy(update={"preparation": Preparation(channels={"photo": 3}, normalise=(Normalise(),) * 3)})
    run = answering(write_run(tmp_path / "run", tiny_dataset(), plan), monkeypatch, [Threshold()])
    pixels = np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8)
    (tmp_path / "in").mkdir()
    Picture.fromarray(pixels).save(tmp_path / "in" / "photo.png")
    Picture.fromarray(pixels).save(tmp_path / "in" / "same.jpg", quality=95)
    found = {answered.case: answered for answered in predict(run, tmp_path / "in", tmp_path / "out")}
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["photo.png", "same.png"]
    said = np.asarray(Picture.open(found["photo"].path))
    assert said.shape == (17, 23) and np.array_equal(said > 0, pixels[..., 0] > pixels[..., 0].mean())
    assert found["photo"].volumes == {"ball": float((said > 0).sum())}  # pixels


def test_overlapping_regions_are_written_as_the_masks_were(tmp_path, monkeypatch):
    labels = Labels(names=("whole", "core"), values=((1, 4), (4,)), kind="regions")
    run = write_run(tmp_path / "run", tiny_dataset(), tiny_plan(OWN_GRID, labels=labels))
    answering(run, monkeypatch, [Threshold(2, exclusive=False)])
    expected = scan(tmp_path / "a.nii.gz")
    (found,) = predict(run, tmp_path / "a.nii.gz", tmp_path / "out")
    assert np.array_equal(load(found.path).array[0], np.where(expected, 4, 0))


def test_a_mask_for_each_label_on_request(tmp_path, monkeypatch):
    labels = Labels(names=("left/ball", "core"), values=((1,), (2,)), kind="bits")
    plan = tiny_plan(OWN_GRID).model_copy(update={"labels": labels})
    run = answering(write_run(tmp_path / "run", tiny_dataset(), plan), monkeypatch, [Threshold(2, exclusive=False)])
    scan(tmp_path / "in" / "a.1.nii.gz")
    (found,) = predict(run, tmp_path / "in", tmp_path / "out", options=Options(apart=True))
    whole = load(found.path).array[0]
    for bit, name in ((1, "left_ball"), (2, "core")):
        mask = load(tmp_path / "out" / "a.1" / f"{name}.nii.gz")
        assert np.array_equal(mask.array[0], (whole & bit) > 0) and mask.space.same_as(load(found.path).space)
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["a.1", "a.1.nii.gz", "predictions.json"]


def test_all_folds_answer_together(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", tiny_dataset(), tiny_plan((*OWN_GRID, "folds=2")), folds=[(["c0"], ["c1"]), (["c1"], ["c0"])])
    answering(run, monkeypatch, [Threshold(level=-0.4), Threshold(level=0.8)])  # the mean of the logits: a level of 0.2
    space = oblique((8, 8, 8))
    pixels = np.random.default_rng(0).normal(0, 1, space.shape)
    save(Image(pixels[None].astype(np.float32), space), tmp_path / "a.nii.gz")
    (found,) = predict(run, tmp_path / "a.nii.gz", tmp_path / "out")
    scaled = (pixels - pixels.mean()) / pixels.std()
    clear = abs(scaled - 0.2) > 0.01
    assert np.array_equal((load(found.path).array[0] > 0)[clear], (scaled > 0.2)[clear])


def test_channels_by_number_and_by_name(tmp_path, monkeypatch):
    two = Preparation(channels={"t1": 1, "t2": 1}, normalise=(Normalise(),) * 2)
    run = answering(
        write_run(tmp_path / "run", tiny_dataset(), tiny_plan().model_copy(update={"preparation": two})), monkeypatch, [Threshold()]
    )
    expected = scan(tmp_path / "in" / "a_0000.nii.gz")
    scan(tmp_path / "in" / "a_0001.nii.gz")
    (first,) = predict(run, tmp_path / "in", tmp_path / "out")
    images = {"t2": tmp_path / "in" / "a_0001.nii.gz", "t1": tmp_path / "in" / "a_0000.nii.gz"}
    (second,) = predict(run, tmp_path, tmp_path / "named", images=images)
    assert first.path.name == "a.nii.gz"
    for found in (first, second):
        assert np.array_equal(load(found.path).array[0] > 0, expected)


def test_what_is_answered_is_left_alone(run, tmp_path):
    for name in ("a", "a.1"):
        scan(tmp_path / "in" / f"{name}.nii.gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.1.nii.gz").write_bytes(b"an answer")
    found = {answered.case: answered for answered in predict(run, tmp_path / "in", tmp_path / "out")}
    assert (tmp_path / "out" / "a.1.nii.gz").read_bytes() == b"an answer" and found["a.1"].volumes is None
    assert found["a"].volumes is not None, "the answer to a.1 was taken for that to a"
    before = (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns
    predict(run, tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns == before
    predict(run, tmp_path / "in", tmp_path / "out", options=Options(overwrite=True))
    assert (tmp_path / "out" / "a.1.nii.gz").read_bytes() != b"an answer"


def test_a_scan_is_never_overwritten(run, tmp_path):
    scan(tmp_path / "in" / "a.nii.gz")
    for options in (Options(), Options(overwrite=True)):
        with pytest.raises(UsageError, match="take the place of the scan"):
            predict(run, tmp_path / "in", tmp_path / "in", options=options)


def test_two_scans_of_one_name_are_refused(run, tmp_path):
    scan(tmp_path / "in" / "a.nii.gz")
    scan(tmp_path / "in" / "a.nrrd")
    with pytest.raises(DataError, match="several scans"):
        predict(run, tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_the_parts_take_every_case_once(parts):
    cases = [Case(f"case{k}", "p", {}) for k in range(50)]
    shares = [share(cases, Options(parts=parts, part=part)) for part in range(parts)]
    assert sorted(case.name for one in shares for case in one) == sorted(case.name for case in cases)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert shares == [share(cases[::-1], Options(parts=parts, part=part))[::-1] for part in range(parts)], "the order of files counts"
    if parts == 2:  # neighbours are parted: neither halves nor every second
        assert {case.name for case in shares[0]} not in [{c.name for c in of} for of in (cases[:25], cases[25:], cases[::2], cases[1::2])]
    for part in (-1, parts):
        with pytest.raises(UsageError, match=f"0 to {parts - 1}"):
            share(cases, Options(parts=parts, part=part))
    with pytest.raises(UsageError, match="at least 1 part; got 0"):
        share(cases, Options(parts=0))


def test_parts_write_beside_each_other(run, tmp_path):
    for k in range(6):
        scan(tmp_path / "in" / f"a{k}.nii.gz", seed=k)
    for part in (0, 1):
        predict(run, tmp_path / "in", tmp_path / "out", options=Options(parts=2, part=part))
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 6
    listed = [json.loads((tmp_path / "out" / f"predictions-{part}.json").read_text())["cases"] for part in (0, 1)]
    assert sorted(row["case"] for rows in listed for row in rows) == [f"a{k}" for k in range(6)]


def test_a_broken_scan_stops_or_is_listed(run, tmp_path):
    scan(tmp_path / "in" / "a.nii.gz")
    scan(tmp_path / "in" / "c.nii.gz")
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"no image")
    with pytest.raises(VesaliusError, match=r"b\.nii\.gz"):
        predict(run, tmp_path / "in", tmp_path / "first")
    assert (tmp_path / "first" / "a.nii.gz").exists()  # what was answered stays
    found = predict(run, tmp_path / "in", tmp_path / "out", options=Options(skip_bad=True))
    assert [(a.case, a.path is not None, bool(a.problem)) for a in found] == [("a", True, False), ("b", False, True), ("c", True, False)]
    listed = json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"]
    assert "b.nii.gz" in listed[1]["problem"] and listed[1]["file"] is None


def test_a_picture_is_no_volume(run, tmp_path):
    Picture.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(VesaliusError, match="2 dimensions"):
        predict(run, tmp_path / "a.png", tmp_path / "out")


def test_stopped_it_goes_on_from_there(run, tmp_path):
    class Impatient(Listener):
        told = []

        def stop(self):
            return True

        def say(self, text):
            self.told.append(text)

    for k in range(3):
        scan(tmp_path / "in" / f"a{k}.nii.gz", seed=k)
    assert len(predict(run, tmp_path / "in", tmp_path / "out", listener=Impatient())) == 1 and "1 of 3" in Impatient.told[0]
    assert [a.volumes is None for a in predict(run, tmp_path / "in", tmp_path / "out")] == [True, False, False]


def test_probabilities_are_kept_on_request(run, tmp_path):
    expected = scan(tmp_path / "a.nii.gz")
    predict(run, tmp_path / "a.nii.gz", tmp_path / "out", options=Options(probabilities=True))
    kept = np.load(tmp_path / "out" / "a_probabilities.npy")
    assert kept.dtype == np.float16 and kept.shape[0] == 2
    np.testing.assert_allclose(kept.astype(float).sum(0), 1, atol=2e-3)
    assert kept.shape[1:] == expected.shape, "probabilities lie on another grid than the answer"
    assert np.array_equal(kept[1] > 0.5, expected)


def test_probabilities_beyond_the_crop_are_those_of_background(tmp_path, monkeypatch):
    plan = tiny_plan((*OWN_GRID, "preparation.crop=true"))
    run = answering(write_run(tmp_path / "run", tiny_dataset(), plan), monkeypatch, [Threshold()])
    space = oblique((10, 9, 8), order=(1, 2, 0), flips=(-1, 1, 1))
    pixels = np.zeros(space.shape, np.float32)
    pixels[2:8, 1:7, 3:] = np.random.default_rng(0).normal(50, 10, (6, 6, 5))
    save(Image(pixels[None], space), tmp_path / "a.nii.gz")
    predict(run, tmp_path / "a.nii.gz", tmp_path / "out", options=Options(probabilities=True))
    kept = np.load(tmp_path / "out" / "a_probabilities.npy").astype(float)
    np.testing.assert_allclose(kept.sum(0), 1, atol=2e-3)
    assert (kept[0][pixels == 0] == 1).all() and np.array_equal(kept[1] > 0.5, load(tmp_path / "out" / "a.nii.gz").array[0] > 0)


def test_a_run_without_weights_says_how_to_get_them(tmp_path):
    run = write_run(tmp_path / "run", tiny_dataset(), tiny_plan())
    scan(tmp_path / "a.nii.gz")
    with pytest.raises(VesaliusError, match="no weights yet"):
        predict(run, tmp_path / "a.nii.gz", tmp_path / "out")
    with pytest.raises(VesaliusError, match="not a run"):
        predict(tmp_path, tmp_path / "a.nii.gz", tmp_path / "out")
    assert LABELS.exclusive
