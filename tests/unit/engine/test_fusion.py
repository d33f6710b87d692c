"""Fusions: what is refused, which network each is, and what overlapping intervals allow to say."""

import time
from dataclasses import replace

import pytest

from tests.unit.engine.tiny import tiny_dataset
from tests.unit.plan.test_whole_plan import dataset
from vesalius.core.errors import UsageError
from vesalius.engine import fusion
from vesalius.engine.fusion import fused, short, words
from vesalius.nets import NETS
from vesalius.plan import Request
from vesalius.plan.classifiers import Own
from vesalius.report.fusion import page
from vesalius.tasks import TASKS

TWO = replace(dataset(), channels=("t1", "t2"))


def test_each_fusion_names_a_network_and_keeps_what_the_user_says_of_it():
    for name, (net, arguments) in TASKS["classify"]().fusions.items():
        own = Own.of(fused(TWO, Request(settings=('net.arguments={"scale": 0.5}', "train.seed=3")), name).settings)
        assert own.name == net in NETS and own.arguments == {**arguments, "scale": 0.5}


def test_where_there_is_nothing_to_fuse_it_is_refused_in_words():
    for data, match in ((dataset(), "has one .image."), (tiny_dataset(), "labelled for another task")):
        for name in ("input", "all"):
            with pytest.raises(UsageError, match=match):
                fused(data, Request(), name)
    with pytest.raises(UsageError, match="Did you mean feature"):
        fused(TWO, Request(), "featur")
    with pytest.raises(UsageError, match="chooses the network"):
        fused(TWO, Request(settings=("net.name=vgg",)), "input")


def made(name, mean, low, high):
    score = {"mean": mean, "low": low, "high": high}
    return {"fusion": name, "run": f"fusion_{name}", "net": "resnet", "arguments": {"depth": 18}, "auc": score, "balanced_accuracy": score,
            "parameters": 1000, "steps": 5, "epochs": 50.0, "seconds": 61.0, "cases": 9, "part": "test"}  # fmt: skip


def test_no_winner_where_intervals_overlap():
    rows = [made("input", 0.6, 0.5, 0.7), made("feature", 0.9, 0.8, 1.0), made("attention", 0.85, 0.7, 0.95)]
    assert "overlaps with that of attention:" in words(rows, "auc")
    assert "lies above those of all others" in words(rows[:2], "auc")
    assert words(rows[:1], "auc") == "" and "overlaps" in words([*rows[:1], made("x", 0.9, None, None)], "auc")


def test_fusions_that_had_no_time_are_named():
    rows = [made("input", 0.6, 0.5, 0.7), {**made("attention", 0.5, 0.4, 0.6), "epochs": 1.6}]
    assert "made by attention (2):" in short(rows) and short(rows[:1]) == ""


def test_the_page_shows_each_score_and_takes_no_code_from_names():
    rows = [made("input", 0.6, 0.5, 0.7), made("<b>", 0.9, 0.8, 1.0)]
    text = str(page({"budget_seconds": 90.0, "part": "test", "rows": rows, "words": ["a < b"]}))
    assert "0.600" in text and "0.500 to 0.700" in text and "fusion_input/report.html" in text
    assert "<b></a>" not in text and "a &lt; b" in text


def test_the_time_is_shared_evenly_and_a_stop_is_heard(monkeypatch, tmp_path):
    asked, began = [], []

    class Once(fusion.Listener):
        def stop(self):
            return len(asked) == 3

    def train(dataset, folder, *, wish, listener, **how):
        asked.append((folder.name, wish.budget, wish.seed, how))
        began.append(listener.started)

    monkeypatch.setattr(fusion, "train", train)
    monkeypatch.setattr(fusion, "compared", lambda runs, share: {"runs": list(runs), "share": share})
    listener, now = Once(), time.monotonic()
    listener.started = now - 100  # when the program was called: that time is of the first share alone
    found = fusion.train_all(TWO, tmp_path, wish=Request(budget="8m", seed=3), listener=listener, skip_bad=True)
    assert began[0] == now - 100 and all(now <= at <= time.monotonic() for at in began[1:])
    assert asked == [(f"fusion_{name}", 120.0, 3, {"skip_bad": True}) for name in ("input", "feature", "decision")]
    assert found == {"runs": ["input", "feature", "decision"], "share": 120.0}
