"""Folds that nnU-Net's splits_final.json states: kept, for one training and for cross-validation, and refused where they lie."""

from pathlib import Path

import pytest

from vesalius.core.errors import DataError
from vesalius.core.files import write_json
from vesalius.data.dataset import Dataset
from vesalius.data.layouts._example import write_case
from vesalius.data.split import split

NAMES = [f"a_{k:03}" for k in range(6)]
FOLDS = [{"train": [n for n in NAMES if n not in NAMES[2 * k : 2 * k + 2]], "val": NAMES[2 * k : 2 * k + 2]} for k in range(3)]


@pytest.fixture
def raw(tmp_path) -> Path:
    root = tmp_path / "nnUNet_raw" / "Dataset007_Made"
    for k, name in enumerate(NAMES):
        write_case(root / "imagesTr" / f"{name}_0000.nii.gz", root / "labelsTr" / f"{name}.nii.gz", seed=k)
    write_json(root / "dataset.json", {"channel_names": {"0": "T1"}, "labels": {"background": 0, "part": 1}, "file_ending": ".nii.gz"})
    return root


def preprocessed(root: Path) -> Path:
    return root.parent.parent / "nnUNet_preprocessed" / root.name / "splits_final.json"


@pytest.mark.parametrize("beside", [True, False])
def test_stated_folds_are_kept(raw, beside):
    file = raw / "splits_final.json" if beside else preprocessed(raw)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, FOLDS)
    dataset = Dataset.open(raw)
    assert any(str(file) in note for note in dataset.notes)
    (fold,), many = split(dataset).folds, split(dataset, folds=3)
    assert list(fold.val) == FOLDS[0]["val"] and list(fold.train) == FOLDS[0]["train"] and split(dataset).test == ()
    assert [{"train": list(f.train), "val": list(f.val)} for f in many.folds] == FOLDS and "states" in many.reason
    assert len(split(dataset, folds=2).folds) == 2, "another number is drawn"
    again = Dataset.from_json(dataset.to_json())
    assert split(again, folds=3) == many


def test_without_the_file_nothing_is_stated(raw):
    assert "folds" not in Dataset.open(raw).metadata and split(Dataset.open(raw)).test


@pytest.mark.parametrize(("words", "says"), [
    ([{"train": NAMES[1:], "val": ["b_000"]}], "names 1 cases that are not there: b_000"),
    ({"train": NAMES}, "not understood"),
    ([NAMES], "not understood"),
])  # fmt: skip
def test_a_file_that_does_not_fit_is_refused(raw, words, says):
    write_json(raw / "splits_final.json", words)
    with pytest.raises(DataError, match=says):
        Dataset.open(raw)


def test_a_patient_in_both_and_a_case_validated_twice_are_refused(raw):
    write_json(raw / "splits_final.json", FOLDS)
    with pytest.raises(DataError, match="leaks"):
        split(Dataset.open(raw, patient=r"a_00([12])|a_"), folds=3)
    write_json(raw / "splits_final.json", [FOLDS[0], FOLDS[0]])
    with pytest.raises(DataError, match="validate a_000, a_001 more than once"):
        split(Dataset.open(raw), folds=2)
