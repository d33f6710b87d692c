"""Images alone through the whole spine: one command learns from normal ones, tests, predicts on the images' own grids, resumes to the
last bit; and what a method gathers after learning lies in its weights before they count as final."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.engine.test_workflow import Noted
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.core.files import read_json
from vesalius.core.space import Space
from vesalius.data.batch import Batch, Kind
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.data.prepare import Preparation
from vesalius.data.whole import fitted
from vesalius.engine import images as room
from vesalius.engine.answered import Options
from vesalius.engine.evaluate import evaluate, evaluate_files
from vesalius.engine.grids import restored
from vesalius.engine.image_files import heated
from vesalius.engine.predict import predict
from vesalius.engine.run import Run
from vesalius.engine.state import load_weights
from vesalius.engine.train import Loop
from vesalius.engine.workflow import train
from vesalius.io import load
from vesalius.io.image import Image
from vesalius.methods import Method
from vesalius.plan import Request
from vesalius.plan.plan import Train
from vesalius.report import write
from vesalius.tasks import aimed

SIDE, WHO = 12, ("model", "baseline", "mean image", "principal components")
COUNTS = {"train": (10, 4), "val": (6, 3), "test": (6, 6)}
WISH = Request(budget=None, deterministic=True, settings=(
    "train.method=autoencoder", 'train.arguments={"code": 4, "widths": [4, 8]}', "patch.batch=4", "train.steps=8"))  # fmt: skip


def stack(folder):
    """Noise, with a bright square in the ill ones."""
    folder.mkdir()
    draw, parts = np.random.default_rng(0), {}
    for part, (well, ill) in COUNTS.items():
        pixels = draw.integers(0, 120, (well + ill, SIDE, SIDE), np.uint8)
        pixels[well:, 3:7, 4:8] = 250
        parts[f"{part}_images"] = pixels
        parts[f"{part}_labels"] = (np.arange(well + ill) >= well).astype(np.uint8)[:, None]
    np.savez(folder / "noise.npz", allow_pickle=False, **parts)
    return Dataset.open(folder, labels=["normal=0", "ill=1"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(run, data set, folder) of a finished run."""
    folder = tmp_path_factory.mktemp("images")
    patch = pytest.MonkeyPatch()
    patch.setenv("VESALIUS_HOME", str(folder / "home"))
    data = aimed(stack(folder / "data"), "anomaly")
    listener = Noted()
    yield train(data, folder / "run", wish=WISH, listener=listener), data, folder, listener
    patch.undo()


def test_only_normal_images_are_learned_from(made):
    run, _, _, listener = made
    learned = run.splits["folds"][0]["train"]
    assert len(learned) == COUNTS["train"][0] and all(run.dataset.case(name).classes == {"normal": 1} for name in learned)
    assert any("10 normal images (of the class 'normal')" in text and "4 others, abnormal" in text for text in listener.told)
    assert run.dataset.alone and run.dataset.task == run.plan.task == "anomaly" and run.plan.train.method == "autoencoder"


def test_the_threshold_is_the_quantile_of_normal_validation_images(made):
    run, _, _, _ = made
    seen = room.part_of(run, "val")
    normal = seen.chosen(k for k, case in enumerate(seen.cases) if case.classes == {"normal": 1})
    scores = np.concatenate([run.method().score(batch).detach().numpy() for batch in normal.batches()])
    how = read_json(run.path / "calibration.json")
    assert len(normal) == how["images"] == 6 and how["thresholds"]["model"] == pytest.approx(np.quantile(scores, 0.95), rel=1e-6)


def test_metrics_hold_the_model_beside_the_pixels(made):
    run, _, _, _ = made
    part = run.metrics["parts"]["test"]
    assert run.metrics["leading"][0] == "auc" and set(WHO) <= part.keys()
    truth = [row["truth"] == "abnormal" for row in part["model"]["rows"]]
    assert sum(truth) == 6 and len(truth) == 12
    for who in WHO:
        strange = np.array([row["strangeness"] for row in part[who]["rows"]])
        ill, well = strange[truth], strange[np.logical_not(truth)]
        pairs = (ill[:, None] > well).mean() + (ill[:, None] == well).mean() / 2  # by its definition
        assert part[who]["summary"]["all"]["auc"]["mean"] == pytest.approx(pairs)
        assert part["areas"][who]["area"] == pytest.approx(pairs)


def test_pixels_say_the_same_beside_a_method_that_sees_images_otherwise(made, monkeypatch):
    """On another grid and standardised, since a run with labels may begin from its trunk."""
    run, data, folder, _ = made
    monkeypatch.setenv("VESALIUS_HOME", str(folder / "home"))
    settings = ("train.method=simmim", 'train.arguments={"trunk": {"name": "unet", "channels": [4, 8]}}', "patch.size=[8, 8]",
                "patch.batch=4", "train.steps=2")  # fmt: skip
    other = train(data, folder / "other", wish=Request(budget=None, deterministic=True, settings=settings))
    assert [one.plan.preparation.normalise[0].kind for one in (run, other)] == ["unit", "zscore"] and other.plan.patch.size == (8, 8)
    mine, theirs = (json.loads(json.dumps(one.metrics))["parts"] for one in (run, other))
    for part in ("val", "test"):
        assert all(mine[part][who] == theirs[part][who] for who in WHO[1:]) and mine[part]["model"] != theirs[part]["model"]
    limits = [read_json(one.path / "calibration.json")["thresholds"] for one in (run, other)]
    assert all(limits[0][who] == limits[1][who] for who in WHO[1:])


def test_evaluated_again_it_says_the_same(made):
    run, _, _, _ = made
    before = json.loads(json.dumps(run.metrics))
    assert json.loads(json.dumps(evaluate(run)))["parts"]["test"]["model"]["rows"] == before["parts"]["test"]["model"]["rows"]


def test_another_data_set_is_scored_by_what_was_set_on_validation(made):
    run, data, _, _ = made
    found = evaluate_files(run, None, data.with_cases(tuple(case for case in data.cases if case.split == "test")))
    assert found["parts"]["test"]["model"]["rows"] == json.loads(json.dumps(run.metrics))["parts"]["test"]["model"]["rows"]


def test_predict_writes_scores_verdicts_and_maps_on_the_images_grid(made):
    run, data, folder, _ = made
    cases = [case for case in data.cases if case.split == "test"]
    done = predict(run, cases, folder / "answers", options=Options(probabilities=True))
    rows = {row["case"]: row for row in csv.DictReader((folder / "answers" / "predictions.csv").open())}
    limit = read_json(run.path / "calibration.json")["thresholds"]["model"]
    for known in run.metrics["parts"]["test"]["model"]["rows"]:
        row = rows[known["case"]]
        assert float(row["score"]) == pytest.approx(known["strangeness"], rel=1e-5)
        assert row["said"] == ("abnormal" if float(row["score"]) > limit else "normal") == known["said"]
        assert load(folder / "answers" / row["file"]).array.shape == (3, SIDE, SIDE)
        assert np.load(folder / "answers" / f"{known['case']}_map.npy").shape == (1, SIDE, SIDE)
    assert len(done) == 12 and all(answer.row["said"] for answer in done)
    before = (folder / "answers" / "predictions.csv").read_bytes()
    predict(run, cases, folder / "answers")
    assert (folder / "answers" / "predictions.csv").read_bytes() == before


def test_the_report_shows_the_section(made):
    run, _, _, _ = made
    page = write(run.path).read_text(encoding="utf-8")
    assert "nearest training image, raw pixels" in page and "Where images are strange" in page and "most strange normal" in page


def test_stopped_and_continued_it_ends_with_the_same_weights(made, monkeypatch):
    _, data, folder, _ = made
    monkeypatch.setenv("VESALIUS_HOME", str(folder / "home"))
    stopped = train(data, folder / "again", wish=WISH, listener=Noted(steps=3))
    assert not stopped.finished
    train(data, folder / "again", wish=WISH)
    whole, resumed = (load_weights(Run(folder / name).path / "weights.safetensors") for name in ("run", "again"))
    assert whole[1] == resumed[1] and all(torch.equal(value, resumed[0][name]) for name, value in whole[0].items())


def test_a_run_of_images_has_no_network_of_classes(made):
    with pytest.raises(VesaliusError, match="images alone"):
        made[0].networks()


def test_what_is_asked_for_must_fit():
    data = Dataset("x", Path("/x"), "segment", (), ("image",), Labels(names=("a",), values=((1,),)))
    with pytest.raises(UsageError, match="Did you mean anomaly"):
        aimed(data, "anomly")
    with pytest.raises(UsageError, match="Did you mean vae"):
        aimed(data, "pretrain", method="vea")
    with pytest.raises(UsageError, match=r"wgan is no method for --task pretrain: it serves --task generate. .* choose one of .*simclr"):
        aimed(data, "pretrain", method="wgan")
    with pytest.raises(UsageError, match="supervised is no method for --task anomaly: it learns from labels"):
        aimed(data, "anomaly", method="supervised")
    with pytest.raises(UsageError, match="labelled for the task 'segment'"):
        aimed(data, "classify")
    assert aimed(data) is data and aimed(data, "segment") is data and aimed(data, "pretrain").alone


class Gathering(Method):
    """Learns one number, then counts images."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.net.register_buffer("seen", torch.zeros(()))

    def optimisers(self):
        return {"net": torch.optim.SGD(self.net.parameters(), lr=0.1)}

    def steps(self, batch):
        yield "net", {"loss": self.net(batch["image"]).square().mean()}

    def infer(self, image):
        return self.net(image)


def test_folds_are_refused_before_any_work_with_what_to_do_instead(made, tmp_path):
    _, data, _, _ = made
    with pytest.raises(UsageError, match=r"cannot answer together. Leave --folds out.*--seed 0, 1, 2.*--init PRETRAINED --folds 5"):
        train(data, tmp_path / "run", wish=Request(budget=None, folds=5))
    assert not (tmp_path / "run").exists()


def test_what_is_gathered_lies_in_the_final_weights(tmp_path):
    def finish(method):
        assert not method.training
        method.net.seen += 7

    batch = Batch({"image": torch.ones(2, 1)}, {"image": Kind.IMAGE})
    plan = Train(steps=3, learning_rate=0.1, weight_decay=0.0)
    assert Loop(Gathering(), plan, 2, tmp_path, finish=finish).fit(lambda step, size: batch)
    weights, words = load_weights(tmp_path / "weights.safetensors")
    assert words["final"] and weights["seen"] == 7


@pytest.mark.parametrize("how", ["stretch", "pad"])
def test_a_map_goes_back_to_where_the_image_lies(how):
    """A bump that was brought onto the network's grid comes back to its place, through flips and unlike spacings."""
    affine = np.array([[0, 0, -2.0, 5], [1.5, 0, 0, 3], [0, -1.0, 0, 8], [0, 0, 0, 1]])
    space, sides = Space((16, 20, 12), affine), (16, 20, 12)
    grid = np.stack(np.meshgrid(*map(np.arange, sides), indexing="ij"))
    place = np.array([11, 6, 4])
    bump = np.exp(-((grid - place.reshape(3, 1, 1, 1)) ** 2).sum(0) / 8).astype(np.float32)
    image = Image(bump[None], space)
    plan = Preparation(channels={"image": 1}, normalise=(), fit=how)
    turned = image.canonical()
    heat = fitted(turned.array, turned.space.spacing, plan, size=(24, 24, 24))
    back = restored(heat, image, plan, size=(24, 24, 24))
    assert back.shape == image.array.shape and np.abs(np.array(np.unravel_index(back[0].argmax(), sides)) - place).max() <= 1
    assert np.corrcoef(back.ravel(), bump.ravel())[0, 1] > 0.97


def test_heat_is_laid_over_grey():
    picture = np.tile(np.linspace(0, 1, 8), (8, 1))
    heat = np.zeros((8, 8))
    heat[2, 3] = 1
    shown = heated(picture, heat).astype(int)
    colourless = (shown.max(-1) - shown.min(-1)) == 0
    assert not colourless[2, 3] and colourless.sum() == 63
