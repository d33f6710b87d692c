"""What the doctor says of classes and of copies on two sides of a split, and how a torn split is mended."""

from dataclasses import replace

import numpy as np
import pytest

from vesalius.core.errors import DataError
from vesalius.core.space import Space
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.doctor import examine, mended
from vesalius.data.labels import Labels
from vesalius.data.split import split
from vesalius.io import save
from vesalius.io.image import Image

TWO = Labels(names=("ill", "well"), values=((0,), (1,)), kind="classes")


def cohort(folder, number=16, *, ill=4, copies=()):
    """Pictures of noise of so many patients, `ill` of them ill; `copies` are (from, to) numbers of equal pictures."""
    cases = []
    source = dict(copies) and {to: one for one, to in copies}
    for k in range(number):
        pixels = np.random.default_rng(source.get(k, k) if source else k).integers(0, 255, (1, 24, 24)).astype(np.uint8)
        path = folder / f"{k:02}.png"
        save(Image(pixels, Space.of((24, 24), physical=False)), path)
        part = "train" if k < number // 2 else "test"
        cases.append(Case(f"c{k:02}", f"p{k:02}", {"image": path}, split=part, classes={"ill" if k % number < ill else "well": 1}))
    return Dataset("d", folder, "classify", tuple(cases), ("image",), TWO)


def told(findings, check, severity):
    return [f for f in findings if (f.check, f.severity) == (check, severity)]


def test_a_class_of_one_patient_is_an_error_and_a_rare_one_a_warning(tmp_path):
    alone = told(examine(cohort(tmp_path, ill=1)), "classes", "error")
    assert len(alone) == 1 and "'ill' occurs only in c00" in alone[0].message and alone[0].cases == ("c00",)
    assert any("'ill' occurs in 4 patients" in f.message for f in told(examine(cohort(tmp_path, ill=4)), "classes", "warning"))
    none = told(examine(cohort(tmp_path, ill=0)), "classes", "error")
    assert "in no case" in none[0].message


def test_pictures_and_volumes_among_the_channels_are_refused(tmp_path):
    data = cohort(tmp_path)
    save(Image(np.zeros((1, 8, 8, 8), np.uint8), Space.of((8, 8, 8))), tmp_path / "v.nii.gz")
    mixed = replace(data.cases[0], images={**data.cases[0].images, "scan": tmp_path / "v.nii.gz"})
    found = examine(replace(data, cases=(mixed, *data.cases[1:]), channels=("image", "scan")))
    assert any("mixed among the channels of c00" in f.message for f in told(found, "dimensions", "error"))


def test_equal_images_with_different_classes_are_told(tmp_path):
    found = told(examine(cohort(tmp_path, copies=[(1, 5)])), "classes", "warning")
    assert any("c01 = c05" in f.message and "different classes" in f.message for f in found)


def test_copies_on_two_sides_stop_a_split_and_are_mended_where_most_of_them_lie(tmp_path):
    data = cohort(tmp_path, copies=[(5, 12), (5, 13), (6, 14)])
    findings = examine(data)
    assert told(findings, "leak", "error")
    with pytest.raises(DataError, match=r"leaks|tears"):
        split(data, together=[("c05", "c12")])
    fixed, after = mended(data, findings)
    sides = {c.name: c.split for c in fixed.cases}
    assert (sides["c05"], sides["c12"], sides["c13"]) == ("test",) * 3, "two of three were there"
    assert (sides["c06"], sides["c14"]) == ("train", "train"), "one each: training"
    assert len({c.patient for c in fixed.cases if c.name in ("c05", "c12", "c13")}) == 1
    assert not told(after, "leak", "error") and told(after, "leak", "repaired")[0].cases == ("c05", "c14")
    assert not told(examine(fixed), "leak", "error") and split(fixed).test


def test_nothing_is_moved_where_nothing_leaks(tmp_path):
    data = cohort(tmp_path, copies=[(1, 2)])
    findings = examine(data)
    assert mended(data, findings) == (data, findings)


def test_images_that_nothing_is_known_of_are_looked_at_too(tmp_path):
    data = cohort(tmp_path, copies=[(1, 9)])
    bare = tuple(replace(case, classes=None) for case in data.cases)
    data = replace(data, task="pretrain", cases=bare, labels=Labels(names=(), values=()), alone=True)
    assert len(told(examine(data), "leak", "error")) == 1
