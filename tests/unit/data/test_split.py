"""Splits: by patient, honoured where given, alike in classes, repeatable, and never with a leak."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data import data_folder
from vesalius.core.errors import DataError
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.data.split import Split, _dealt, check, leaks, same_files, split

LABELS = Labels(names=("x",), values=((1,),))


def dataset(cases: list[Case]) -> Dataset:
    return Dataset("made", Path("/made"), "segment", tuple(cases), ("image",), LABELS)


def cohort(patients: int, each: int = 1, **metadata: list[str]) -> list[Case]:
    """`each` cases of every patient; metadata values go round."""
    made = []
    for k in range(patients):
        about = {word: values[k % len(values)] for word, values in metadata.items()}
        made += [Case(f"p{k:03}_{v}", f"p{k:03}", {"image": Path(f"/made/p{k}_{v}.nii")}, metadata=about) for v in range(each)]
    return made


def sides(made: Split) -> list[dict[str, set[str]]]:
    return [{"train": set(f.train), "val": set(f.val), "test": set(made.test)} for f in made.folds]


@settings(max_examples=60, deadline=None)
@given(patients=st.integers(12, 60), each=st.integers(1, 4), folds=st.sampled_from([1, 3, 5]), seed=st.integers(0, 99))
def test_every_case_once_and_no_patient_twice(patients, each, folds, seed):
    cases = cohort(patients, each)
    made = split(dataset(cases), folds=folds, seed=seed)
    owner = {case.name: case.patient for case in cases}
    assert len(made.folds) == folds
    for fold in sides(made):
        assert fold["train"] | fold["val"] | fold["test"] == set(owner)
        owners = [{owner[name] for name in side} for side in fold.values()]
        assert sum(map(len, owners)) == patients
    if folds > 1:
        validated = [name for fold in made.folds for name in fold.val]
        assert sorted(validated) == sorted(set(owner) - set(made.test))
    assert abs(len(made.test) / each - patients / 5) <= 1
    check(dataset(cases), made)


def test_same_seed_same_split_other_seed_another():
    data = dataset(cohort(40))
    assert split(data, seed=3) == split(data, seed=3) != split(data, seed=4)
    mixed = dataset(list(reversed(cohort(40))))
    assert split(mixed, seed=3).test == split(data, seed=3).test


def test_classes_are_shared_out_evenly():
    cases = cohort(50, diagnosis=["a", "a", "a", "a", "b"])
    made = split(dataset(cases), folds=4, seed=1)
    of = {case.name: case.metadata["diagnosis"] for case in cases}
    assert sum(of[name] == "b" for name in made.test) == 2  # 10 of 50 are b, a fifth is tested
    assert all(sum(of[name] == "b" for name in fold.val) == 2 for fold in made.folds)
    assert "diagnosis" in made.reason


def test_given_parts_are_kept():
    parts = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    cases = [replace(case, split=part) for case, part in zip(cohort(10), parts, strict=True)]
    made = split(dataset(cases))
    assert made.test == ("p008_0", "p009_0") and made.folds[0].val == ("p006_0", "p007_0") and "as given" in made.reason
    five = split(dataset(cases), folds=4)
    assert five.test == made.test and sorted(n for f in five.folds for n in f.val) == [f"p{k:03}_0" for k in range(8)]


def test_given_test_without_val_draws_one():
    cases = [replace(case, split="test" if k < 3 else "train") for k, case in enumerate(cohort(13))]
    made = split(dataset(cases))
    assert len(made.test) == 3 and len(made.folds[0].val) == 2


def test_cases_in_no_part_go_to_train_and_it_is_said():
    cases = [replace(case, split=part) for case, part in zip(cohort(6), ["train", "train", "val", "test", "", ""], strict=True)]
    made = split(dataset(cases))
    assert {"p004_0", "p005_0"} <= set(made.folds[0].train) and "no given part" in made.reason


def test_one_patient_on_two_sides_is_refused_with_the_evidence():
    cases = [replace(case, split=["train", "test"][k % 2]) for k, case in enumerate(cohort(4, 2))]
    with pytest.raises(DataError, match=r"'p000'.*p000_0.*p000_1"):
        split(dataset(cases))


def test_one_file_on_two_sides_is_refused(tmp_path):
    cases = []
    for k, part in enumerate(["train", "train", "val", "test"]):
        path = tmp_path / f"{k}.nii"
        path.write_bytes(b"same" * 100 if k in (1, 3) else bytes([k]) * 400)
        cases.append(Case(str(k), str(k), {"image": path}, split=part))
    with pytest.raises(DataError, match="same image file"):
        split(dataset(cases))


def test_copied_files_stay_together_when_the_split_is_made(tmp_path):
    cases = []
    for k in range(20):
        path = tmp_path / f"{k}.nii"
        path.write_bytes(bytes([k // 2]) * 300)
        cases.append(Case(f"{k:02}", f"{k:02}", {"image": path}))
    for fold in sides(split(dataset(cases), folds=3)):
        for side in fold.values():
            assert all(f"{int(name) ^ 1:02}" in side for name in side)


def test_files_of_one_size_and_one_end_are_told_apart(tmp_path):
    """Uncompressed scans often end in zeros; only whole copies count."""
    words = {"a": b"1" + bytes(5000), "b": b"2" + bytes(5000), "c": b"1" + bytes(5000), "d": b"1" + bytes(4000) + b"5" * 1000}
    for name, content in words.items():
        (tmp_path / f"{name}.nii").write_bytes(content)
    cases = [Case(name, name, {"image": tmp_path / f"{name}.nii"}) for name in words]
    assert [[case.name for case in found] for found in same_files(cases)] == [["a", "c"]]


def test_dealing_sorts_the_patients_once():
    """Comparisons of names grow as n log n, not as its product with n."""
    compared = []

    class Counted(str):
        def __lt__(self, other):
            compared.append(1)
            return str.__lt__(self, other)

    names = [Counted(f"p{k * 37 % 256:03}") for k in range(256)]
    groups = {name: cohort(1) for name in names}
    dealt = _dealt(names, groups, dict.fromkeys(names, ""), parts=4, generator=np.random.default_rng(0))
    assert sorted(map(len, dealt)) == [64] * 4
    assert len(compared) <= 256 * 8


def test_cases_named_together_stay_together():
    cases = cohort(30)
    pairs = [("p000_0", "p015_0"), ("p015_0", "p029_0")]
    for seed in range(5):
        made = split(dataset(cases), seed=seed, together=pairs)
        assert any({"p000_0", "p015_0", "p029_0"} <= side for side in sides(made)[0].values())
    torn = [replace(case, split="test" if case.name == "p000_0" else "train") for case in cases]
    with pytest.raises(DataError, match="tears copies apart"):
        split(dataset(torn), together=pairs)


@pytest.mark.parametrize(("patients", "folds"), [(2, 1), (4, 5), (1, 1)])
def test_too_few_patients_say_what_to_do(patients, folds):
    with pytest.raises(DataError, match=r"too few.*at least"):
        split(dataset(cohort(patients, 3)), folds=folds)


def test_check_finds_a_bad_file():
    data = dataset(cohort(10, 2))
    made = split(data)
    moved = made.folds[0].train[0]
    bad = replace(made, test=(*made.test, moved))
    with pytest.raises(DataError, match="two sides"):
        check(data, bad)
    lost = replace(made.folds[0], train=tuple(n for n in made.folds[0].train if n != moved))
    with pytest.raises(DataError, match="leaks"):
        check(data, replace(made, folds=(lost,), test=(*made.test, moved)))
    with pytest.raises(DataError, match="lacks"):
        check(data, replace(made, test=(*made.test, "nobody")))


def test_written_down_and_read():
    made = split(dataset(cohort(12)), folds=3)
    assert Split.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize("name", ["seg3d_hippocampus_mr", "cardiac_cine_mr", "tumour_sts_ct_pet_mr", "vessels_chase_db1",
                                  "cxr_lungs_lesions_seg", "us_breast_seg"])  # fmt: skip
def test_real_sets_have_no_leak(name):
    data = Dataset.open(data_folder(name))
    given_parts = {case.name: case.split for case in data.cases}
    assert not leaks(data.cases, given_parts)
    made = split(data)
    assert set(made.test) == {case.name for case in data.part("test")}
    assert set(made.folds[0].val) == {case.name for case in data.part("val")}


def test_leaks_that_are_allowed_stay_as_given_and_everything_else_is_by_patient():
    sides = ["train"] * 6 + ["test"] * 4
    cases = tuple(Case(f"c{k}", f"p{k % 6}", {"image": Path(f"{k}.png")}, split=side, classes={"a": 1}) for k, side in enumerate(sides))
    data = Dataset("d", Path("."), "classify", cases, ("image",), Labels(names=("a", "b"), values=((0,), (1,)), kind="classes"))
    with pytest.raises(DataError, match="leaks"):
        split(data)
    made = split(data, together=[("c0", "c6"), ("c1", "c2")], leaks="p0 to p3 lie on two sides.")
    assert made.test == ("c6", "c7", "c8", "c9") and made.leaks == "p0 to p3 lie on two sides."
    fold = made.folds[0]
    assert sorted(fold.train + fold.val) == [f"c{k}" for k in range(6)]
    assert {"c1", "c2"} <= set(fold.train) or {"c1", "c2"} <= set(fold.val), "copies within a side stay together"
    assert Split.from_json(made.to_json()) == made
