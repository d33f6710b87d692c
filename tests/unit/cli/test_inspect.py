"""`vesalius inspect`: the answer on stdout, pictures on request, exit code 1 where a training would stop."""

import json

import pytest

from vesalius.cli.main import main
from vesalius.data.layouts import LAYOUTS


@pytest.fixture
def scans(tmp_path):
    LAYOUTS["pairs"]().example(tmp_path / "scans")
    return tmp_path / "scans"


def test_a_healthy_set(scans, capsys):
    assert main(["inspect", str(scans)]) == 0
    said = capsys.readouterr().out
    assert "'pairs'" in said and "255 is read as 1" in said and "4         4" in said


def test_json_is_all_that_is_on_stdout(scans, tmp_path, capsys):
    assert main(["inspect", str(scans), "--json", "-o", str(tmp_path / "seen")]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["layout"] == "pairs" and answer["parts"]["all"] == {"cases": 4, "patients": 4}
    assert json.loads((tmp_path / "seen" / "doctor.json").read_text()) == answer["findings"]
    assert (tmp_path / "seen" / "cases.png").stat().st_size > 1000


def test_what_would_stop_a_training_ends_with_1(scans, capsys):
    (scans / "images" / "2.png").write_bytes(b"nonsense")
    assert main(["inspect", str(scans)]) == 1
    assert "error    unreadable" in capsys.readouterr().out


def test_labels_patients_and_globs(scans, capsys):
    words = ["--image", "images/*.png", "--mask", "masks/*.png", "--label", "nodule=255", "--patient", "[0-9]", "--json"]
    assert main(["inspect", str(scans), *words]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["labels"]["names"] == ["nodule"] and answer["labels"]["values"] == [[255]]


def test_a_wrong_folder_is_said(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "nowhere")]) == 1
    assert "does not exist" in capsys.readouterr().err
