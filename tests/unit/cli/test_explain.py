"""`vesalius explain`: which case is meant, by file, by name in a table, or channel by channel."""

import json
from dataclasses import replace

import pytest
from PIL import Image as Picture

from tests.unit.engine.test_whole import cohort, plan_of
from tests.unit.engine.tiny import write_run
from vesalius.cli.main import main
from vesalius.engine.state import save_weights
from vesalius.plan import build


@pytest.fixture
def run(tmp_path):
    """A network of two views, with the weights that it was drawn with, and a table of three cases that says nothing of their class."""
    plan = plan_of()
    rule = plan.preparation.normalise[0]
    two = replace(plan.preparation, channels={"front": 1, "side": 1}, normalise=(rule, rule))
    plan = plan.model_copy(update={"preparation": two})
    made = write_run(tmp_path / "run", cohort(tmp_path / "pictures", 6), plan)
    save_weights(made.path / "weights.safetensors", build(plan.net, 2, 2, seed=0).state_dict(), {"final": True})
    lines = [f"c{k},pictures/{k:02}.png,{f'pictures/{k + 1:02}.png' if k else ''}" for k in range(3)]
    (tmp_path / "new.csv").write_text("\n".join(["case,image_front,image_side", *lines]) + "\n")
    return made.path


def told(capsys, *words):
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_case_is_found_by_its_name(run, tmp_path, capsys):
    for more, case in (((), "c0"), (("--case", "c2"), "c2")):
        found = told(capsys, "explain", run, tmp_path / "new.csv", "-o", tmp_path / "x.png", "--method", "occlusion", *more)
        assert found["case"] == case and found["class"] in ("dark", "bright")
        width, height = Picture.open(tmp_path / "x.png").size
        assert width > height, "two views beside each other, each above its heat, and a bar"
    assert main(["explain", str(run), str(tmp_path / "new.csv"), "-o", str(tmp_path / "x.png"), "--case", "c9"]) == 2
    assert "Did you mean c" in capsys.readouterr().err


def test_channels_are_named_one_by_one(run, tmp_path, capsys):
    files = [tmp_path / "pictures" / f"{k:02}.png" for k in (1, 2)]
    pairs = ("--image", f"front={files[0]}", "--image", f"side={files[1]}")
    one = told(capsys, "explain", run, "-o", tmp_path / "a.png", "--method", "occlusion", *pairs)
    two = told(capsys, "explain", run, tmp_path / "new.csv", "--case", "c1", "-o", tmp_path / "b.png", "--method", "occlusion")
    assert one["class"] == two["class"] and (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    for words in ((), (str(files[0]), *pairs)):
        assert main(["explain", str(run), "-o", str(tmp_path / "c.png"), *words]) == 2
        assert "Name what to explain" in capsys.readouterr().err
    assert main(["explain", str(run), str(files[0]), "-o", str(tmp_path / "c.png")]) == 2
    assert "--image front=FILE" in capsys.readouterr().err
