"""Bad input of whole cases is told in words before anything is learned, and left out only where that was asked for."""

import nibabel as nib
import numpy as np
import pytest

from tests.journey.test_classes import picture
from vesalius.cli.main import main
from vesalius.core.files import read_json


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """40 patients, two classes, 8 x 10 pixels."""
    monkeypatch.setenv("VESALIUS_HOME", str(tmp_path / "home"))
    for k in range(40):
        picture(tmp_path / "data" / ("well", "ill")[k % 2] / f"patient{k:02}.png", ill=k % 2 == 1, seed=k, side=8)
    return tmp_path / "data"


def refused(capsys, *words):
    """What is said of a command that must fail."""
    assert main([str(word) for word in words]) == 1
    return capsys.readouterr().err


def test_an_unreadable_image_among_many_stops_the_run_or_is_left_out_by_name(folders, tmp_path, capsys):
    (folders / "ill" / "patient07.png").write_bytes(b"\x89PNG nonsense")
    words = ("train", folders, "-o", tmp_path / "run", "--budget", "none", "--set", "train.steps=2")
    said = refused(capsys, *words)
    assert "patient07" in said and "Restore" in said and not (tmp_path / "run" / "plan.json").exists()
    assert main([*map(str, words), "--skip-bad"]) == 0
    assert "Left out, because they cannot be used: patient07" in capsys.readouterr().err
    kept = {case["name"] for case in read_json(tmp_path / "run" / "dataset.json")["cases"]}
    assert len(kept) == 39 and "patient07" not in kept
    assert any(f["check"] == "unreadable" and f["cases"] == ["patient07"] for f in read_json(tmp_path / "run" / "doctor.json"))


def test_a_file_that_a_table_names_and_nobody_has_is_left_out_by_name(folders, tmp_path, capsys):
    lines = ["image,class", *(f"{path},{path.parent.name}" for path in sorted(folders.glob("*/*.png")))]
    (folders / "ill" / "patient07.png").unlink()
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    words = ("train", tmp_path / "table.csv", "-o", tmp_path / "run", "--budget", "none", "--set", "train.steps=2")
    said = refused(capsys, *words)
    assert "patient07.png does not exist" in said and "--skip-bad" in said
    assert main([*map(str, words), "--skip-bad"]) == 0
    assert "Left out, because they cannot be used: patient07" in capsys.readouterr().err
    for k in range(9, 18, 2):
        (folders / "ill" / f"patient{k:02}.png").unlink()
    assert "Paths are relative to the table" in refused(capsys, *words[:3], tmp_path / "other"), "one in ten is no accident"


def test_a_class_of_one_case_is_refused_whatever_may_be_skipped(folders, tmp_path, capsys):
    picture(folders / "rare" / "alone.png", ill=True, seed=99, side=8)
    for more in ((), ("--skip-bad",)):
        said = refused(capsys, "train", folders, "-o", tmp_path / "run", "--budget", "none", *more)
        assert "'rare' occurs only in alone" in said and "merge it with another class" in said


def test_a_label_that_is_not_in_the_list_is_named(folders, tmp_path, capsys):
    lines = ["image,class", *(f"{path},{path.parent.name}" for path in sorted(folders.glob("*/*.png")))]
    lines[5] = lines[5].rpartition(",")[0] + ",il"
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    said = refused(capsys, "train", tmp_path / "table.csv", "-o", tmp_path / "run", "--budget", "none", "--label", "healthy=well",
                   "--label", "sick=ill")  # fmt: skip
    assert "il" in said and "healthy" in said and "sick" in said


def test_pictures_and_volumes_in_one_set_are_refused_or_the_few_are_left_out(folders, tmp_path, capsys):
    for k in range(2):
        nib.save(nib.Nifti1Image(np.random.default_rng(k).normal(size=(8, 8, 6)).astype(np.float32), np.eye(4)),
                 folders / "ill" / f"volume{k}.nii.gz")  # fmt: skip
    words = ("train", folders, "-o", tmp_path / "run", "--budget", "none", "--set", "train.steps=2")
    said = refused(capsys, *words)
    assert "2 cases have 3 dimensions, the others 2: volume0, volume1" in said and "two data sets" in said
    assert main([*map(str, words), "--skip-bad"]) == 0
    assert "volume0, volume1" in capsys.readouterr().err
