"""Compiled networks learn what they would learn otherwise, and where torch cannot compile they learn all the same."""

import copy
import shutil

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from tests.unit.engine.tiny import stored, tiny_plan
from vesalius.core.errors import UsageError
from vesalius.engine import compiled as room
from vesalius.engine.compiled import compiled
from vesalius.engine.member import Sides, learn
from vesalius.engine.progress import Listener
from vesalius.engine.state import load_weights
from vesalius.methods import METHODS
from vesalius.plan import build
from vesalius.tasks import TASKS


class Noted(Listener):
    def __init__(self):
        self.told = []

    def say(self, text):
        self.told.append(text)


def learned(folder, *settings):
    said = Noted()
    plan = tiny_plan(("train.steps=2", "train.validations=0", *settings))
    assert learn(TASKS["segment"](), plan, folder, sides=Sides(stored(), []), listener=said, tick=lambda *_: None)
    return load_weights(folder / "weights.safetensors")[0], said.told


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="torch compiles with g++ or clang++")
def test_answers_gradients_and_names_are_those_without():
    plain = build(tiny_plan().net, 1, 2, seed=0)
    quick, told = copy.deepcopy(plain), []
    compiled(quick, told.append)
    image = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    answers = [net.heads(image) for net in (plain, quick)]
    for mine, theirs in zip(*answers, strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-5)
    for heads in answers:
        sum(head.square().mean() for head in heads).backward()
    assert not told and plain.state_dict().keys() == quick.state_dict().keys()
    for (name, mine), theirs in zip(plain.named_parameters(), quick.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, mine.grad, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_what_cannot_be_compiled_learns_as_it_is(tmp_path, monkeypatch):
    def broken(function, **words):
        def call(image):
            raise TorchDynamoException("no compiler")

        return call

    monkeypatch.setattr(room.torch, "compile", broken)
    plain, _ = learned(tmp_path / "plain")
    quick, told = learned(tmp_path / "quick", "train.compile=true")
    assert len(told) == 1 and "could not be compiled" in told[0]
    assert all(torch.equal(quick[name], value) for name, value in plain.items())


def test_methods_without_targets_are_refused():
    with pytest.raises(UsageError, match="learn from targets"):
        compiled(METHODS["autoencoder"]((1, 8, 8)).net, print)
