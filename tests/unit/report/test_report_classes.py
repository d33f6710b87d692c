"""The report of classes: curves against scikit-learn, the table of confusions, and a page that shows it all and stands alone."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn import metrics as oracle

from tests.unit.engine.test_whole import TWO, Brightness, cohort, folded, plan_of
from tests.unit.engine.tiny import answering, write_run
from vesalius.core.files import read_json, write_json
from vesalius.data.labels import Labels
from vesalius.engine.evaluate import evaluate
from vesalius.report import promises, write
from vesalius.report.classes import calibration_words, doubt
from vesalius.report.curves import ACTS, benefit, confusion, curves, decisions, precision_recall, reliability, roc
from vesalius.trust.operating import Rate

NAMES = ["dark", "bright"]


def rows(count=80, *, seed=0):
    draw, found = np.random.default_rng(seed), []
    for k in range(count):
        p = float(draw.random().__round__(2))
        truth, said = NAMES[int(draw.random() < p)], NAMES[int(p > 0.5)]
        state = "right" if truth == said else "wrong"
        found.append({"case": f"c{k}", "patient": f"c{k}", "label": truth, "truth": truth, "said": said, "state": state,
                      "probabilities": {"dark": 1 - p, "bright": p}})  # fmt: skip
    return found


def test_curves_are_those_of_scikit_learn():
    found = rows()
    there, p = np.array([r["truth"] == "bright" for r in found]), np.array([r["probabilities"]["bright"] for r in found])
    x, y = roc(there, p)
    fpr, tpr, _ = oracle.roc_curve(there, p, drop_intermediate=False)
    assert np.allclose(x, fpr) and np.allclose(y, tpr)
    recall, precision = precision_recall(there, p)
    expected = oracle.precision_recall_curve(there, p)
    assert np.allclose(recall, expected[1][:-1][::-1][: len(recall)]) and np.allclose(precision, expected[0][:-1][::-1][: len(recall)])


def test_reliability_compares_what_was_stated_with_what_came_true():
    stated, came = reliability(np.array([True, False, True, True]), np.array([0.14, 0.16, 0.95, 1.0]))
    assert stated == pytest.approx([0.15, 0.975]) and came == pytest.approx([0.5, 1.0])


def test_the_decision_curve_weighs_hits_against_alarms():
    found = rows()
    there, p = np.array([r["truth"] == "bright" for r in found]), np.array([r["probabilities"]["bright"] for r in found])
    ((title, drawn),) = decisions(found, found, NAMES)
    assert title.startswith("Decision curve") and "acting on everybody" in str(drawn) and "shallow baseline" in str(drawn)
    line = benefit(found, "bright")
    for act, worth in zip(ACTS, line, strict=True):
        said = p >= act
        assert worth == pytest.approx(((said & there).sum() - (said & ~there).sum() * act / (1 - act)) / 80, abs=1e-9)


@pytest.mark.parametrize(("kind", "names", "words"), [("classes", "ab", "one half"), ("findings", "abc", "one half"),
                                                      ("grades", "abc", "most probable"), ("classes", "abc", "most probable")])  # fmt: skip
def test_without_validation_what_is_said_depends_on_how_many_classes_there_are(kind, names, words):
    labels = Labels(names=tuple(names), values=tuple((k,) for k in range(len(names))), kind=kind)
    facts = SimpleNamespace(calibration={}, dataset=SimpleNamespace(labels=labels))
    assert words in calibration_words(facts)


def test_confusions_are_counted():
    found = rows()
    table = oracle.confusion_matrix([r["truth"] for r in found], [r["said"] for r in found], labels=NAMES)
    assert [[n for n, _ in cells] for _, cells in confusion(found, NAMES)] == table.tolist()
    assert confusion([{**found[0], "truth": "dark; bright"}], NAMES) == [], "findings have none"


def test_every_class_of_three_has_a_curve():
    made = curves([{**r, "probabilities": {**r["probabilities"], "other": 0.1}} for r in rows()], [], [*NAMES, "other"])
    assert [title.split(":")[0] for title, _ in made] == ["ROC", "Precision over recall", "Reliability"]
    assert all(f"<title>{name}</title>" in str(made[0][1]) for name in NAMES)


def test_folds_without_a_test_part_are_said_to_be_judged_by_each_other(tmp_path, monkeypatch):
    _, _, _ = folded(tmp_path, monkeypatch)
    page = Path(write(tmp_path / "run")).read_text(encoding="utf-8")
    assert "each fold by a temperature, thresholds and promises that were set on the other folds" in page
    assert "here they look better than they are" not in page and "never learned from it, but choices" in page
    found = promises.operating({"operating": [{"class": "a", "wish": "sensitivity", "least": 0.9, "thresholds": [0.25, 0.5],
                                               **dict.fromkeys(("sensitivity", "specificity", "ppv", "npv"), Rate.of(1, 2).to_json())}]})
    assert found[0][2] == "0.250 to 0.500"


def test_doubt_is_the_probability_of_the_truth():
    assert doubt({"truth": "dark", "probabilities": {"dark": 0.3, "bright": 0.7}}) == 0.3
    assert doubt({"truth": "a; b", "probabilities": {"a": 0.9, "b": 0.2, "c": 0.1}}) == 0.2
    assert doubt({"truth": "none", "probabilities": {"a": 0.6, "b": 0.2}}) == pytest.approx(0.4)


def test_the_page_shows_what_is_known_and_stands_alone(tmp_path, monkeypatch):
    data = cohort(tmp_path / "pictures")
    names = [c.name for c in data.cases]
    made = write_run(tmp_path / "run", data, plan_of(), folds=[(names[:8], names[8:30])], test=names[30:])
    run = answering(made, monkeypatch, [Brightness()])
    evaluate(run)
    counts = {name: {"cases": 4, "share": 0.5} for name in TWO.names}
    write_json(run.path / "fingerprint.json", {"shapes": [[8, 8]], "spacings": [[1, 1]], "physical": False, "cases": 8, "classes": counts})
    page = Path(write(run.path)).read_text(encoding="utf-8")
    wrong = [r for r in read_json(run.path / "metrics.json")["parts"]["test"]["model"]["rows"] if r["state"] == "wrong"]
    assert "What the model said" in page and "Reliability" in page and ("most wrong" in page or not wrong)
    assert "the temperature" in page and "On 10 cases of 10 patients" in page
    assert "What was promised, and what came of it" in page and "truth in the set of possible classes" in page
    area = read_json(run.path / "metrics.json")["parts"]["test"]["model"]["trust"]["areas"]["bright"]
    assert f"{area['auc']:.3f} ({area['low']:.3f} to" in page
    assert f"{len(wrong)} of 10 cases" in page and page.count("<image") >= 6
    assert "http" not in page.replace("http-equiv", "") and "missed entirely" not in page
    assert "Decision curve" in page
    live = Path(write(run.path, live=True)).read_text(encoding="utf-8")
    assert live.count("<image") == 0
    gone = json.loads((run.path / "dataset.json").read_text())
    gone["cases"][35]["images"]["image"] = str(tmp_path / "lost.png")
    (run.path / "dataset.json").write_text(json.dumps(gone))
    assert "It cannot be drawn" in Path(write(run.path)).read_text(encoding="utf-8")
