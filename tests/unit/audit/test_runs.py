"""Two runs laid side by side: the shared cases alone count, and runs that cannot be compared are told so."""

import json

import numpy as np
import pytest
from sklearn import metrics as oracle

from tests.unit.engine.test_whole import TWO, plan_of
from vesalius.audit.runs import compare_runs
from vesalius.cli.main import main
from vesalius.core.errors import DataError, VesaliusError
from vesalius.core.files import write_json
from vesalius.data.labels import Labels
from vesalius.testing.check_case_task import labels_of


def run_of(folder, names, *, seed=0, skill=1.0, labels=TWO, limit=0.5):
    """A run that holds nothing but its plan, thresholds and scores; the truth of a case follows from its number."""
    draw, rows = np.random.default_rng(seed), []
    for name in names:
        k = int(name[1:]) % 2
        p = 1 / (1 + np.exp(-draw.normal(skill * (2 * k - 1), 1)))
        rows.append({"case": name, "patient": name, "truth": labels.names[k],
                     "probabilities": dict(zip(labels.names, (1 - p, p), strict=True))})  # fmt: skip
    plan_of(labels).save(folder / "plan.json")
    write_json(folder / "calibration.json", {"version": 2, "thresholds": {labels.names[1]: limit}})
    write_json(folder / "metrics.json", {"parts": {"test": {"model": {"rows": rows}}}})
    return folder


NAMES = [f"c{k}" for k in range(60)]


def test_only_cases_of_both_count_each_by_its_own_threshold(tmp_path):
    first, second = run_of(tmp_path / "a", NAMES, limit=0.3), run_of(tmp_path / "b", [*NAMES[10:], "c99"], seed=1, skill=0.5, limit=0.7)
    found = compare_runs(first, second, draws=40)
    assert found["cases"] == found["patients"] == 50 and found["left_out"] == [10, 1]
    told = {one["metric"]: one for one in found["differences"]}
    for folder, word, limit in ((first, "first", 0.3), (second, "second", 0.7)):
        rows = [r for r in json.loads((folder / "metrics.json").read_text())["parts"]["test"]["model"]["rows"] if r["case"] in NAMES[10:]]
        truth, p = np.array([r["truth"] == "bright" for r in rows]), np.array([r["probabilities"]["bright"] for r in rows])
        assert told["auc"][word] == pytest.approx(oracle.roc_auc_score(truth, p))
        assert told["sensitivity"][word] == pytest.approx(oracle.recall_score(truth, p >= limit))
        assert told["npv"][word] == pytest.approx(oracle.precision_score(~truth, p < limit))
    same = compare_runs(first, first, draws=30)
    assert all(one["difference"] == 0 for one in same["differences"]) and same["discordant"]["first"] == same["discordant"]["second"] == 0


def test_the_command_says_the_same(tmp_path, capsys):
    first, second = run_of(tmp_path / "a", NAMES), run_of(tmp_path / "b", NAMES, seed=1)
    assert main(["compare", str(first), str(second), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["part"] == "test" and {"auc", "ece", "mcc"} <= {one["metric"] for one in told["differences"]}
    assert main(["compare", str(first), str(second)]) == 0
    page = capsys.readouterr().out
    assert "DeLong" in page and "McNemar" in page and "60 cases of 60 patients" in page


def test_findings_keep_what_is_unknown(tmp_path):
    labels = labels_of(2, "findings")
    made = []
    for seed in (0, 1):
        draw = np.random.default_rng(seed)
        rows = [{"case": f"c{k}", "patient": f"p{k // 2}", "truth": ("none", "class 0", "class 1", "class 0; class 1")[k % 4],
                 "probabilities": {name: float(draw.random()) for name in labels.names}} for k in range(40)]  # fmt: skip
        rows[4]["unknown"] = ["class 1"]
        plan_of(labels).save(tmp_path / str(seed) / "plan.json")
        write_json(tmp_path / str(seed) / "metrics.json", {"parts": {"test": {"model": {"rows": rows}}}})
        made.append(rows)
    found = compare_runs(tmp_path / "0", tmp_path / "1", draws=30)
    known = [[r for r in rows if "class 1" not in r.get("unknown", [])] for rows in made]
    auc = [np.mean([oracle.roc_auc_score(["class 0" in r["truth"] for r in rows], [r["probabilities"]["class 0"] for r in rows]),
                    oracle.roc_auc_score(["class 1" in r["truth"] for r in some], [r["probabilities"]["class 1"] for r in some])])
           for rows, some in zip(made, known, strict=True)]  # fmt: skip
    assert (found["differences"][0]["first"], found["differences"][0]["second"]) == pytest.approx(tuple(auc))
    assert found["discordant"] is None and "McNemar" in found["remarks"][0]


def test_rows_that_tell_their_own_threshold_are_decided_by_it(tmp_path):
    """As the cases of folds do, which were not judged by the threshold that the run keeps."""
    folder = run_of(tmp_path / "a", NAMES, limit=0.9)
    told = json.loads((folder / "metrics.json").read_text())
    rows = told["parts"]["test"]["model"]["rows"]
    for k, row in enumerate(rows):
        row["thresholds"] = {"bright": 0.2 + 0.2 * (k % 3)}
    (folder / "metrics.json").write_text(json.dumps(told))
    truth, p = np.array([r["truth"] == "bright" for r in rows]), np.array([r["probabilities"]["bright"] for r in rows])
    found = {one["metric"]: one["first"] for one in compare_runs(folder, folder, draws=30)["differences"]}
    assert found["accuracy"] == pytest.approx(np.mean((p >= 0.2 + 0.2 * (np.arange(60) % 3)) == truth))


def test_what_cannot_be_compared_is_an_error(tmp_path):
    first = run_of(tmp_path / "a", NAMES)
    with pytest.raises(DataError, match="no case of the part test in common"):
        compare_runs(first, run_of(tmp_path / "b", ["c100", "c101"]))
    other = Labels(names=("x", "y"), values=((0,), (1,)), kind="classes")
    with pytest.raises(DataError, match="same question"):
        compare_runs(first, run_of(tmp_path / "c", NAMES, labels=other))
    turned = Labels(names=("bright", "dark"), values=((1,), (0,)), kind="classes")
    with pytest.raises(DataError, match="looks for bright"):
        compare_runs(first, run_of(tmp_path / "d", NAMES, labels=turned))
    with pytest.raises(VesaliusError, match="no scores of the part val"):
        compare_runs(first, first, part="val")
    folder = run_of(tmp_path / "e", NAMES)
    text = (folder / "metrics.json").read_text().replace('"truth": "dark"', '"truth": "bright"', 1)
    (folder / "metrics.json").write_text(text)
    with pytest.raises(DataError, match="another truth"):
        compare_runs(first, folder)
    tree = json.loads((folder / "plan.json").read_text())
    tree["task"]["value"] = "segment"
    (folder / "plan.json").write_text(json.dumps(tree))
    with pytest.raises(VesaliusError, match="task segment"):
        compare_runs(first, folder)
