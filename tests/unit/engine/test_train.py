"""The loop: its schedule and averages by formula, its state to the last bit, and what goes wrong handled in the open."""

import csv
import errno
import math
import threading
import time

import pytest
import torch
from torch import nn

from tests.unit.engine.tiny import LABELS, stored, tiny_plan
from vesalius.core.errors import UsageError, VesaliusError
from vesalius.data.batch import Batch
from vesalius.engine import train as room
from vesalius.engine.ahead import Ahead
from vesalius.engine.member import method_of, samples
from vesalius.engine.state import load_weights
from vesalius.engine.train import COLUMNS, Clock, Log, Loop, one_cycle
from vesalius.methods import Method
from vesalius.plan.plan import Train
from vesalius.tasks import TASKS


class Parabola(Method):
    """(w - x)^2 by plain gradient descent: everything can be worked out by hand. `upset(step)` may spoil a step."""

    def __init__(self, upset=lambda method: None, *, rate=0.1):
        super().__init__()
        self.net = nn.Linear(1, 1, bias=False)
        self.net.weight.data.fill_(1.0)
        self.rate, self.upset, self.calls, self.seen = rate, upset, 0, []

    def optimisers(self):
        return {"net": torch.optim.SGD(self.net.parameters(), lr=self.rate)}

    def steps(self, batch):
        self.calls += 1
        loss = (self.net(batch["x"]) - batch["x"] * batch["step"]).square().mean()
        spoilt = self.upset(self)
        yield "net", {"square": loss if spoilt is None else loss * spoilt}
        self.seen.append(float(self.net.weight.detach()))

    def infer(self, image):
        return self.net(image)


def draw(step, size):
    return Batch({"x": torch.ones(size, 1), "step": torch.full((size, 1), float(step))}, {})


def plan(steps=8, **more):
    return Train(**{"steps": steps, "learning_rate": 0.1, "weight_decay": 0.0, "validations": 2, "clip": 1e9, **more})


def loop(folder, method=None, *, train=None, batch=4, **more):
    return Loop(method or Parabola(), train or plan(), batch, folder, **more)


def rows(folder):
    with open(folder / "log.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by_hand(steps, *, rate=0.1, warm_up=0.1, start=1.0):
    """Weights after each step of descent on (w - step)^2."""
    w, seen = start, []
    for step in range(steps):
        w -= rate * one_cycle(step / steps, warm_up) * 2 * (w - step)
        seen.append(w)
    return seen


# -- formulas ----------------------------------------------------------------------------------------------------------------


def test_one_cycle_is_its_formula():
    assert one_cycle(0, 0.1) == pytest.approx(1 / 25) and one_cycle(0.1, 0.1) == 1 and one_cycle(1, 0.1) == pytest.approx(0)
    assert one_cycle(0.05, 0.1) == pytest.approx((0.04 + 1) / 2)  # linear
    assert one_cycle(0.1 + 0.9 / 2, 0.1) == pytest.approx(0.5)  # the cosine's middle
    assert one_cycle(0.1 + 0.9 / 3, 0.1) == pytest.approx(0.75)  # (1 + cos 60) / 2
    assert one_cycle(0.3, 0.0) == pytest.approx((1 + math.cos(0.3 * math.pi)) / 2) and one_cycle(1.2, 0.1) == pytest.approx(0)


def test_steps_and_rates_are_those_of_the_plan(tmp_path):
    method = Parabola()
    assert loop(tmp_path, method).fit(draw)
    assert method.seen == pytest.approx(by_hand(8), rel=1e-5)
    found = rows(tmp_path)
    assert tuple(found[0]) == COLUMNS and [int(row["step"]) for row in found] == list(range(1, 9))
    assert [float(row["learning_rate"]) for row in found] == pytest.approx([0.1 * one_cycle(k / 8, 0.1) for k in range(8)])
    assert [float(row["progress"]) for row in found] == [(k + 1) / 8 for k in range(8)]
    before = [1.0, *by_hand(8)]
    assert [float(row["loss"]) for row in found] == pytest.approx([(before[k] - k) ** 2 for k in range(8)], rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("ema", [0.0, 0.05, 0.5])
def test_the_kept_weights_are_the_average_by_formula(tmp_path, ema):
    steps = 40
    loop(tmp_path, train=plan(steps, ema=ema)).fit(draw)
    kept = 1.0
    for step, w in enumerate(by_hand(steps)):
        progress = max(step / steps, 1e-6)
        keep = min(1 - 1 / max(10, ema * (step + 1) / progress), (1 + step) / (10 + step))
        kept = keep * kept + (1 - keep) * w
    weights, words = load_weights(tmp_path / "weights.safetensors")
    assert words == {"step": steps, "final": True} and list(weights) == ["weight"]
    assert float(weights["weight"]) == pytest.approx(kept, rel=1e-5)


def test_the_gradient_is_clipped(tmp_path):
    method = Parabola()
    method.net.weight.data.fill_(1000.0)
    loop(tmp_path, method, train=plan(1, clip=0.5, warm_up=0.0)).fit(draw)
    assert method.seen[0] == pytest.approx(1000 - 0.1 * 0.5)


def test_two_optimisers_take_turns(tmp_path):
    class Two(Method):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))
            self.seen = []

        def optimisers(self):
            return {name: torch.optim.SGD([getattr(self, name)], lr=1.0) for name in "ab"}

        def steps(self, batch):
            yield "a", {"x": self.a * 2.0, "y": self.a * 1.0}
            self.seen.append((float(self.a.detach()), float(self.b.detach())))
            yield "b", {"x": self.b * self.a.detach()}
            self.seen.append((float(self.a.detach()), float(self.b.detach())))

        def infer(self, image):
            return image

    method = Two()
    loop(tmp_path, method, train=plan(1, warm_up=0.0)).fit(draw)
    assert method.seen == [(-2.0, 1.0), (-2.0, 3.0)]  # a - 3, then b - a with the new a


@pytest.mark.parametrize(("precision", "low"), [("bf16", True), ("fp32", False)])
def test_precision_is_that_of_the_plan(tmp_path, precision, low):
    seen = []
    method = Parabola(lambda m: seen.append(torch.is_autocast_enabled("cpu")))
    loop(tmp_path, method, train=plan(1, precision=precision)).fit(draw)
    assert seen == [low]


# -- the clock ---------------------------------------------------------------------------------------------------------------


def test_the_clock_counts_earlier_sittings():
    clock = Clock(plan(seconds=100.0), spent=30.0, started=time.monotonic() - 20)
    assert clock.seconds == pytest.approx(50, abs=0.1) and clock.progress(10**6) == pytest.approx(0.5, abs=0.01)
    assert Clock(plan(8)).progress(2) == 0.25


def test_with_a_deadline_learning_ends_there(tmp_path):
    method = Parabola(lambda m: time.sleep(0.002))
    begun = time.monotonic()
    made = loop(tmp_path, method, train=plan(10, seconds=0.5))
    assert made.fit(draw) and method.calls > 10  # not after the steps that were promised
    assert 0.5 <= time.monotonic() - begun < 5
    found = rows(tmp_path)
    assert float(found[-1]["progress"]) == 1 and float(found[-1]["learning_rate"]) < 0.05
    assert 0.5 <= load_weights(made.state_file)[1]["seconds"] < 5


# -- looks -------------------------------------------------------------------------------------------------------------------


def test_looks_are_at_the_averaged_weights_and_leave_no_trace(tmp_path):
    seen = []

    def validate(method):
        seen.append((method.training, float(method.net.weight.detach())))
        return 0.25

    made, method = plan(10, validations=5), Parabola()
    loop(tmp_path, method, train=made).fit(draw, validate)
    assert len(seen) == 4 and not any(training for training, _ in seen)  # at 1/5 ... 4/5; the end is tested properly
    assert method.seen == pytest.approx(by_hand(10), rel=1e-5)
    assert all(w not in method.seen for _, w in seen)
    assert [row["step"] for row in rows(tmp_path) if row["validation"]] == ["2", "4", "6", "8"]


def test_every_row_is_told(tmp_path):
    told = []
    loop(tmp_path, tick=told.append).fit(draw)
    assert [row["step"] for row in told] == list(range(1, 9)) and set(told[0]) == set(COLUMNS)


# -- samples ahead -----------------------------------------------------------------------------------------------------------


def test_the_next_batch_is_drawn_while_this_one_is_learned_from():
    drawn, ready = [], threading.Event()

    def slow(step, size):
        drawn.append((step, size))
        if step == 1:
            ready.set()
        return draw(step, size)

    with Ahead(slow) as ahead:
        assert float(ahead.take(0, 4)["step"][0]) == 0
        assert ready.wait(5)  # nobody has asked for step 1 yet
        assert float(ahead.take(1, 4)["step"][0]) == 1
        assert len(ahead.take(2, 2)) == 2  # another size than was drawn ahead
    assert drawn[:2] == [(0, 4), (1, 4)] and drawn.count((2, 2)) == 1


def test_each_step_gets_its_own_batch(tmp_path):
    drawn = []

    def noted(step, size):
        drawn.append((step, size))
        return draw(step, size)

    loop(tmp_path).fit(noted)
    assert sorted(drawn)[:8] == [(k, 4) for k in range(8)] and len(drawn) <= 9


def test_an_error_in_the_samples_reaches_the_user(tmp_path):
    def broken(step, size):
        raise VesaliusError("a file has gone")

    with pytest.raises(VesaliusError, match="a file has gone"):
        loop(tmp_path).fit(broken)


# -- resuming ----------------------------------------------------------------------------------------------------------------


def real(folder, steps=8, **more):
    """A loop around a real network, real patches and real augmentation."""
    made = tiny_plan(steps=steps, **more)
    return Loop(method_of(TASKS["segment"](), made, "cpu"), made.train, made.patch.batch, folder), samples(made, stored(), "cpu")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    made, drawn = real(folder)
    made.fit(drawn)
    return folder


def same_files(a, b, *names):
    for name in names:
        (first, _), (second, _) = load_weights(a / name), load_weights(b / name)
        assert first.keys() == second.keys()
        assert [key for key in first if not torch.equal(first[key], second[key])] == []


FILES = ("weights.safetensors", "checkpoint/state.safetensors")


@pytest.mark.parametrize("stops", [(1,), (3,), (2, 5, 6)])
def test_stopped_and_resumed_it_is_the_uninterrupted_run(tmp_path, uninterrupted, stops):
    for stop in (*stops, 99):
        made, drawn = real(tmp_path)
        made.stop = lambda made=made, stop=stop: made.step >= stop
        assert made.fit(drawn) is (stop == 99)
        assert load_weights(tmp_path / "weights.safetensors")[1]["final"] is (stop == 99)
    same_files(tmp_path, uninterrupted, *FILES)
    found, expected = rows(tmp_path), rows(uninterrupted)
    assert [(row["step"], row["loss"], row["learning_rate"]) for row in found] == [
        (row["step"], row["loss"], row["learning_rate"]) for row in expected
    ]


@pytest.mark.parametrize("moment", ["in a step", "in the samples", "while the state is written", "before the log"])
def test_broken_off_anywhere_it_is_the_uninterrupted_run(tmp_path, uninterrupted, monkeypatch, moment):
    """As if the power went: whatever was going on, the last whole state is what counts."""
    monkeypatch.setattr(room, "STATE_SECONDS", (0.0, 0.0))  # a state after every step
    made, drawn = real(tmp_path)
    calls = []

    def fails(*words, **more):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return kept(*words, **more)

    if moment == "in a step":
        kept = made.method.net.heads
        made.method.net.heads = fails
    elif moment == "in the samples":
        kept, drawn = drawn, fails
    elif moment == "while the state is written":
        kept = room.pack
        monkeypatch.setattr(room, "pack", fails)
    else:
        kept = Log.flush
        monkeypatch.setattr(Log, "flush", fails)
    with pytest.raises(KeyboardInterrupt):
        made.fit(drawn)
    monkeypatch.undo()
    for name in ("checkpoint/.123.state.safetensors", ".123.weights.safetensors"):
        (tmp_path / name).write_bytes(b"half a state")
    again, drawn = real(tmp_path)
    assert again.fit(drawn)
    same_files(tmp_path, uninterrupted, *FILES)
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["state.safetensors"] and not list(tmp_path.glob(".*"))
    assert [int(row["step"]) for row in rows(tmp_path)] == list(range(1, 9))


def test_a_finished_run_stays_as_it_is(tmp_path):
    loop(tmp_path).fit(draw)
    again = Parabola()
    assert loop(tmp_path, again).fit(draw) and again.calls == 0
    assert len(rows(tmp_path)) == 8


def test_a_plan_that_was_changed_meanwhile_is_told(tmp_path):
    made, drawn = real(tmp_path)
    made.stop = lambda: made.step >= 1
    made.fit(drawn)
    other, drawn = real(tmp_path, settings=("net.channels=[4,6]",))
    with pytest.raises(VesaliusError, match=r"another network.*plan\.json.*--overwrite"):
        other.fit(drawn)


def test_rows_after_the_state_are_dropped(tmp_path):
    log = Log(tmp_path / "log.csv", 0, active=True)
    for step in (1, 2, 3):
        log.add({"step": step, "seconds": 0.1, "progress": 0.1, "loss": math.nan, "learning_rate": 1e-3, "validation": None})
    log.flush()
    again = Log(tmp_path / "log.csv", 2, active=True)
    again.flush()
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2"] and rows(tmp_path)[0]["validation"] == ""
    Log(tmp_path / "other.csv", 0, active=False).flush()
    assert not (tmp_path / "other.csv").exists()


def test_states_are_written_as_often_as_they_are_cheap(tmp_path, monkeypatch):
    made = loop(tmp_path)
    log = Log(tmp_path / "log.csv", 0, active=True)
    for cost, expected in ((0.0, 0.5), (0.2, 10.0), (50.0, 60.0)):
        clock = iter([100.0, 100.0 + cost])
        monkeypatch.setattr(room.time, "monotonic", lambda clock=clock, cost=cost: next(clock, 100.0 + cost))
        monkeypatch.setattr(made, "_save", lambda log: None)
        assert made.save(log) - 100.0 - cost == pytest.approx(expected)


# -- no number ---------------------------------------------------------------------------------------------------------------


def test_a_step_without_a_number_is_left_out(tmp_path):
    method = Parabola(lambda m: math.nan if m.calls in (3, 4) else None)
    loop(tmp_path, method).fit(draw)
    w, expected = 1.0, []
    for step in range(8):
        if step not in (2, 3):
            w -= 0.1 * one_cycle(step / 8, 0.1) * 2 * (w - step)
            expected.append(w)
    assert method.seen == pytest.approx(expected, rel=1e-5)
    assert [row["loss"] == "nan" for row in rows(tmp_path)] == [k in (2, 3) for k in range(8)]


def test_a_gradient_without_a_number_is_left_out_too(tmp_path):
    """The root of 0 is 0, and its slope is not finite; without care every weight would be lost at once."""
    method = Parabola(lambda m: 1 + (m.net.weight * 0).abs().sqrt().sum() if m.calls == 3 else None)
    loop(tmp_path, method).fit(draw)
    assert math.isfinite(float(method.net.weight.detach())) and len(method.seen) == 7


def test_five_in_a_row_bring_the_last_state_back_at_half_the_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "STATE_SECONDS", (0.0, 0.0))
    told, method = [], Parabola(lambda m: math.inf if 4 <= m.calls <= 8 else None)
    made = loop(tmp_path, method, train=plan(20), say=told.append)
    assert made.fit(draw)
    assert len(told) == 1 and "half the learning rate" in told[0] and made.slower == 0.5
    assert [row["loss"] in ("nan", "inf") for row in rows(tmp_path)] == [3 <= k < 8 for k in range(20)]
    rates = [float(row["learning_rate"]) for row in rows(tmp_path)]
    assert rates[8:] == pytest.approx([0.05 * one_cycle(k / 20, 0.1) for k in range(8, 20)])
    assert loop(tmp_path, train=plan(20)).fit(draw) and load_weights(made.state_file)[1]["slower"] == 0.5


def test_weights_that_went_astray_come_back(tmp_path, monkeypatch):
    def upset(method):
        if method.calls == 4:
            method.net.weight.data.fill_(math.nan)

    method = Parabola(upset)
    monkeypatch.setattr(room, "STATE_SECONDS", (0.0, 0.0))
    loop(tmp_path, method, train=plan(30)).fit(draw)
    weights, _ = load_weights(tmp_path / "weights.safetensors")
    assert math.isfinite(float(weights["weight"])) and math.isfinite(float(method.net.weight.detach()))


def test_without_an_end_of_it_the_user_is_told_what_to_do(tmp_path):
    with pytest.raises(VesaliusError, match=r"again and again.*vesalius inspect.*fp32"):
        loop(tmp_path, Parabola(lambda m: math.nan), train=plan(100)).fit(draw)


# -- memory ------------------------------------------------------------------------------------------------------------------


def full(message="DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"):
    raise RuntimeError(message)


@pytest.mark.parametrize("problem", [RuntimeError("CUDA out of memory. Tried ..."), MemoryError(), torch.OutOfMemoryError("x"),
                                     RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"),
                                     RuntimeError("could not create a primitive")])  # fmt: skip
def test_out_of_memory_halves_the_batch_and_says_so(tmp_path, problem):
    told, drawn = [], []

    def upset(method):
        if method.calls in (3, 4):
            raise problem

    def noted(step, size):
        drawn.append((step, size))
        return draw(step, size)

    made = loop(tmp_path, Parabola(upset), say=told.append)
    assert made.fit(noted)
    assert made.batch == 1 and [text.split("halved to ")[1] for text in told] == ["2.", "1."]
    assert made.method.seen == pytest.approx(by_hand(8), rel=1e-5)  # no step is lost
    assert (2, 2) in drawn and [(k, 1) for k in range(2, 8)] == sorted(d for d in drawn if d[1] == 1 and d[0] < 8)
    again = loop(tmp_path, train=plan(9))
    again.resume()
    assert again.batch == 1


def test_memory_that_is_not_enough_for_one_sample_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(VesaliusError, match=r"single sample.*--memory"):
        loop(tmp_path, Parabola(lambda m: full())).fit(draw)


def test_other_errors_are_not_taken_for_memory(tmp_path):
    with pytest.raises(RuntimeError, match="shapes"):
        loop(tmp_path, Parabola(lambda m: full("shapes do not match"))).fit(draw)


def test_more_processes_than_samples_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(UsageError, match=r"patch\.batch=8"):
        loop(tmp_path)


# -- the disk ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(monkeypatch):
    """A disk that is full while `disk.full`."""
    import os

    class Disk:
        full = False

    def replace(source, target, kept=os.replace):
        if Disk.full:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        kept(source, target)

    monkeypatch.setattr("vesalius.core.files.os.replace", replace)
    return Disk


def test_a_full_disk_does_not_end_learning(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(room, "STATE_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(room, "LOG_SECONDS", 0.0)
    told = []

    def upset(method):
        disk.full = 3 <= method.calls <= 5

    made = loop(tmp_path, Parabola(upset), say=told.append)
    assert made.fit(draw)
    assert len(told) == 1 and "No space left on device" in told[0] and "Learning goes on" in told[0]
    assert made.method.seen == pytest.approx(by_hand(8), rel=1e-5) and len(rows(tmp_path)) == 8
    assert load_weights(tmp_path / "weights.safetensors")[1]["final"]


def test_a_disk_that_stays_full_is_a_clear_error_and_the_last_state_is_kept(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(room, "STATE_SECONDS", (0.0, 0.0))

    def upset(method):
        disk.full = method.calls >= 4

    with pytest.raises(VesaliusError, match=r"Cannot write .*weights\.safetensors.*No space left.*Free some space"):
        loop(tmp_path, Parabola(upset)).fit(draw)
    disk.full = False
    assert load_weights(tmp_path / "checkpoint" / "state.safetensors")[1]["step"] == 3
    again = Parabola()
    assert loop(tmp_path, again).fit(draw)
    assert again.calls == 5 and again.seen == pytest.approx(by_hand(8)[3:], rel=1e-5)


def test_the_plan_of_a_method_is_followed(tmp_path):
    """Everything from the plan: the real method learns the balls in a few steps."""
    made, drawn = real(tmp_path, steps=30, settings=("train.learning_rate=0.02",))
    made.fit(drawn)
    losses = [float(row["loss"]) for row in rows(tmp_path)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5]) and LABELS.exclusive


# -- the best look -----------------------------------------------------------------------------------------------------------


def looked(folder, scores, *, best):
    """The kept weight and the weight at each look, which scores as told, the end last."""
    told, seen = iter(scores), []

    def validate(method):
        seen.append(float(method.net.weight.detach()))
        return next(told)

    said = []
    loop(folder, train=plan(10, validations=5, best=best), say=said.append).fit(draw, validate)
    weights, _ = load_weights(folder / "weights.safetensors")
    return float(weights["weight"]), seen, said


def test_an_earlier_look_that_was_clearly_better_is_kept(tmp_path):
    kept, seen, said = looked(tmp_path, [0.5, 0.9, 0.7, 0.6, 0.6], best=0.01)
    assert kept == pytest.approx(seen[1]) and kept != pytest.approx(seen[-1]) and "step 4" in said[-1]


NEARLY, RISING, OFF = ((0.5, 0.9, 0.7, 0.6, 0.895), 0.01), ((0.5, 0.6, 0.7, 0.8, 0.9), 0.01), ((0.9, 0.1, 0.1, 0.1, 0.1), 0.0)


@pytest.mark.parametrize(("scores", "best"), [NEARLY, RISING, OFF])
def test_the_last_weights_are_kept_otherwise(tmp_path, scores, best):
    kept, _, said = looked(tmp_path, list(scores), best=best)
    last, _ = load_weights(tmp_path / "checkpoint" / "state.safetensors")
    assert kept == pytest.approx(float(last["average.net.weight"]), rel=1e-6) and not said
