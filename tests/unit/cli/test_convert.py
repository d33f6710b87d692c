"""`vesalius convert`: another format, another grid, and clear words where neither can be."""

import json

import numpy as np
import pytest

from vesalius import io
from vesalius.cli.main import main
from vesalius.core.space import Space
from vesalius.io.image import Image


@pytest.fixture
def scan(tmp_path):
    array = np.random.default_rng(0).normal(size=(1, 8, 9, 10)).astype(np.float32)
    io.save(Image(array, Space.of((8, 9, 10), (1.0, 1.0, 2.0), origin=(3, 4, 5))), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha", ".npz", ".tif"])
def test_pixels_and_place_are_kept(scan, ending, capsys):
    target = scan.with_name(f"out{ending}")
    assert main(["convert", str(scan), str(target)]) == 0
    before, after = io.load(scan), io.load(target)
    assert np.array_equal(before.array, after.array) and before.space.distance_to(after.space) < 1e-4
    assert "8 x 9 x 10 float32" in capsys.readouterr().out


def test_like_another_image(scan, capsys):
    mask = Image(np.ones((1, 4, 4, 4), np.uint8), Space.of((4, 4, 4), (2.0, 2.0, 4.0), origin=(3.5, 4.5, 6)))
    io.save(mask, scan.with_name("mask.nii.gz"))
    arguments = ["convert", str(scan.with_name("mask.nii.gz")), str(scan.with_name("out.nii.gz")), "--like", str(scan), "--json"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    found = io.load(scan.with_name("out.nii.gz"))
    assert told["order"] == 0 and told["shape"] == [8, 9, 10] and found.space.same_as(io.load(scan).space)
    assert set(np.unique(found.array)) == {0, 1} and found.array.sum() == 8 * 8 * 8


def test_another_spacing(scan):
    assert main(["convert", str(scan), str(scan.with_name("out.nrrd")), "--spacing", "2"]) == 0
    assert io.header(scan.with_name("out.nrrd")).space.shape == (4, 4, 10)


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["out.png"], 1, "two axes"),
        (["out.nrd"], 1, "Did you mean"),
        (["out.nrrd", "--order", "1"], 2, "--like IMAGE or --spacing"),
        (["out.nrrd", "--spacing", "1,2"], 2, "Expected 3 positive numbers"),
        (["out.nrrd", "--spacing", "x"], 2, "millimetres with commas"),
        (["out.nrrd", "--spacing", "1", "--like", "scan.nii.gz"], 2, "both name a grid"),
    ],
)
def test_what_cannot_be(scan, capsys, monkeypatch, more, code, says):
    monkeypatch.chdir(scan.parent)
    assert main(["convert", "scan.nii.gz", *more]) == code
    assert says in capsys.readouterr().err
