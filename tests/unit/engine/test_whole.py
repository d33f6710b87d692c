"""Answers to whole cases: who answers whom, what validation sets and testing uses, and tables that a killed job continues."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.engine.tiny import answering, write_run
from vesalius.augment import Augment
from vesalius.core.errors import DataError
from vesalius.core.files import read_json
from vesalius.core.space import Space
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.data.normalise import Normalise
from vesalius.data.prepare import Preparation
from vesalius.engine.answered import Options
from vesalius.engine.evaluate import evaluate, evaluate_files
from vesalius.engine.member import SAMPLES, method_of
from vesalius.engine.predict import predict
from vesalius.engine.train import Loop
from vesalius.engine.whole import logits, look
from vesalius.io import load, save
from vesalius.io.image import Image
from vesalius.plan.plan import Expected, Net, Patch, Plan, Predict, Train
from vesalius.report.tables import results
from vesalius.tasks import TASKS

TWO = Labels(names=("dark", "bright"), values=((0,), (1,)), kind="classes")
SIDE = 8


def plan_of(labels=TWO, *, steps=30, settings=()):
    """A plan made by hand; pixels are seen as (value - 100) / 10."""
    rule = Normalise(kind="window", low=0, high=255, mean=100, std=10)
    expected = Expected(device="cpu", budget_seconds=None, step_seconds=0.01, tile_seconds=0.001, steps=steps, epochs=1.0, memory_bytes=1,
                        parameters=1)  # fmt: skip
    made = Plan(task="classify", labels=labels, preparation=Preparation(channels={"image": 1}, normalise=(rule,), fit="stretch", order=1),
                patch=Patch(size=(SIDE, SIDE), batch=8, foreground=0.0), net=Net(name="compact", ndim=2, channels=(4, 6)),
                augment=Augment(mirror=(False, True)), predict=Predict(batch=5), expected=expected,
                train=Train(steps=steps, learning_rate=1e-2, weight_decay=1e-4, deterministic=True, validations=2))  # fmt: skip
    return made.with_settings(list(settings))


def cohort(folder, number=40, *, labels=TWO, patients=None):
    """Pictures around 100, the bright ones around 120, with some in between."""
    cases, draw = [], np.random.default_rng(0)
    for k in range(number):
        bright = k % 2
        pixels = draw.normal(100 + 20 * bright + draw.normal(0, 6), 3, (1, SIDE, SIDE)).clip(0, 255).astype(np.uint8)
        path = Path(folder) / f"{k:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(Image(pixels, Space.of((SIDE, SIDE), physical=False)), path)
        cases.append(Case(f"c{k:02}", patients[k] if patients else f"p{k:02}", {"image": path}, metadata={"sex": "FM"[k // 2 % 2]},
                          classes={labels.names[bright]: 1}))  # fmt: skip
    return Dataset("tiny", Path(folder), "classify", tuple(cases), ("image",), labels)


class Brightness(nn.Module):
    """Logits that grow with the mean, times a factor: too sure by that much."""

    def __init__(self, factor=3.0, shift=-1.0):
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, x):
        z = self.factor * (x.mean((1, 2, 3)) + self.shift)
        return torch.stack([-z, z], 1)


@pytest.fixture
def run(tmp_path, monkeypatch):
    data = cohort(tmp_path / "pictures")
    names = [c.name for c in data.cases]
    made = write_run(tmp_path / "run", data, plan_of(), folds=[(names[:8], names[8:30])], test=names[30:])
    return answering(made, monkeypatch, [Brightness()])


def test_validation_sets_what_testing_uses(run):
    found = evaluate(run)
    how = read_json(run.path / "calibration.json")
    assert how["version"] == 2 and how["cases"] == 22 and 0 < how["thresholds"]["bright"] < 1
    assert how["nats"][1] <= how["nats"][0] and how["trust"]["calibration"]["patients"] == 11
    rows = found["parts"]["test"]["model"]["rows"]
    limit = how["thresholds"]["bright"]
    assert [r["case"] for r in rows] == [f"c{k}" for k in range(30, 40)]
    assert all(r["said"] == ("bright" if r["probabilities"]["bright"] >= limit else "dark") for r in rows)
    assert all(r["state"] == ("right" if r["said"] == r["truth"] else "wrong") for r in rows)
    summary = found["parts"]["test"]["model"]["summary"]
    assert summary["all"]["accuracy"]["mean"] == np.mean([r["state"] == "right" for r in rows])
    assert set(summary) == {"dark", "bright", "all"} and summary["all"]["auc"]["mean"] > 0.8
    assert found["leading"][0] == "auc" and set(found["leading"]) <= set(found["definitions"])
    assert found["parts"]["test"]["majority"]["summary"]["all"]["auc"]["mean"] == 0.5
    assert evaluate(run) == found, "scoring again changes nothing"


def test_the_baseline_answers_the_same_cases_and_is_compared_by_pairs(run):
    class Opposite:
        def predict(self, image):
            p = 1 / (1 + np.exp(4 * (image.mean() - 1)))
            return np.array([1 - p, p])

    part = evaluate(run, baseline=Opposite(), by=("sex",))["parts"]["test"]
    auc = {who: part[who]["summary"]["all"]["auc"]["mean"] for who in ("model", "baseline")}
    assert auc["baseline"] == pytest.approx(1 - auc["model"])
    assert part["difference"]["all"]["auc"]["mean"] == pytest.approx(auc["model"] - auc["baseline"])
    assert set(part["model"]["groups"]["sex"]) == {"F", "M"}


class Two:
    """Two baselines, of which one stands: the other says the opposite."""

    def __init__(self, stands):
        self.stands = stands

    def fit(self, pairs, *, patients=None):
        return self

    def answers(self, image):
        p = 1 / (1 + np.exp(4 * (image.mean() - 1)))
        return {"light": np.array([p, 1 - p]), "dark": np.array([1 - p, p])}

    def predict(self, image):
        return self.answers(image)[self.stands]


@pytest.fixture
def few_draws(monkeypatch):
    monkeypatch.setattr("vesalius.engine.sets.DRAWS", 60)
    monkeypatch.setattr("vesalius.engine.whole.FEWER", 60)


def test_what_the_baseline_was_chosen_from_stands_beside_it(run, few_draws):
    part = evaluate(run, baseline=Two("dark"))["parts"]["test"]
    auc = {who: part["rivals"][who]["summary"]["all"]["auc"]["mean"] for who in ("light", "dark")}
    assert auc["dark"] == pytest.approx(1 - auc["light"]) and auc["light"] == part["model"]["summary"]["all"]["auc"]["mean"] > 0.8
    assert part["baseline"]["method"] == "dark" and part["baseline"]["summary"] == part["rivals"]["dark"]["summary"]
    assert part["difference"]["all"]["auc"]["mean"] == pytest.approx(auc["light"] - auc["dark"])
    assert part["rivals"]["light"]["summary"]["all"]["auc"]["low"] is not None
    rows = [line.name for line in results(part, ["auc"])]
    assert rows[-5:] == ["model", "baseline: dark", "difference", "light", "majority class"]


def test_folds_may_choose_different_baselines_which_are_then_all_shown(tmp_path, monkeypatch, few_draws):
    data = cohort(tmp_path / "pictures", patients=[f"p{k // 4 * 2 + k % 2}" for k in range(40)])
    names = [c.name for c in data.cases]
    folds = [(names[8:16], names[:8]), (names[:8], names[8:16])]
    made = write_run(tmp_path / "run", data, plan_of(settings=["folds=2"]), folds=folds, test=names[16:])
    parts = evaluate(answering(made, monkeypatch, [Brightness(), Brightness()]), baseline=[Two("dark"), Two("light")])["parts"]
    said = {r["case"]: r["probabilities"]["bright"] for r in parts["val"]["baseline"]["rows"]}
    truth = {r["case"]: r["truth"] == "bright" for r in parts["val"]["baseline"]["rows"]}
    right = [np.mean([(said[n] > 0.5) == truth[n] for n in some]) for some in (names[:8], names[8:16])]
    assert right[0] < 0.5 < right[1], "each fold is answered by its own"
    assert parts["val"]["baseline"]["method"] == "dark or light" and parts["test"]["baseline"]["method"] == "dark"
    assert [line.name for line in results(parts["val"], ["auc"])][-5:] == ["baseline: dark or light", "difference", "light", "dark",
                                                                           "majority class"]  # fmt: skip
    by = parts["test"]["by_patient"]
    assert by["rivals"]["dark"]["summary"] == by["baseline"]["summary"] and set(by["rivals"]) == {"dark", "light"}


def test_each_fold_has_a_baseline_that_never_saw_whom_it_is_asked_about(tmp_path, monkeypatch):
    data = cohort(tmp_path / "pictures")
    names = [c.name for c in data.cases]
    folds = [(names[8:16], names[:8]), (names[:8], names[8:16])]
    run = write_run(tmp_path / "run", data, plan_of(settings=["folds=2"]), folds=folds, test=names[16:])

    class Sure:
        def __init__(self, bright):
            self.bright = bright

        def predict(self, image):
            return np.array([1 - self.bright, self.bright])

    parts = evaluate(answering(run, monkeypatch, [Brightness(), Brightness()]), baseline=[Sure(0.25), Sure(0.75)])["parts"]
    said = {part: {r["case"]: r["said"] for r in parts[part]["baseline"]["rows"]} for part in parts}
    assert said["val"] == {**dict.fromkeys(names[:8], "dark"), **dict.fromkeys(names[8:16], "bright")}
    assert set(said["test"].values()) == {"dark"}, "test cases are answered by the first"


def test_patients_with_several_images_are_scored_as_patients_too(tmp_path, monkeypatch):
    data = cohort(tmp_path / "pictures", patients=[f"p{k // 4 * 2 + k % 2}" for k in range(40)])
    names = [c.name for c in data.cases]
    made = write_run(tmp_path / "run", data, plan_of(), folds=[(names[:8], names[8:24])], test=names[24:])
    part = evaluate(answering(made, monkeypatch, [Brightness()]))["parts"]["test"]
    rows, by = part["model"]["rows"], part["by_patient"]
    mean = {p: np.mean([r["probabilities"]["bright"] for r in rows if r["patient"] == p]) for p in {r["patient"] for r in rows}}
    truth = {r["patient"]: r["truth"] == "bright" for r in rows}
    pairs = [(mean[a] > mean[b]) for a in mean for b in mean if truth[a] and not truth[b]]
    assert by["patients"] == 8 and by["model"]["summary"]["all"]["auc"]["mean"] == pytest.approx(np.mean(pairs))


def test_folds_are_an_ensemble_whose_rules_are_fitted_on_what_each_did_not_see(tmp_path, monkeypatch):
    data = cohort(tmp_path / "pictures")
    names = [c.name for c in data.cases]
    parts = [(names[15:30], names[:15]), (names[:15], names[15:30])]
    plan = plan_of().model_copy(update={"folds": 2, "predict": Predict(batch=5, sensitivities=(0.8,))})
    nets = [Brightness(3.0, -1.0), Brightness(1.0, -0.5)]
    made = answering(write_run(tmp_path / "run", data, plan, folds=parts, test=names[30:]), monkeypatch, nets)
    found, how = evaluate(made)["parts"], read_json(made.path / "calibration.json")
    images = torch.from_numpy(np.stack([load(c.images["image"]).array for c in data.cases]).astype(np.float32) - 100) / 10
    both = [net(images)[:, 1].numpy() for net in nets]  # logits are (-z, z)
    alone = np.array([*both[0][:15], *both[1][15:30]])  # the fifteen of the other fold are too few to fit anything on
    expected = {"val": alone, "test": (both[0][30:] + both[1][30:]) / 2 / how["temperature"]}
    for part, z in expected.items():
        said = [row["probabilities"]["bright"] for row in found[part]["model"]["rows"]]
        assert said == pytest.approx(1 / (1 + np.exp(-2 * np.array(z))), abs=1e-5), part
    assert how["cases"] == 30 and how["trust"]["calibration"]["patients"] == 15
    ((point,), (row,)) = how["operating"], found["test"]["model"]["trust"]["operating"]
    assert row["thresholds"] == [point["point"]["threshold"]] and row["sensitivity"]["whole"] == 5
    trust = found["val"]["model"]["trust"]
    assert "coverage" not in trust and "too few patients are left" in trust["remarks"][-1]
    told = predict(made, tmp_path / "pictures", tmp_path / "out")
    assert [a.probabilities["bright"] for a in told[30:]] == pytest.approx(1 / (1 + np.exp(-2 * expected["test"])), abs=1e-5)


def folded(folder, monkeypatch, *, turned=()):
    """Scores of the validation part and calibration.json of a run of three folds of twenty; the `turned` cases have the other class."""
    data = cohort(folder / "pictures", 60)
    other = {"dark": "bright", "bright": "dark"}
    data = data.with_cases(tuple(replace(c, classes={other[name]: 1 for name in c.classes}) if c.name in turned else c for c in data.cases))
    names = [c.name for c in data.cases]
    parts = [([n for n in names if n not in names[k::3]], names[k::3]) for k in range(3)]
    plan = plan_of().model_copy(update={"folds": 3, "predict": Predict(batch=5, sensitivities=(0.8,))})
    made = write_run(folder / "run", data, plan, folds=parts)
    found = evaluate(answering(made, monkeypatch, [Brightness(3.0, -1.0), Brightness(1.0, -0.5), Brightness(2.0, -1.5)]))
    return found["parts"]["val"]["model"], read_json(made.path / "calibration.json"), parts


def test_no_case_has_a_say_in_the_rules_that_it_is_judged_by(tmp_path, monkeypatch):
    before, _, parts = folded(tmp_path / "a", monkeypatch)
    turned = parts[0][1]
    after, _, _ = folded(tmp_path / "b", monkeypatch, turned=turned)
    told = ("probabilities", "thresholds", "said", "possible", "answered", "strange")
    pairs = [(old, new, old["case"] in turned) for old, new in zip(before["rows"], after["rows"], strict=True)]
    assert all(old[key] == new[key] for old, new, mine in pairs if mine for key in told), "their own classes change nothing for them"
    assert all(old["state"] != new["state"] for old, new, mine in pairs if mine)
    assert all(old["probabilities"] != new["probabilities"] for old, new, mine in pairs if not mine), "but all for the others"
    cuts = {row["case"]: row["thresholds"]["bright"] for row in before["rows"]}
    assert len({cuts[name] for name in turned}) == 1 < len(set(cuts.values()))
    assert len(before["trust"]["operating"][0]["thresholds"]) == len(before["trust"]["abstention"]["cuts"]) == 3
    old, new = (found["trust"]["operating"][0]["thresholds"] for found in (before, after))
    assert old[0] == new[0] and old[1:] != new[1:]


def test_what_folds_are_judged_by_is_counted_in_every_number(tmp_path, monkeypatch):
    found, how, parts = folded(tmp_path, monkeypatch)
    rows = {row["case"]: row for row in found["rows"]}
    said = np.array([row["probabilities"]["bright"] >= row["thresholds"]["bright"] for row in found["rows"]])
    assert [row["said"] == "bright" for row in found["rows"]] == said.tolist()
    truth = np.array([row["truth"] == "bright" for row in found["rows"]])
    everything = {name: cell["mean"] for name, cell in found["summary"]["all"].items()}
    assert everything["accuracy"] == pytest.approx((said == truth).mean())
    assert everything["balanced_accuracy"] == pytest.approx((said[truth].mean() + (~said[~truth]).mean()) / 2)
    assert found["trust"]["abstention"]["answered"] == np.mean([row["answered"] for row in found["rows"]])
    assert found["trust"]["strange"]["part"] == sum(row["strange"] for row in found["rows"])
    assert found["trust"]["coverage"]["all"]["part"] == sum(row["truth"] in row["possible"] for row in found["rows"])
    assert how["cases"] == 60
    first, rows = parts[0][1], {row["case"]: row for row in found["rows"]}
    nets, z = [(3.0, -1.0), (1.0, -0.5), (2.0, -1.5)], {}
    for (factor, shift), (_, names) in zip(nets, parts, strict=True):
        means = {n: (load(tmp_path / "pictures" / f"{int(n[1:]):02}.png").array.astype(float).mean() - 100) / 10 for n in names}
        z |= {n: 2 * factor * (mean + shift) for n, mean in means.items()}
    temperature = {n: z[n] / np.log(rows[n]["probabilities"]["bright"] / rows[n]["probabilities"]["dark"]) for n in first}
    assert np.ptp(list(temperature.values())) < 1e-3, "one temperature for the cases of a fold"
    others = [n for _, names in parts[1:] for n in names]
    p = 1 / (1 + np.exp(-np.array([z[n] for n in others]) / np.mean(list(temperature.values()))))
    there = np.array([rows[n]["truth"] == "bright" for n in others])
    balanced = [((p >= cut)[there].mean() + (p < cut)[~there].mean()) / 2 for cut in (rows[first[0]]["thresholds"]["bright"], *p)]
    assert balanced[0] == max(balanced), "the threshold of the first fold is the best for the other two"


def test_new_cases_are_answered_in_one_table_which_a_second_call_continues(run, tmp_path):
    evaluate(run)
    limit = read_json(run.path / "calibration.json")["thresholds"]["bright"]
    done = predict(run, tmp_path / "pictures", tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert len(done) == len(rows) == 40
    assert all(r["said"] == ("bright" if float(r["p(bright)"]) >= limit else "dark") for r in rows)
    assert all(float(r["threshold(bright)"]) == limit and {r["answered"], r["strange"]} <= {"yes", "no"} for r in rows)
    assert all(set(r["possible"].split("; ")) <= {"dark", "bright", "none"} for r in rows)
    told = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert told["calibration"]["thresholds"]["bright"] == limit and len(told["cases"]) == 40
    told["cases"] = [{**row, "said": "kept"} for row in told["cases"][:10]]
    (tmp_path / "out" / "predictions.json").write_text(json.dumps(told))
    again = predict(run, tmp_path / "pictures", tmp_path / "out")
    assert sum(a.said == "kept" for a in again) == 10 and len(again) == 40
    assert not any(a.said == "kept" for a in predict(run, tmp_path / "pictures", tmp_path / "out", options=Options(overwrite=True)))


def test_what_cannot_be_read_stops_the_work_or_is_listed(run, tmp_path):
    (tmp_path / "pictures" / "bad.png").write_bytes(b"nothing")
    with pytest.raises(Exception, match=r"bad\.png"):
        predict(run, tmp_path / "pictures", tmp_path / "out")
    done = predict(run, tmp_path / "pictures", tmp_path / "out", options=Options(skip_bad=True))
    assert [a.case for a in done if a.problem] == ["bad"] and len(done) == 41


def test_a_table_of_answers_is_scored_as_it_is(run, tmp_path):
    own = evaluate(run)["parts"]["test"]["model"]
    found = evaluate_files(run, run.path / "predictions" / "test")["parts"]["test"]["model"]
    assert found["summary"]["all"]["auc"]["mean"] == own["summary"]["all"]["auc"]["mean"]
    assert [r["said"] for r in found["rows"]] == [r["said"] for r in own["rows"]]
    (tmp_path / "short.csv").write_text("case,p(dark),p(bright)\nc30,0.1,0.9\n")
    with pytest.raises(DataError, match="no answer to 9 cases"):
        evaluate_files(run, tmp_path / "short.csv")
    (tmp_path / "wrong.csv").write_text("case,said\nc30,dark\n")
    with pytest.raises(DataError, match="lacks the columns"):
        evaluate_files(run, tmp_path / "wrong.csv")


def test_another_data_set_is_answered_and_scored(run, tmp_path):
    evaluate(run)
    found = evaluate_files(run, None, cohort(tmp_path / "more", 12))["parts"]["test"]["model"]
    assert len(found["rows"]) == 12
    other = Labels(names=("x", "y"), values=((0,), (1,)), kind="classes")
    with pytest.raises(DataError, match="Name them alike"):
        evaluate_files(run, None, cohort(tmp_path / "other", 4, labels=other))


def test_views_and_networks_are_meaned():
    plan = plan_of(settings=["predict.mirror=true"])
    images = np.random.default_rng(0).normal(size=(7, 1, SIDE, SIDE)).astype(np.float32)

    def left(x):
        return torch.stack([x[:, 0, :, :2].mean((1, 2)), x[:, 0, :, 2:].mean((1, 2))], 1)

    found = logits([left, lambda x: 3 * left(x)], images, plan)
    both = [np.stack([v[:, 0, :, :2].mean((1, 2)), v[:, 0, :, 2:].mean((1, 2))], 1) for v in (images, images[..., ::-1])]
    assert np.allclose(found, 2 * np.mean(both, 0), atol=1e-5)


def test_the_loop_learns_and_the_look_sees_it(tmp_path):
    from vesalius.data.cache import Cache

    plan, task = plan_of(steps=40), TASKS["classify"]()
    data = cohort(tmp_path / "pictures", 32)
    cases = Cache(tmp_path / "cache", plan.preparation, TWO, size=plan.patch.size).store(data.cases)
    loop = Loop(method_of(task, plan, "cpu"), plan.train, plan.patch.batch, tmp_path / "run")
    watch = look(task, plan, cases, where="cpu")
    assert loop.fit(SAMPLES["case"](plan, cases, "cpu"), watch)
    from vesalius.engine.average import averaged

    with averaged(loop.method, loop.average) as trained:
        assert watch(trained) > 0.9


def test_a_loss_that_the_plan_names_counts_the_classes_and_hears_how_far_training_is(tmp_path):
    from vesalius.data.cache import Cache
    from vesalius.losses.ldam import margins

    plan = plan_of(steps=10, settings=['train.loss={"name": "ldam", "widest": 1.0}'])
    data = cohort(tmp_path / "pictures", 12)
    data = data.with_cases(data.cases[:9:2] + data.cases[1:4:2])  # five dark, two bright
    cases = Cache(tmp_path / "cache", plan.preparation, TWO, size=plan.patch.size).store(data.cases)
    method = method_of(TASKS["classify"](), plan, "cpu", learned=cases)
    assert method.loss.loss.margin.tolist() == pytest.approx(margins([5, 2], widest=1.0))
    shares, tell = [], method.loss.progress
    method.loss.progress = lambda share: (shares.append(share), tell(share))
    Loop(method, plan.train, plan.patch.batch, tmp_path / "run").fit(SAMPLES["case"](plan, cases, "cpu"))
    assert shares == pytest.approx([k / 10 for k in range(10)]) and method.loss.loss.weighing
