"""What a data set looks like in numbers, against the numbers that it was made of."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture

from vesalius.core.files import plain, write_json
from vesalius.data import fingerprint as room
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.fingerprint import components, fingerprint
from vesalius.data.labels import Labels

LABELS = Labels(names=("organ", "lesion"), values=((1,), (2,)))
LPI = np.array([[-0.5, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, -3.0, 30], [0, 0, 0, 1]])


def scan(folder, number, *, shape=(8, 10, 6), empty=0):
    """Values 100 in the organ, 300 in the lesion, 50 elsewhere; the first `empty` rows are 0."""
    image, mask = np.full(shape, 50, np.int16), np.zeros(shape, np.uint8)
    mask[4:6, 2:8, 2:4] = 1
    if number:
        mask[5, 5, 3] = 2
    image[mask == 1], image[mask == 2] = 100, 300
    image[:empty] = 0
    paths = {kind: folder / f"{kind}{number}.nii.gz" for kind in ("image", "mask")}
    for kind, array in (("image", image), ("mask", mask)):
        nib.save(nib.Nifti1Image(array, LPI), paths[kind])
    return Case(f"c{number}", f"p{number}", {"ct": paths["image"]}, {"": paths["mask"]})


def dataset(cases, channels=("ct",), labels=LABELS):
    return Dataset("made", cases[0].images["ct"].parent if "ct" in cases[0].images else None, "segment", tuple(cases), channels, labels)


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("facts")
    cases = [scan(folder, 0, empty=2), scan(folder, 1, shape=(8, 12, 6), empty=2), scan(folder, 2, empty=4)]
    return fingerprint(dataset(cases), cases)


def test_shapes_and_spacings_are_those_of_the_turned_grid(facts):
    assert facts["shapes"] == [[8, 10, 6], [8, 12, 6], [8, 10, 6]] and facts["spacings"] == [[0.5, 0.5, 3.0]] * 3
    assert facts["cases"] == 3 and facts["physical"] and facts["channels"] == {"ct": 1}


def test_empty_borders_are_measured(facts):
    assert facts["cropped_shapes"] == [[6, 10, 6], [6, 12, 6], [4, 10, 6]]
    assert facts["cropped"] == pytest.approx(0.75)


def test_classes_are_counted(facts):
    assert facts["classes"]["organ"]["cases"] == 3 and facts["classes"]["lesion"]["cases"] == 2
    assert facts["classes"]["lesion"]["share"] == pytest.approx(np.mean([0, 1 / 576, 1 / 480]))


def test_intensities_are_those_of_the_foreground(facts):
    values = np.array([100.0] * (24 + 23 + 23) + [300.0] * 2)
    low, high = np.percentile(values, [0.5, 99.5])
    found = facts["intensities"]["ct"]
    assert (found["p0.5"], found["p99.5"]) == (low, high)
    assert found["mean"] == pytest.approx(np.clip(values, low, high).mean())
    assert found["whole"] == 1 and found["minimum"] == 0


def test_what_is_found_is_plain_json(facts, tmp_path):
    write_json(tmp_path / "f.json", facts)
    assert plain(facts) == facts


def test_progress_is_told_case_by_case(tmp_path):
    told = []
    cases = [scan(tmp_path, k) for k in range(3)]
    fingerprint(dataset(cases), cases, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_missing_channels_are_counted_and_do_no_harm(tmp_path):
    cases = [scan(tmp_path, k) for k in range(3)]
    both = [Case(c.name, c.patient, {**c.images, **({"pet": c.images["ct"]} if k else {})}, c.masks) for k, c in enumerate(cases)]
    found = fingerprint(dataset(both, ("ct", "pet")), both)
    assert found["missing"] == {"ct": 0, "pet": 1} and np.isfinite(list(found["intensities"]["pet"].values())).all()


def test_grey_stored_as_colour_is_one_component(tmp_path):
    ramp = np.arange(20, dtype=np.uint8).reshape(4, 5)
    pictures = {"grey": ramp, "grey3": np.stack([ramp] * 3, -1), "colour": np.stack([ramp, ramp, 2 * ramp], -1)}
    for name, pixels in pictures.items():
        Picture.fromarray(pixels).save(tmp_path / f"{name}.png")
        case = Case(name, name, {"photo": tmp_path / f"{name}.png"})
        assert components(dataset([case], ("photo",)), [case]) == {"photo": 3 if name == "colour" else 1}


def test_many_cases_keep_fewer_voxels_each(tmp_path, monkeypatch):
    """Memory does not grow with their number: 3 cases, 30 voxels in all, and the statistics are those of the voxels kept."""
    cases, kept = [scan(tmp_path, k) for k in (0, 1, 2)], []
    monkeypatch.setattr(room, "SAMPLES_IN_ALL", 30)
    pooled = room._pooled
    monkeypatch.setattr(room, "_pooled", lambda samples, extremes: kept.extend(samples) or pooled(samples, extremes))
    found = fingerprint(dataset(cases), cases)
    assert [len(one) for one in kept] == [10, 10, 10]
    low, high = np.percentile(np.concatenate(kept), [0.5, 99.5])
    assert found["intensities"]["ct"]["mean"] == pytest.approx(np.clip(np.concatenate(kept), low, high).mean())


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_a_sample_of_a_volume_is_that_of_its_values_in_order(kind):
    """Drawn where they lie, in whatever order of memory; holes are left out."""
    volume = np.asfortranarray(np.random.default_rng(0).normal(0, 99, (9, 8, 7)).astype(kind))
    expected = np.random.default_rng(1).choice(volume.ravel(), 50, replace=False)
    assert np.array_equal(room._sample(volume, np.random.default_rng(1), 50), expected)
    assert np.array_equal(room._sample(volume, np.random.default_rng(1), 504), volume.ravel())
    if kind == "float32":
        volume[::2] = np.nan
        left = np.random.default_rng(1).choice(volume[1::2].ravel(), 50, replace=False)
        assert np.array_equal(room._sample(volume, np.random.default_rng(1), 50), left)


def test_without_foreground_all_is_looked_at(tmp_path):
    made = scan(tmp_path, 0)
    nib.save(nib.Nifti1Image(np.zeros((8, 10, 6), np.uint8), LPI), made.masks[""])
    found = room.case_facts(made, dataset([made]), {"ct": 1})
    assert found["voxels"] == [0, 0] and len(found["samples"][0]) == 480 and np.isnan(found["detail"]).all()
