"""A channel that a new case lacks: filled in by a deep Boltzmann machine, written on the case's own grid, in its own units, and said."""

import json

import numpy as np
import pytest

from vesalius.audit.worth_run import worth_of
from vesalius.core.space import Space
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.data.normalise import Normalise
from vesalius.engine.missing import in_units, lacking, places
from vesalius.engine.predict import predict
from vesalius.engine.workflow import train
from vesalius.io import load, save
from vesalius.io.image import Image
from vesalius.plan import Request
from vesalius.report import write
from vesalius.tasks import aimed

SHAPE = (8, 6, 4)
SPACE = Space(SHAPE, np.diag([-2.0, 2.0, 3.0, 1.0]), physical=True)
CHANNELS = {"T1": 1, "T2": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(run, folder): volumes whose T2 is bright where T1 is dark, half of them in front and half behind."""
    folder = tmp_path_factory.mktemp("pairs")
    draw, cases = np.random.default_rng(0), []
    for k in range(24):
        pixels = draw.normal(0, 2, (2, *SHAPE)) + 50
        half = slice(None, 4) if k % 2 else slice(4, None)
        pixels[0, half] += 100
        pixels[1] += 100
        pixels[1, half] -= 100
        paths = {name: folder / f"case{k:02d}_{name}.nii.gz" for name in CHANNELS}
        for name, one in zip(CHANNELS, pixels, strict=True):
            save(Image(one[None].astype(np.float32), SPACE), paths[name])
        cases.append(Case(f"case{k:02d}", f"case{k:02d}", paths, split="train" if k < 16 else "val" if k < 20 else "test"))
    data = Dataset("pairs", folder, "pretrain", tuple(cases), tuple(CHANNELS), Labels(names=(), values=()), alone=True)
    words = ("train.method=dbm", 'train.arguments={"hidden": [8, 4]}', "train.steps=200", "patch.batch=16",
             "patch.size=[8,8,4]", "train.learning_rate=0.05")  # fmt: skip
    run = train(aimed(data, "pretrain", method="dbm"), folder / "run", wish=Request(budget=None, settings=words))
    return run, folder, data


def test_a_channel_that_is_missing_is_written_on_the_grid_of_the_case(made, tmp_path):
    run, _, data = made
    whole, lone = data.cases[20], Case("lone", "lone", {"T1": data.cases[21].images["T1"]})
    done = {a.case: a for a in predict(run, [whole, lone], tmp_path / "answers")}
    assert done["lone"].row["filled_in"] == "T2" and "filled_in" not in done[whole.name].row
    image, truth = load(done["lone"].path), load(data.cases[21].images["T2"])
    assert done["lone"].path.name == "lone_T2.nii.gz" and image.space.shape == SHAPE
    np.testing.assert_allclose(image.space.affine, SPACE.affine)
    bright = truth.array[0] > 100
    assert image.array[0][bright].mean() > image.array[0][~bright].mean() + 0.3  # of 0 to 1: each image has its own scale
    table = json.loads((tmp_path / "answers" / "predictions.json").read_text())["cases"]
    assert {row["case"]: row.get("filled_in") for row in table} == {whole.name: None, "lone": "T2"}


def test_the_report_says_how_well_channels_are_filled_in(made):
    found = worth_of(made[0])["filling"]
    assert [row["channel"] for row in found] == ["T1", "T2"]
    assert all(row["run"]["value"] < row["mean"]["value"] for row in found)
    page = write(made[0].path).read_text(encoding="utf-8")
    assert "A channel that is missing, filled in from the others" in page and "T2, and as the other channels let it be filled in" in page


def test_numbers_and_units():
    assert lacking(Case("a", "a", {}), CHANNELS) == ("T1", "T2") and lacking(Case("a", "a", {"T2": None}), CHANNELS) == ("T1",)
    assert list(places("T2", {"T1": 3, "T2": 2})) == [3, 4]
    values = np.array([10.0, 120.0, 200.0], np.float32)
    for rule in (Normalise(kind="unit", low=0, high=250), Normalise(kind="window", low=-500, high=500, mean=40, std=20)):
        np.testing.assert_allclose(in_units(rule.apply(values), rule), values, rtol=1e-5)
    own = Normalise(kind="unit")
    np.testing.assert_array_equal(in_units(values, own), values)  # each image has its own scale, which nobody knows
