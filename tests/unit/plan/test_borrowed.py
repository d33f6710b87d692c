"""A file of weights tells which network it is of."""

import pytest
import torch
from safetensors.torch import save_file

from tests.unit.nets.test_names import CASES, IDS, filled, vit
from tests.unit.plan.test_whole_plan import dataset, facts
from vesalius.core.errors import VesaliusError
from vesalius.engine.begin import begin
from vesalius.plan import begin as words
from vesalius.plan import build, plan, whole
from vesalius.plan.borrowed import network_of
from vesalius.plan.budget import Measured
from vesalius.tasks import TASKS

TASK = TASKS["classify"]()


@pytest.mark.parametrize(("name", "shapes", "arguments"), CASES, ids=IDS)
def test_names_and_shapes_tell_the_network(tmp_path, name, shapes, arguments):
    save_file({key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}, tmp_path / "w.safetensors")
    expected = {**(arguments or {"depth": 121}), **({"patch": 16} if name == "vit" else {})}
    assert network_of(tmp_path / "w.safetensors") == (name, expected)


def test_what_is_not_known_is_not_guessed(tmp_path):
    shapes = dict(CASES[0][1])
    for strange in ({"layer1.0.se.fc1.weight": (4, 64, 1, 1)}, {"layer4.1.conv2.weight": (513, 512, 3, 3)}):
        save_file(filled(shapes | strange), tmp_path / "w.safetensors")
        assert network_of(tmp_path / "w.safetensors") is None
        said = [f"train.init={tmp_path / 'w.safetensors'}"]
        assert words.with_network(said, TASK, ndim=2) == tuple(said)
    (tmp_path / "w.pth").write_bytes(b"PK" * 100)
    with pytest.raises(VesaliusError, match=r"not a \.safetensors file"):
        words.with_network([f"train.init={tmp_path / 'w.pth'}"], TASK, ndim=2)


def test_the_plan_is_for_the_network_of_the_file_unless_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(whole, "measure", lambda net, shape, *, where, kind: Measured(1e-3, 1e-3, 1 << 20, 1))
    monkeypatch.setattr(whole, "precision", lambda where: ("fp32", "as the tests say"))
    save_file(filled(vit("timm")), tmp_path / "w.safetensors")
    mine = [f"train.init={tmp_path / 'w.safetensors'}", 'net.arguments={"drop": 0.2}']
    made = plan(dataset(), facts=facts([(60, 60)] * 5), settings=mine)
    assert made.net.name == "vit" and made.net.arguments["size"] == "Ti" and made.net.arguments["drop"] == 0.2
    assert made.train.layer_decay == words.DECAY_OF_ATTENTION and "begins from" in made.reasons["net.name"]
    net = build(made.net, 1, 2)
    sentence = begin(net, tmp_path / "w.safetensors")
    assert "76 of 77 layers" in sentence and "head.weight, head.bias" in sentence, "our head has timm's name, and is no sign of our own"
    assert float(net.transformer.norm.bias.detach()[0]) == float(filled(vit("timm"))["norm.bias"][0])
    other = plan(dataset(), facts=facts([(60, 60)] * 5), settings=[*mine[:1], "net.name=resnet"])
    assert other.net.name == "resnet"
