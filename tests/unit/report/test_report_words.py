import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.report.fake_run import log, make, scores
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.engine.scores import summarise
from vesalius.report.facts import Curve, Facts, read_log
from vesalius.report.limits import limits
from vesalius.report.repeat import command_line, commands, environment
from vesalius.report.tables import case_table, in_words, metadata, metrics, plan_groups, results, splits, with_unit
from vesalius.report.verdict import done, seconds_left, verdict


def facts(**more: Any) -> Facts:
    nothing: dict[str, Any] = {"plan": {}, "record": {}, "dataset": None, "splits": {}, "doctor": None, "fingerprint": {}, "metrics": {}}
    return Facts(**{"folder": Path("run"), "live": False, **nothing, "curves": (), "trained": False, **more})


def evaluated(model: float, baseline: float | None, *, cases: int = 40, part: str = "test", **more: Any) -> Facts:
    names, rng = [f"c{k}" for k in range(cases)], np.random.default_rng(0)
    means = {who: mean for who, mean in (("m", model), ("b", baseline)) if mean is not None}
    made = {who: summarise(scores(names, ("a", "b"), rng, mean)["rows"][:-2]) for who, mean in means.items()}
    return facts(metrics={"unit": "mm", "parts": {part: {"model": made["m"], "baseline": made.get("b"), "raters": {}}}}, **more)


def titles(of: Facts) -> list[str]:
    return [title for title, _ in limits(of)]


def test_the_verdict_follows_the_interval_of_the_difference():
    better = verdict(evaluated(0.87, 0.70))
    assert (better.tone, better.headline) == ("good", "The model is clearly better than the shallow baseline.")
    said = " ".join(better.sentences)
    mean = np.mean([row["dice"] for row in evaluated(0.87, 0.70).rows])
    assert f"On 39 cases of 20 patients that it never saw while learning, the model reaches a mean Dice of {mean:.3f}" in said
    assert "deep learning adds 0.1" in said and "No structure was missed entirely." in said and "The hardest label is b" in said
    short = Curve("", [23], [48], [1.0], [1.0], [None], [None])
    worse = verdict(evaluated(0.70, 0.87, curves=(short,)))
    assert worse.tone == "bad" and "changes by −0.1" in worse.sentences[1]
    assert worse.sentences[-1] == "It learned for 48 s (23 steps): more time is the first thing to try."
    same = evaluated(0.80, 0.80)
    assert verdict(same).tone == "unsure" and "Test set too small to tell" in titles(same)
    alone = evaluated(0.87, None)
    assert verdict(alone).tone == "neutral" and "No baseline" in titles(alone)


def test_validation_cases_are_not_sold_as_a_test():
    found = evaluated(0.87, 0.7, part="val")
    assert "watched meanwhile" in verdict(found).sentences[0] and "No test set" in titles(found)


def alone(measures: dict[str, float]) -> Facts:
    """A run that has learned from images alone, with these measures of all images, the baseline's 0."""
    rows = [{"case": f"c{k}", "patient": f"c{k}", "label": "all", "error": 0.1} for k in range(9)]
    cells = {who: {"all": {name: {"mean": value * (who == "model"), "low": 0.0, "high": 1.0} for name, value in measures.items()}}
             for who in ("model", "baseline")}  # fmt: skip
    part = {who: {"rows": rows, "summary": cells[who]} for who in cells}
    gap = {"all": {name: {"mean": value, "low": value - 0.1, "high": value + 0.1} for name, value in measures.items()}}
    metrics = {"unit": "mm", "leading": ["neighbours", "explained"], "parts": {"test": {**part, "raters": {}, "difference": gap}}}
    images = Dataset("set", Path("/set"), "pretrain", (), ("image",), Labels(names=(), values=()), alone=True)
    return facts(metrics=metrics, dataset=images)


def test_without_classes_a_pre_training_is_judged_by_what_it_gives_back():
    told = verdict(alone({"explained": 0.42, "error": 0.1}))
    assert told.headline == "The model is clearly better than the shallow baseline." and told.tone == "good"
    assert "the model reaches an Explained variance of 0.420" in told.sentences[0]
    both = verdict(alone({"neighbours": 0.7, "explained": 0.42, "error": 0.1}))
    assert "an Accuracy by neighbours of 0.700" in both.sentences[0]
    nothing = verdict(alone({"strange": 3.0}))
    assert nothing.headline == "The model has learned; what it says could not be tested."


def test_a_second_rater_is_compared_with():
    found = evaluated(0.87, 0.7)
    part = found.metrics["parts"]["test"]
    part["raters"] = {"Dr. B": part["baseline"]}
    sentence = next(s for s in verdict(found).sentences if "Dr. B" in s)
    assert "the model is above that (+0.1" in sentence and "One rater" not in titles(found)


def test_missed_and_hallucinated_structures_are_named():
    found = evaluated(0.87, 0.7)
    rows = found.rows
    rows[0] |= {"state": "missed", "dice": 0.0}
    rows[5] |= {"state": "hallucinated", "dice": 0.0}
    rows[7] |= {"state": "both_empty", "dice": 1.0}
    assert verdict(found).sentences[-1] == "Of 76 structures, 1 was missed entirely; 1 structure marked where there is none."
    said = dict(limits(found))
    assert said["Missed"].endswith("a in c0.") and said["Hallucinated"].endswith("b in c2.")
    there = [r["dice"] for r in rows if r["state"] in ("scored", "missed")]
    assert f"Of the {len(there)} that are there, the mean Dice is {np.mean(there):.3f}." in said["Empty structures"]


def test_few_patients_and_rare_labels_are_limits():
    assert "Few patients" in titles(evaluated(0.8, 0.7, cases=20)) and "Few patients" not in titles(evaluated(0.8, 0.7, cases=60))
    assert "Rare labels" in titles(evaluated(0.8, 0.7, cases=9))
    one = evaluated(0.8, 0.7, cases=3)
    assert "One patient" in titles(one)


def test_where_the_scans_come_from_is_asked():
    labels = Labels(names=("a",), values=((1,),))
    cases = tuple(Case(f"c{k}", f"p{k // 2}", {}, metadata={"scanner": "A"}) for k in range(4))
    known = evaluated(0.8, 0.7, dataset=Dataset("d", Path(), "segment", cases, ("x",), labels))
    assert "Where the scans come from" not in titles(known) and "One case, one patient" not in titles(known)
    bare = tuple(Case(f"c{k}", f"c{k}", {}) for k in range(4))
    unknown = evaluated(0.8, 0.7, dataset=Dataset("d", Path(), "segment", bare, ("x",), labels))
    assert {"Where the scans come from", "One case, one patient"} <= set(titles(unknown))


def test_every_list_of_limits_ends_with_what_was_not_tested():
    for found in (facts(), evaluated(0.8, 0.7)):
        assert titles(found)[-1] == "Not a medical device"
    assert titles(facts(doctor=[{"severity": "warning"}]))[:2] == ["Not evaluated", "Findings in the data"]


def test_a_run_says_how_far_it_is():
    half = Curve("", [1, 50], [1, 60], [0.01, 0.25], [1, 0.5], [None, None], [None, 0.7])
    training = verdict(facts(live=True, curves=(half,)))
    assert training.progress == 0.25 and ("time left", "3 min", "at the speed so far") in training.figures
    assert seconds_left(facts(curves=(half,))) == pytest.approx(180)
    five = facts(curves=(half,), splits={"folds": [{}] * 5})
    assert done(five) == pytest.approx(0.05) and seconds_left(five) == pytest.approx(60 * 19)
    assert "not done" in verdict(facts(curves=(half,))).headline and "25 %" in verdict(facts(curves=(half,))).sentences[0]
    assert "not evaluated" in verdict(facts(curves=(half,), trained=True)).headline
    assert verdict(facts()).headline == "Nothing has been trained yet."
    assert seconds_left(facts()) is None and verdict(facts(live=True, curves=(Curve(""),))).progress == 0


def test_a_log_that_is_being_written_is_read(tmp_path: Path):
    log(tmp_path / "log.csv", steps=200, reach=0.5)
    with open(tmp_path / "log.csv", "a", encoding="utf-8") as file:
        file.write("101,60.0,0.50")
    curve = read_log(tmp_path / "log.csv")
    assert len(curve.step) == 100 and curve.done == pytest.approx(0.5) and curve.validation.count(None) == 99
    (tmp_path / "log.csv").write_text("step,seconds,progress,loss,learning_rate,validation\n1,2,0.1,nan,inf,\n", encoding="utf-8")
    assert read_log(tmp_path / "log.csv").loss == [None]


def test_a_plan_becomes_a_table():
    tree = {"version": {"value": 1, "reason": ""}, "folds": {"value": 5, "reason": "asked for"},
            "net": {"name": {"value": "unet", "reason": "why"}, "encoder": {"depth": {"value": 4, "reason": ""}}}}  # fmt: skip
    assert plan_groups(tree) == [("net", [("name", "unet", "why"), ("encoder.depth", "4", "")]), ("general", [("folds", "5", "asked for")])]
    assert [in_words(v) for v in (None, True, 0.1, [1, [2, 3]], {"a": 1}, "x")] == ["–", "yes", "0.1", "1, (2, 3)", "a: 1", "x"]
    told = [with_unit(*pair) for pair in (("seconds", 1174.2), ("step_seconds", 0.864), ("memory_bytes", 2**30), ("parameters", 1403210))]
    assert told == ["20 min", "0.864 s", "1.00 GiB", "1\u202f403\u202f210"]


def test_the_table_of_cases_keeps_the_worst_where_it_must_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vesalius.report.tables.MOST_ROWS", 3)
    rows = [{"case": f"c{k}", "patient": "p", "label": "a", "dice": d, "state": "scored"} for k, d in enumerate([0.9, None, 0.1, 0.5, 0.7])]
    lines, left_out = case_table(rows, ["dice"], "dice")
    assert [line[0].text for line in lines] == ["c2", "c3", "c4"] and left_out == 2
    assert lines[0][3].fill == 0.1 and lines[0][3].text == "0.100"


def test_results_name_the_better_side():
    rows = {who: [{"case": f"c{k}", "label": "a", "dice": d + k / 1000, "hd95": h + k / 1000, "state": "scored"} for k in range(30)]
            for who, d, h in (("m", 0.9, 5.0), ("b", 0.8, 3.0))}  # fmt: skip
    columns = metrics(rows["m"])
    assert columns == ["dice", "hd95"]
    lines = results({"model": {"rows": rows["m"]}, "baseline": {"rows": rows["b"]}, "raters": {}}, columns)
    cells = next(line for line in lines if line.kind == "difference").cells
    assert [(c.text, c.tone) for c in cells] == [("+0.100", "better"), ("+2.00", "worse")]


def test_splits_and_patients_are_counted(tmp_path: Path):
    labels = Labels(names=("a",), values=((1,),))
    cases = tuple(Case(f"c{k}", f"p{k // 2}", {}, metadata={"sex": "FM"[k % 2], "age": 20 + k}) for k in range(10))
    data = Dataset("d", tmp_path, "segment", cases, ("x",), labels)
    parts = {"folds": [{"train": ["c0", "c1", "c2"], "val": ["c4"]}] * 2, "test": ["c8", "c9"]}
    assert splits(facts(dataset=data, splits=parts)) == [("train (fold 1 of 2)", 3, 2), ("validation (fold 1 of 2)", 1, 1), ("test", 2, 1)]
    assert metadata(data) == [("sex", "F (5) and M (5)"), ("age", "median 24.5, 20 to 29")]


def test_the_command_can_be_typed_again():
    assert command_line(["/opt/x/bin/vesalius", "train", "my scans", "-o", "run"]) == "vesalius train 'my scans' -o run"
    assert command_line(["/opt/x/vesalius/__main__.py", "train"]) == "python -m vesalius train"
    assert command_line([]) == ""
    record = {"date": "2026", "machine": {"cores": 2, "memory_bytes": 2**34}, "versions": {"vesalius": "0.1.0"}, "seed": 0}
    assert ("memory", "16.0 GiB") in environment(record) and ("seed", "0") in environment(record)
    lines = dict(commands(replace(facts(record=record), folder=Path("my run"))))
    assert lines["Install the same version"] == "pip install 'vesalius[train]==0.1.0'"
    assert lines["Score it again"] == "vesalius evaluate 'my run'"


def test_the_fake_run_is_like_a_real_one(tmp_path: Path):
    """The made-up scores have the very keys that evaluation writes."""
    folder = make(tmp_path / "run", tests=3, drawn=0)
    made = json.loads((folder / "metrics.json").read_text())["parts"]["test"]["model"]
    assert made.keys() == summarise(made["rows"]).keys()
    assert made["summary"].keys() == summarise(made["rows"])["summary"].keys()


def test_outlines_that_are_left_out_are_a_limit():
    found = evaluated(0.8, 0.7, calibration={"outlines": {"lesion": {"log_odds": 2.5}}, "single": {"liver": {}, "spleen": {}}})
    said = dict(limits(found))["Outlines left out"]
    assert said.startswith("Outlines of lesion (2.5") and "of liver and spleen the largest outline alone is kept" in said
    assert "Outlines left out" not in titles(evaluated(0.8, 0.7, calibration={"networks": ["first"]}))
