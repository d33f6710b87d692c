"""From a folder per class to a tested model and what it says of new pictures, by the commands alone."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.nets.test_names import resnet
from vesalius.cli.main import main
from vesalius.core.files import read_json

PROMISED = ("plan.json", "record.json", "dataset.json", "splits.json", "doctor.json", "fingerprint.json", "log.csv", "calibration.json",
            "weights.safetensors", "metrics.json", "report.html", "predictions/test/predictions.csv")  # fmt: skip


def picture(path, *, ill, seed, side=14):
    """Noise of a patient's own brightness; the ill have a bright spot somewhere."""
    draw = np.random.default_rng(seed)
    pixels = draw.normal(90 + draw.normal(0, 15), 12, (side, side + 2))
    if ill:
        row, column = draw.integers(1, side - 5, 2)
        pixels[row : row + 4, column : column + 4] += 90
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """60 patients, two classes."""
    folder = tmp_path_factory.mktemp("classes")
    for k in range(60):
        picture(folder / ("well", "ill")[k % 2] / f"patient{k:02}.png", ill=k % 2 == 1, seed=k)
    return folder


def test_learning_begins_from_published_weights_by_their_names(folders, run_command, tmp_path):
    from safetensors.torch import save_file

    draw = torch.Generator().manual_seed(0)
    theirs = {k: 0.02 * torch.randn(s, generator=draw) if len(s) > 1 else torch.ones(s) for k, s in resnet(18).items()}
    save_file(theirs, tmp_path / "resnet18.safetensors")
    settings = [word for text in ("train.steps=2", "patch.batch=4", "patch.size=[32,32]") for word in ("--set", text)]
    run_command("train", folders, "-o", tmp_path / "run", "--budget", "none", *settings, "--init", tmp_path / "resnet18.safetensors")
    plan = read_json(tmp_path / "run" / "plan.json")
    assert plan["net"]["name"]["value"] == "resnet" and plan["net"]["arguments"]["value"] == {"depth": 18}
    assert (tmp_path / "run" / "metrics.json").is_file() and (tmp_path / "run" / "report.html").is_file()


def test_the_whole_way(folders, run_command, tmp_path):
    run = tmp_path / "run"
    assert "class_folders" in json.dumps(run_command("inspect", folders))
    answer = run_command("train", folders, "-o", run, "--budget", "20s", "--label", "healthy=well", "--label", "sick=ill")
    assert [name for name in PROMISED if not (run / name).is_file()] == []
    splits, metrics = read_json(run / "splits.json"), read_json(run / "metrics.json")
    sides = [*splits["folds"][0].values(), splits["test"]]
    assert all(sides) and len({name for side in sides for name in side}) == sum(map(len, sides)) == 60
    test = metrics["parts"]["test"]
    assert list(test["model"]["summary"]) == ["healthy", "sick", "all"] and answer["test"] == test["model"]["summary"]
    assert len(test["model"]["rows"]) == len(splits["test"]) and test["baseline"] and test["majority"]
    assert test["baseline"]["method"] in test["rivals"].keys() == {"logistic regression", "gradient boosting"}
    assert test["model"]["summary"]["all"]["auc"]["mean"] > 0.6
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "ROC" in page and "What the model said" in page and 'src="http' not in page
    picture(tmp_path / "new" / "someone.png", ill=True, seed=999)
    told = run_command("predict", run, tmp_path / "new", "-o", tmp_path / "out")["cases"]
    assert [row["case"] for row in told] == ["someone"] and set(told[0]["probabilities"]) == {"healthy", "sick"}
    row = next(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert row["said"] == told[0]["said"] and float(row["p(sick)"]) == told[0]["probabilities"]["sick"]
    again = run_command("evaluate", run)
    assert again["parts"]["test"]["model"]["summary"] == test["model"]["summary"]


def test_findings_of_two_views_of_which_one_may_be_missing(run_command, tmp_path):
    lines = ["case,patient,image_front,image_side,finding_spot,finding_dark"]
    for k in range(36):
        picture(tmp_path / f"f{k}.png", ill=k % 2 == 1, seed=k)
        picture(tmp_path / f"s{k}.png", ill=False, seed=100 + k, side=9)
        lines.append(f"c{k},p{k // 2 * 2 + k % 2},f{k}.png,{f's{k}.png' if k % 3 else ''},{k % 2},{'' if k % 5 == 0 else k % 4 // 2}")
    (tmp_path / "views.csv").write_text("\n".join(lines) + "\n")
    run = tmp_path / "run"
    run_command("train", tmp_path / "views.csv", "-o", run, "--budget", "none", "--folds", "2", "--set", "train.steps=6")
    plan, metrics = read_json(run / "plan.json"), read_json(run / "metrics.json")
    assert plan["labels"]["kind"]["value"] == "findings" and plan["preparation"]["channels"]["value"] == {"front": 1, "side": 1}
    assert set(metrics["parts"]) == {"val", "test"} and set(metrics["parts"]["val"]["model"]["summary"]) == {"spot", "dark", "all"}
    alone = run_command("predict", run, "--image", f"side={tmp_path / 's1.png'}", "-o", tmp_path / "out")["cases"]
    assert set(alone[0]["probabilities"]) == {"spot", "dark"}
    assert (run / "report.html").stat().st_size > 20_000


def test_a_split_that_tears_copies_apart_is_refused_and_mended(run_command, tmp_path, capsys):
    lines = ["image,class,split"]
    for k in range(40):
        picture(tmp_path / f"{k}.png", ill=k % 2 == 1, seed=k if k < 38 else k - 38)  # 38 and 39 are 0 and 1 again
        lines.append(f"{k}.png,{('well', 'ill')[k % 2]},{'train' if k < 20 else 'val' if k < 30 else 'test'}")
    (tmp_path / "torn.csv").write_text("\n".join(lines) + "\n")
    words = ["train", str(tmp_path / "torn.csv"), "-o", str(tmp_path / "run"), "--budget", "none", "--set", "train.steps=2"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "on two sides" in said and "--fix-split" in said
    assert (tmp_path / "run" / "copies.png").is_file()
    assert main([*words, "--fix-split", "--allow-leaks"]) == 2
    run_command(*(str(tmp_path / "leaky") if word == str(tmp_path / "run") else word for word in words), "--allow-leaks")
    leaky = read_json(tmp_path / "leaky" / "metrics.json")
    assert "two sides" in leaky["leaky_split"] and read_json(tmp_path / "leaky" / "splits.json")["leaks"] == leaky["leaky_split"]
    kept = read_json(tmp_path / "leaky" / "splits.json")
    assert "0" in kept["folds"][0]["train"] and "38" in kept["test"], "as given"
    page = (tmp_path / "leaky" / "report.html").read_text(encoding="utf-8")
    assert "The split leaks: these scores are too good." in page and "Leaky split" in page and 'id="shortcuts"' in page
    run_command(*words, "--fix-split")
    assert "leaky_split" not in read_json(tmp_path / "run" / "metrics.json")
    splits = read_json(tmp_path / "run" / "splits.json")
    sides = {name: part for part, names in (*splits["folds"][0].items(), ("test", splits["test"])) for name in names}
    assert sides["0"] == sides["38"] and sides["1"] == sides["39"]
    assert any(f["severity"] == "repaired" for f in read_json(tmp_path / "run" / "doctor.json"))
