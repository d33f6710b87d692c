"""Made images in the form of the data, with a table that no split can misplace; and the trial whether they help."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow

from vesalius.augment import Augment
from vesalius.core.errors import VesaliusError
from vesalius.core.files import write_json
from vesalius.core.space import Space
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.data.normalise import Normalise
from vesalius.data.prepare import Preparation
from vesalius.data.split import split
from vesalius.engine.balance import balance, fit, fit_evenly, lacking, predicted
from vesalius.engine.run import Run
from vesalius.engine.state import save_weights
from vesalius.engine.synthesise import Form, range_of, synthesise
from vesalius.io import load, save
from vesalius.io.image import Image
from vesalius.plan.methods import built
from vesalius.plan.plan import OWN, Expected, Net, Patch, Plan, Predict, Train

SMALL = {"design": {"latent": 4, "widths": [4, 4], "bounds": [0, 1]}}
BYTES = Normalise(kind="unit", high=255.0)
NAMES = Labels(names=("well", "ill"), values=((0,), (1,)), kind="classes")


def pictures(folder, counts=(9, 3)):
    """Cases of two classes as PNG with a table, in every part."""
    lines, draw = ["case,patient,image,class,split"], np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for name, count in zip(NAMES.names, counts, strict=True):
            for k in range(count):
                pixels = draw.integers(0, 90, (1, 12, 12), np.uint8) + (120 if name == "ill" else 0)
                save(Image(pixels.astype(np.uint8), Space.of((12, 12), physical=False)), folder / f"{part}_{name}_{k}.png")
                lines.append(f"{part}_{name}_{k},p_{part}_{name}_{k},{part}_{name}_{k}.png,{name},{part}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder / "cases.csv"


def run_of(folder, dataset, *, method="conditional_gan", arguments=None, ndim=2, size=12, rules=(BYTES,)):
    """A run folder with weights that were never taught."""
    arguments = {**SMALL, **({"classes": 2} if method == "conditional_gan" else {})} if arguments is None else arguments
    channels = {name: 1 for name in dataset.channels}
    how = Preparation(channels=channels, normalise=rules, fit="stretch", spacing=(2.0,) * 3 if ndim == 3 else ())
    expected = Expected(device="cpu", budget_seconds=None, step_seconds=0.1, tile_seconds=0.1, steps=1, epochs=1.0, memory_bytes=1,
                        parameters=1)  # fmt: skip
    plan = Plan(task="generate", folds=1, labels=dataset.labels, preparation=how, net=Net(name=OWN, ndim=ndim), expected=expected,
                augment=Augment(mirror=(False,) * ndim, rotation=(0.0,) * (1 if ndim == 2 else 3)),
                patch=Patch(size=(size,) * ndim, batch=4, foreground=0.0), predict=Predict(batch=4),
                train=Train(method=method, arguments=arguments, steps=1, learning_rate=1e-3, weight_decay=0.0))  # fmt: skip
    folder.mkdir(parents=True)
    plan.save(folder / "plan.json")
    write_json(folder / "dataset.json", dataset.to_json())
    write_json(folder / "splits.json", split(dataset).to_json())
    stats = {"p0.5": 10.0, "p99.5": 700.0}
    write_json(folder / "fingerprint.json", {"shapes": [[size] * ndim], "spacings": [[2.0] * ndim], "physical": ndim == 3,
                                             "intensities": {name: stats for name in channels}})  # fmt: skip
    net = built(method, (len(channels), *(size,) * ndim), arguments, learning_rate=1e-3, weight_decay=0.0, seed=0).net
    save_weights(folder / "weights.safetensors", net.state_dict(), {"final": True})
    return Run.open(folder)


def table_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("VESALIUS_HOME", str(tmp_path / "home"))
    return run_of(tmp_path / "run", Dataset.open(pictures(tmp_path)))


def test_pictures_of_every_class_say_what_they_are(run, tmp_path):
    rows = synthesise(run, tmp_path / "made", number=5)
    assert [row["class"] for row in rows] == ["well"] * 3 + ["ill"] * 2
    assert [{**row} for row in table_of(tmp_path / "made" / "synthetic.csv")] == [{k: str(v) for k, v in row.items()} for row in rows]
    for row in rows:
        file = tmp_path / "made" / row["image"]
        assert "synthetic" in Pillow.open(file).text["Description"] and row["split"] == "train" and row["synthetic"] == "yes"
        assert load(file).array.shape == (1, 12, 12) and load(file).array.dtype == np.uint8
    assert len({row["patient"] for row in rows}) == 5


def test_the_same_seed_makes_the_same_images_and_another_others(run, tmp_path):
    first, again, other = (synthesise(run, tmp_path / f"{k}", number=2, label="well", seed=seed) for k, seed in enumerate((0, 0, 1)))
    pixels = [load(tmp_path / f"{k}" / rows[0]["image"]).array for k, rows in enumerate((first, again, other))]
    assert np.array_equal(pixels[0], pixels[1]) and not np.array_equal(pixels[0], pixels[2]) and first[0]["class"] == "well"


def test_made_images_are_read_as_a_data_set_and_stay_in_training(run, tmp_path):
    rows = synthesise(run, tmp_path / "made", number=6)
    found = Dataset.open(tmp_path / "made" / "synthetic.csv")
    assert len(found.cases) == 6 and {case.split for case in found.cases} == {"train"} and found.labels.names == NAMES.names
    assert {case.patient for case in found.cases} == {row["patient"] for row in rows}


def test_volumes_are_written_as_volumes(tmp_path):
    dataset = Dataset.open(pictures(tmp_path))
    volumes = run_of(tmp_path / "run3", dataset, method="dcgan", arguments=SMALL, ndim=3, size=8, rules=(Normalise(kind="unit"),))
    rows = synthesise(volumes, tmp_path / "made", number=2)
    image = load(tmp_path / "made" / rows[0]["image"])
    assert rows[0]["image"].endswith(".nii.gz") and image.array.shape == (1, 8, 8, 8) and image.space.spacing == (2.0,) * 3
    assert "synthetic" in image.source.words["description"] and "class" not in rows[0]
    assert 10 - 1e-3 <= image.array.min() and image.array.max() <= 700 + 1e-3


def test_a_stack_is_written_as_a_stack(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (12, 12, 12), np.uint8)
    parts = {f"{part}_{what}": value for part in ("train", "val", "test")
             for what, value in (("images", images), ("labels", np.arange(12)[:, None] % 2))}  # fmt: skip
    np.savez(tmp_path / "all.npz", **parts)
    stacked = run_of(tmp_path / "run", Dataset.open(tmp_path / "all.npz"))
    rows = synthesise(stacked, tmp_path / "made", number=4)
    with np.load(tmp_path / "made" / "synthetic.npz", allow_pickle=False) as file:
        assert file["train_images"].shape == (4, 12, 12) and file["train_labels"].ravel().tolist() == [0, 0, 1, 1]
        assert "synthetic" in str(file["synthetic"])
        first = file["train_images"][0]
    assert np.array_equal(load(tmp_path / "made" / rows[0]["image"]).array[0], first)


def test_intensities_go_back_to_where_they_came_from():
    form = Form(".png", ((0.0, 255.0),), {"image": 1}, Space.of((2, 2), physical=False))
    assert form.pixels(np.array([[[0.0, 1.0], [0.5, 0.1]]], np.float32)).tolist() == [[[0, 255], [128, 26]]]
    assert range_of(Normalise(kind="unit", low=-1000, high=400), {}) == (-1000, 400)
    assert range_of(Normalise(kind="unit"), {"p0.5": 3, "p99.5": 9}) == (3, 9) and range_of(Normalise(kind="unit"), {}) == (0, 1)


def test_what_cannot_be_made_is_said(run, tmp_path):
    for words, more in (("class", {"label": "odd"}), ("at least one", {"number": 0})):
        with pytest.raises(VesaliusError, match=words):
            synthesise(run, tmp_path / "made", **{"number": 2, **more})
    synthesise(run, tmp_path / "made", number=1)
    with pytest.raises(VesaliusError, match="another folder"):
        synthesise(run, tmp_path / "made", number=1)
    plain = run_of(tmp_path / "plain", run.dataset, method="dcgan", arguments=SMALL)
    with pytest.raises(VesaliusError, match="conditional_gan"):
        synthesise(plain, tmp_path / "other", number=1, label="ill")
    with pytest.raises(VesaliusError, match="conditional_gan"):
        balance(plain, run.dataset, tmp_path / "other")


# -- balance --------------------------------------------------------------------------------------------------------------------


def test_rare_classes_get_what_they_lack_and_untaught_images_are_not_recommended(run, tmp_path):
    found = balance(run, run.dataset, tmp_path / "balanced")
    assert found["classes"] == {"ill": 3, "well": 9} and found["added"] == {"ill": 6} and found["test_images"] == 12
    assert "do not use" in found["verdict"] and found["gain"] <= 0  # real ones tell the classes apart by their brightness
    both = Dataset.open(tmp_path / "balanced" / "balanced.csv")
    train = both.part("train")
    assert sorted(sum(case.classes.get(name, 0) for case in train) for name in NAMES.names) == [9, 9]
    made = {case.name for case in both.cases if case.metadata["synthetic"] == "yes"}
    assert len(made) == 6 and all(case.split == "train" for case in both.cases if case.name in made)
    parts = split(both, seed=3)
    held = {*parts.test, *parts.folds[0].val}
    assert not held & made and held == {*(case.name for case in run.dataset.cases if case.split in ("val", "test"))}


def test_a_model_that_has_seen_the_test_patients_is_refused(run, tmp_path):
    text = (tmp_path / "cases.csv").read_text()
    swapped = text.replace(",train", ",x").replace(",test", ",train").replace(",x", ",test")
    (tmp_path / "swapped.csv").write_text(swapped)
    other = replace(Dataset.open(tmp_path / "swapped.csv"), root=tmp_path / "elsewhere")
    with pytest.raises(VesaliusError, match="has learned from patients"):
        balance(run, other, tmp_path / "balanced")


def test_what_is_lacking():
    assert [(one.label, one.number) for one in lacking(np.array([5, 9, 9, 0]))] == [(0, 4), (3, 9)]


def test_even_drawing_helps_a_rare_class():
    draw = np.random.default_rng(0)
    labels = (np.arange(600) % 20 == 0).astype(int)
    x = draw.standard_normal((600, 3)) + 1.2 * labels[:, None]
    plain, even = (np.mean(predicted(way(x, labels, 0), x)[labels == 1]) for way in (fit, fit_evenly))
    assert even > plain + 0.2
