"""Cohorts on disk and the command that makes them."""

import json

import pytest

from vesalius.cli.main import main
from vesalius.cli.phantom import shape_of
from vesalius.core.errors import VesaliusError
from vesalius.core.files import read_json
from vesalius.phantoms import PHANTOMS
from vesalius.phantoms._cohort import write_cohort
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
