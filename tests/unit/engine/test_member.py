"""One member: its method and samples as the plan says, looks within their share of the budget, events that a full disk ends."""

import errno

import numpy as np
import pytest
import torch

from tests.unit.engine.tiny import LABELS, Threshold, stored, tiny_plan
from vesalius.augment import Composed
from vesalius.data.labels import Labels
from vesalius.data.patches import Patches
from vesalius.engine import member as room
from vesalius.engine.member import Sides, learn, looks, method_of, samples
from vesalius.engine.progress import Listener
from vesalius.engine.state import load_weights
from vesalius.plan import build
from vesalius.tasks import TASKS

TASK = TASKS["segment"]()


class Noted(Listener):
    def __init__(self):
        self.told, self.rows = [], []

    def say(self, text):
        self.told.append(text)

    def row(self, row):
        self.rows.append(row)


def ignore(*words):
    pass


def test_the_network_is_the_plans_drawn_from_its_seed():
    first, second = (method_of(TASK, tiny_plan((f"train.seed={seed}",)), "cpu").net for seed in (0, 1))
    expected = build(tiny_plan().net, 1, 2, seed=0)
    for name, value in expected.state_dict().items():
        assert torch.equal(first.state_dict()[name], value)
    assert not torch.equal(first.down[0][1][0].weight, second.down[0][1][0].weight)
    assert first.down[0][1][0].weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_overlapping_labels_get_a_logit_each():
    labels = Labels(names=("a", "b", "c"), values=((1,), (2,), (3,)), kind="regions")
    assert method_of(TASK, tiny_plan(labels=labels), "cpu").net.outs[0].out_channels == 3
    assert method_of(TASK, tiny_plan(), "cpu").net.outs[0].out_channels == 2


@pytest.mark.parametrize("ndim", [2, 3])
def test_samples_are_the_patches_augmented(ndim):
    plan = tiny_plan(ndim=ndim)
    cases = stored(ndim=ndim)
    batch = samples(plan, cases, "cpu")(3, 4)
    change = Composed(plan.augment, plan.patch.size, (1.0,) * ndim)
    raw, seeds = Patches(cases, plan.patch.size, change.margin(), 0.5, 0).batch(3, 4)
    assert torch.equal(batch["image"], change(raw, seeds)["image"]) and torch.equal(batch["target"], change(raw, seeds)["target"])
    assert batch["image"].shape == (4, 1, *(8,) * ndim)
    layout = torch.channels_last_3d if ndim == 3 else torch.channels_last
    assert batch["image"].is_contiguous(memory_format=layout)


def test_a_process_draws_its_share(monkeypatch):
    joint = samples(tiny_plan(), stored(), "cpu")(0, 4)
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        share = samples(tiny_plan(), stored(), "cpu")(0, 4)
        assert torch.equal(share["image"], joint["image"][rank::2]) and torch.equal(share["target"], joint["target"][rank::2])


class Answer(torch.nn.Module):
    """A trained method whose network thresholds."""

    def __init__(self):
        super().__init__()
        self.net = Threshold(level=0.9)


def test_a_look_is_the_mean_score_of_whole_cases():
    cases = stored(3)
    found = looks(TASK, tiny_plan(steps=10_000), cases, where="cpu")(Answer())
    expected = [TASK.quick_score((c.image.astype(np.float32) > 0.9).astype(np.uint8), c.target, LABELS) for c in cases]
    assert found == pytest.approx(np.mean(expected), abs=0.01) and 0.2 < found < 1


@pytest.mark.parametrize(("steps", "number"), [(10_000, 5), (1000, 2), (1, 1)])
def test_a_look_takes_its_share_of_the_budget(monkeypatch, steps, number):
    """1/200 of steps x 0.01 s, at 4 tiles of 0.005 s a case."""
    seen = []
    monkeypatch.setattr(room, "classes", lambda networks, pixels, shape, **more: seen.append(1) or np.zeros((1, *shape), np.uint8))
    looks(TASK, tiny_plan(steps=steps), stored(5), where="cpu")(Answer())
    assert len(seen) == number


def test_a_member_learns_and_tells(tmp_path):
    listener, ticks = Noted(), []
    ended = learn(
        TASK, tiny_plan(), tmp_path / "m", sides=Sides(stored(), stored(2)), listener=listener, tick=lambda *words: ticks.append(words)
    )
    assert ended and [row["step"] for row in listener.rows] == list(range(1, 9)) and ticks[-1][:2] == (1.0, 1.0)
    assert [row["step"] for row in listener.rows if row["validation"] is not None] == [4]
    assert 0 <= next(row["validation"] for row in listener.rows if row["validation"] is not None) <= 1
    assert (tmp_path / "m" / "log.csv").exists() and list((tmp_path / "m" / "events").iterdir())
    assert not torch.are_deterministic_algorithms_enabled()
    net = build(tiny_plan().net, 1, 2)
    net.load_state_dict(load_weights(tmp_path / "m" / "weights.safetensors")[0])


def test_stopped_by_the_user_it_keeps_what_it_has(tmp_path):
    listener = Noted()
    listener.stop = lambda: len(listener.rows) >= 2
    assert not learn(TASK, tiny_plan(), tmp_path, sides=Sides(stored(), []), listener=listener, tick=ignore)
    assert load_weights(tmp_path / "weights.safetensors")[1] == {"step": 3, "final": False}


def test_events_that_cannot_be_written_end_alone(tmp_path, monkeypatch):
    listener = Noted()
    calls = []

    def full(path, mode):
        calls.append(path)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return open(path, mode)

    monkeypatch.setattr("vesalius.engine.events.open", full, raising=False)
    assert learn(TASK, tiny_plan(), tmp_path, sides=Sides(stored(), []), listener=listener, tick=ignore)
    assert len(listener.told) == 1 and "No space left" in listener.told[0] and len(listener.rows) == 8
