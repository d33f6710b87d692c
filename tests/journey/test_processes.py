"""Several processes learn as one would with the joint batch: same gradients, same weights, one voice, one run."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.journey import gradients
from tests.unit.engine.tiny import tiny_plan, write_scans
from vesalius.core.files import read_json
from vesalius.engine.state import load_weights
from vesalius.engine.workflow import train
from vesalius.plan import build

ROOT = Path(__file__).parents[2]


def torchrun(*words, home: Path, number: int = 2) -> str:
    """What `torchrun --nproc-per-node <number> ...` told on stderr; it must end well."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number), *map(str, words)]
    environment = {**os.environ, "VESALIUS_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    made = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    return made.stderr


def answer(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the network of the tiny plan says with `weights`. (Weights themselves differ where they do not matter: a bias before
    an instance norm has no gradient but rounding, which AdamW makes steps of.)"""
    net = build(tiny_plan().net, 1, 2)
    net.load_state_dict(weights)
    return net(torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))).detach()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Gradients of one process and of two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    gradients.main(one)
    torchrun(ROOT / "tests" / "journey" / "gradients.py", two, home=two)
    return one, two


@pytest.mark.slow
@pytest.mark.parametrize("size", gradients.SIZES)
def test_two_processes_have_the_gradients_of_one_with_the_joint_batch(found, size):
    alone = load_weights(found[0] / f"{size}-0.safetensors")[0]
    first, second = (load_weights(found[1] / f"{size}-{rank}.safetensors")[0] for rank in (0, 1))
    assert len(alone) == 4 * len({name.partition(".")[2] for name in alone})  # three steps and the end
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    whole = [torch.cat([part[name].flatten() for name in alone if name.startswith("0.")]) for part in (alone, first)]
    assert float((whole[0] - whole[1]).abs().max()) < 1e-5
    assert float((whole[0] - whole[1]).norm() / whole[0].norm()) < 1e-5
    answers = [answer({name[4:]: value for name, value in part.items() if name.startswith("end.")}) for part in (alone, first)]
    torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_a_loss_without_a_number_in_one_process_is_left_out_in_all(found):
    parts = [load_weights(found[world] / f"{gradients.ODD}-{rank}.safetensors")[0] for world, rank in ((0, 0), (1, 0), (1, 1))]
    for part in parts:
        assert {name.partition(".")[0] for name in part} == {"0", "2", "end"}
        assert all(weight.isfinite().all() for weight in part.values())
    assert all(torch.equal(parts[1][name], parts[2][name]) for name in parts[1])
    answers = [answer({name[4:]: value for name, value in part.items() if name.startswith("end.")}) for part in parts[:2]]
    torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_torchrun_trains_one_run(tmp_path, monkeypatch):
    scans = write_scans(tmp_path / "scans", 6)
    tiny_plan(steps=6).save(tmp_path / "plan.json")
    words = ["train", tmp_path / "scans", "--plan", tmp_path / "plan.json", "--deterministic", "-o"]
    monkeypatch.setenv("VESALIUS_HOME", str(tmp_path / "a"))
    train(scans, tmp_path / "one", plan_file=tmp_path / "plan.json")
    told = torchrun("-m", "vesalius", *words, tmp_path / "two", home=tmp_path / "b")
    assert told.count("testing on test: done") == 1, "one process speaks for all"
    one, two = tmp_path / "one", tmp_path / "two"
    torch.testing.assert_close(*(answer(load_weights(run / "weights.safetensors")[0]) for run in (one, two)), rtol=1e-2, atol=1e-2)
    assert read_json(two / "record.json")["processes"] == 2
    steps = [[row["step"] for row in csv.DictReader((run / "log.csv").open())] for run in (one, two)]
    assert steps[0] == steps[1] == [str(k) for k in range(1, 7)]
    assert (two / "report.html").is_file() and read_json(two / "metrics.json")["parts"].keys() == {"val", "test"}
