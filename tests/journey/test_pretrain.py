"""Learned without labels on phantoms, begun from with labels on other images: the commands alone, with tiny networks."""

import json

import numpy as np
import pytest
from PIL import Image

from vesalius.core.files import read_json
from vesalius.engine.state import load_weights

SHORT = ("--budget", "none", "--deterministic", "--set", "train.steps=4")


def told(capsys):
    """What the command said while it worked."""
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """30 pictures of two classes, twice as large as the grid that phantoms are learned on."""
    folder, draw = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    for k in range(30):
        pixels = draw.normal(100, 20, (64, 64))
        pixels[20:40, 20:40] += 60 * (k % 2)
        path = folder / ("well", "ill")[k % 2] / f"patient{k:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return folder


def test_films_of_phantoms_begin_a_classifier_of_pictures(pictures, run_command, tmp_path, capsys):
    run_command("phantom", "chest_xray", "-o", tmp_path / "films", "--cases", "16", "--size", "32")
    run_command("train", tmp_path / "films", "-o", tmp_path / "first", "--task", "pretrain", "--method", "vicreg", *SHORT,
                "--set", "patch.batch=8", "--set", "patch.size=[32,32]", "--set", 'net.arguments={"channels": [4, 8]}')  # fmt: skip
    plan = read_json(tmp_path / "first" / "plan.json")
    assert plan["net"]["name"]["value"] == "compact" and plan["net"]["channels"]["value"] == [4, 8]
    assert not any(plan["train"]["arguments"]["value"]["views"]["mirror"])
    metrics = read_json(tmp_path / "first" / "metrics.json")
    assert metrics["parts"] and (tmp_path / "first" / "report.html").is_file()
    capsys.readouterr()
    run_command("train", pictures, "-o", tmp_path / "second", "--init", tmp_path / "first", *SHORT, "--set", "patch.batch=8")
    after = read_json(tmp_path / "second" / "plan.json")
    assert after["net"]["channels"]["value"] == [4, 8] and after["patch"]["size"]["value"] == [32, 32]
    first, second = (load_weights(tmp_path / name / "weights.safetensors")[0] for name in ("first", "second"))
    taken = set(first) & set(second)
    assert {name.split(".")[0] for name in taken if name.endswith("weight")} == {"stages"}


ENCODER, WHOLE = {"down"}, {"down", "ups", "blocks"}  # parts of a U-Net that a method learns


@pytest.mark.parametrize("method, learned", [("models_genesis", WHOLE), ("rotation", ENCODER), ("jigsaw", ENCODER)])
def test_volumes_begin_a_segmenter(scans, run_command, tmp_path, method, learned):
    run_command("train", scans, "-o", tmp_path / "first", "--task", "pretrain", "--method", method, *SHORT,
                "--set", "patch.batch=2", "--set", "patch.size=[16,16,16]",
                "--set", 'net.arguments={"channels": [4, 8, 8], "strides": [1, 2, 2]}')  # fmt: skip
    plan = read_json(tmp_path / "first" / "plan.json")
    assert plan["net"]["name"]["value"] == "unet" and plan["preparation"]["normalise"]["value"][0]["kind"] != "unit"
    answer = run_command("train", scans, "-o", tmp_path / "second", "--init", tmp_path / "first", *SHORT, "--set", "patch.batch=2",
                         "--set", "patch.size=[16,16,16]")  # fmt: skip
    after = read_json(tmp_path / "second" / "plan.json")
    assert after["net"]["channels"]["value"] == [4, 8, 8] and answer["report"]
    first, second = (load_weights(tmp_path / name / "weights.safetensors")[0] for name in ("first", "second"))
    assert read_json(tmp_path / "first" / "splits.json")["test"] == read_json(tmp_path / "second" / "splits.json")["test"]
    shared = {name for name in second if name in first}
    assert {name.split(".")[0] for name in shared} == learned and json.dumps(plan)
    told = read_json(tmp_path / "first" / "metrics.json")["parts"]["test"]["model"]["rows"]
    assert told and all(np.isfinite(row["strange"]) for row in told)
    page = (tmp_path / "first" / "report.html").read_text(encoding="utf-8")
    assert 'id="worth"' in page and method in page
