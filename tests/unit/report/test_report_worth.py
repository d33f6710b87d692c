"""The section on whether learning without labels was worth it: of a tiny run of its own, with its pictures, computed once."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.engine.test_whole import SIDE, cohort
from vesalius.audit import worth_run
from vesalius.audit.shown import strongest
from vesalius.audit.worth_run import load_arrays, read_worth, worth_of
from vesalius.core.errors import UsageError
from vesalius.engine.run import Run
from vesalius.engine.workflow import train
from vesalius.plan import Request
from vesalius.report import worth as section
from vesalius.report import write
from vesalius.tasks import aimed


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A restricted Boltzmann machine after a few steps on 30 pictures of 30 patients, 8 of whom are tested on."""
    folder = tmp_path_factory.mktemp("worth")
    data = cohort(folder / "pictures", 30)
    sides = ["train"] * 16 + ["val"] * 6 + ["test"] * 8
    data = data.with_cases(tuple(replace(case, split=side) for case, side in zip(data.cases, sides, strict=True)))
    words = ("train.method=rbm", 'train.arguments={"hidden": 6}', "train.steps=5", f"patch.size=[{SIDE},{SIDE}]", "patch.batch=8")
    return train(aimed(data, "pretrain", method="rbm"), folder / "run", wish=Request(budget=None, settings=words))


def test_the_report_has_the_section_and_keeps_what_it_found(run, monkeypatch):
    page = write(run.path).read_text(encoding="utf-8")
    assert "Was it worth it?" in page and "linear probe, AUC" in page and "before it learned" in page
    assert "annealed importance sampling" in page and "Filters of its first layer" in page and "Images that it makes" in page
    monkeypatch.setattr(worth_run, "worth", None)  # nothing is computed a second time
    assert "Was it worth it?" in write(run.path).read_text(encoding="utf-8")


def test_pictures_are_those_of_the_images(run):
    found, arrays = worth_of(run), load_arrays(run.path)
    names = [row["case"] for row in found["pictures"]["neighbours"]]
    assert set(names) <= set(run.splits["test"]) and len({row["shows"] for row in found["pictures"]["neighbours"]}) == 2
    data = worth_run.cohort_of(Run.open(run.path))
    place = data.test.names.index(names[0])
    assert arrays["asked"][0] == pytest.approx(data.test.images[place, 0], abs=2e-3)
    near = found["pictures"]["neighbours"][0]["nearest"][0]
    assert arrays["found"][0, 0] == pytest.approx(data.train.images[data.train.names.index(near["case"]), 0], abs=2e-3)
    assert arrays["given"].shape == arrays["back"].shape and arrays["filters"].shape == (6, SIDE, SIDE)
    assert len(found["pictures"]["map"]["x"]) == 8 and 0 < found["pictures"]["map"]["share"] <= 1


def test_other_weights_are_looked_at_anew(run):
    before = read_worth(run.path)["key"]
    file = run.path / "weights.safetensors"
    file.write_bytes(file.read_bytes())
    assert worth_run.key_of(run) != before


def test_the_row_of_a_clear_rival_is_coloured():
    cells = {"value": 0.7, "low": 0.6, "high": 0.8}
    found = {"measures": {"linear_probe": {"run": cells, "pca": cells, "kmeans": cells, "pixels": cells}},
             "differences": {"linear_probe": {"pca": {"low": 0.1, "high": 0.2}, "kmeans": {"low": -0.2, "high": -0.1},
                                              "pixels": {"low": -0.1, "high": 0.1}}}}  # fmt: skip
    (_, row), = section.measures(found)  # fmt: skip
    assert [cell.tone for cell in row] == ["", "worse", "better", ""] and row[0].text == "0.700"


def test_a_run_with_labels_has_no_such_section(tmp_path):
    from tests.unit.engine.test_whole import plan_of
    from tests.unit.engine.tiny import write_run
    from vesalius.report.facts import gather

    made = write_run(tmp_path / "run", cohort(tmp_path / "pictures", 8), plan_of())
    assert section.results(gather(made.path)) is None
    with pytest.raises(UsageError, match="learned from labels"):
        worth_of(made)


def test_a_map_of_points_is_drawn_with_what_they_show():
    drawn = section.scatter({"x": [0.0, 1.0], "y": [0.0, 2.0], "shows": ["a", "b"]})
    assert drawn.count("<circle") == 2 and "fold0" in drawn and "fold1" in drawn
    assert section.scatter({"x": [], "y": [], "shows": []}) == ""


def test_both_ends_of_a_likelihood_can_be_told_apart():
    (_, _, cell), = section.likelihood([{"who": "run", "how": "exact", "value": -2.0, "low": -3.0, "high": -1.0}])  # fmt: skip
    assert cell.low == "\u22123.0 to \u22121.0"


def test_a_filter_is_shown_in_the_channel_where_it_has_most():
    weights = np.zeros((3, 2, 2, 2), np.float32)
    weights[0, 1], weights[1, 0], weights[2, 1, 0, 0] = 1, 3, 9
    np.testing.assert_array_equal(strongest(weights), weights[[2, 1, 0], [1, 0, 1]][:, None])
