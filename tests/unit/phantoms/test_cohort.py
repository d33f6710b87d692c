"""Cohorts on disk and the command that makes them."""

import csv
import json

import pytest

from vesalius.cli.main import main
from vesalius.cli.phantom import shape_of
from vesalius.core.errors import VesaliusError
from vesalius.core.files import read_json
from vesalius.phantoms import PHANTOMS
from vesalius.phantoms._cohort import _splits, write_cohort
from vesalius.phantoms.brain_tumour.head import EXTENT


def test_the_command_makes_a_cohort_and_answers_in_json(tmp_path, capsys):
    folder = tmp_path / "made" / "cohort"
    assert main(["phantom", "brain_tumour", "-o", str(folder), "--cases", "1", "--size", "16", "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert answer["channels"] == ["T1", "T1c", "T2", "FLAIR"] and answer["parts"]["train"] == {"cases": 1, "patients": 1}
    assert answer["volumes_ml"] == {c: f["volumes_ml"] for c, f in read_json(folder / "facts.json").items()}
    assert "phantoms" in said.err
    assert main(["phantom", "brain_tumour", "-o", str(folder), "--cases", "1"]) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_wrong_name_is_answered_with_the_right_one(tmp_path, capsys):
    assert main(["phantom", "brain_tumor", "-o", str(tmp_path / "x")]) == 2
    assert "brain_tumour" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_a_failure_leaves_nothing_behind(tmp_path):
    phantom = PHANTOMS["brain_tumour"](("T1", "T9"))
    with pytest.raises(VesaliusError, match="T1"):
        write_cohort(phantom, tmp_path / "x", cases=2, shape=(16, 16, 16), seed=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [16, 56, 96])
def test_the_head_fits_isotropically(size):
    shape = shape_of(size, EXTENT)
    spacing = [length / side for length, side in zip(EXTENT, shape, strict=True)]
    assert shape[0] == size and max(spacing) / min(spacing) < 1.1


def test_films_come_in_class_folders_with_a_manifest(tmp_path, capsys):
    folder = tmp_path / "films"
    words = ["phantom", "chest_xray", "-o", str(folder), "--cases", "4", "--size", "24", "--set", "shortcut=1", "--json"]
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader((folder / "cases.csv").read_text().splitlines()))
    assert answer["classes"] == ["normal", "nodule", "pneumonia", "effusion"] and len(rows) == 4
    found = {path.relative_to(folder).as_posix() for path in folder.glob("*/*/*.png")}
    assert found == {row["image"] for row in rows} == {f"{row['split']}/{row['class']}/{row['case']}.png" for row in rows}
    assert all(int(row["marker"]) == (row["class"] != "normal") for row in rows)
    assert {row["case"] for row in rows} == set(answer["areas_cm2"]) and not (folder / "dataset.json").exists()
    assert not [column for column in rows[0] if column.endswith("_cm2")], "a size in the table would give the class away"


def test_an_option_that_the_phantom_does_not_have_is_refused(tmp_path, capsys):
    wrong = {"shortct=1": "shortcut", "shortcut": "NAME", "shortcut=x": "shortcut=x", "shortcut=3": "0 to 1"}
    for name, assignment, said in [("interaction", "a=1", "none"), *(("chest_xray", *pair) for pair in wrong.items())]:
        assert main(["phantom", name, "-o", str(tmp_path / "x"), "--set", assignment]) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_channels_of_a_class_cohort_stand_side_by_side(tmp_path):
    write_cohort(PHANTOMS["interaction"](), tmp_path / "pairs", cases=3, shape=(8, 8, 8), seed=0)
    for row in csv.DictReader((tmp_path / "pairs" / "cases.csv").read_text().splitlines()):
        assert all((tmp_path / "pairs" / row[column]).is_file() for column in ("image_first", "image_second", "truth"))


def test_parts_are_filled_class_by_class():
    kinds = ["a"] * 40 + ["b"] * 20
    splits = _splits(kinds, 0)
    assert [splits.count(part) for part in ("test", "val", "train")] == [15, 9, 36]
    assert {s for s, kind in zip(splits, kinds, strict=True) if kind == "b"} == {"test", "val", "train"}
    assert _splits([""] * 3, 1).count("train") == 1 and _splits([""] * 2, 1) == ["train"] * 2
