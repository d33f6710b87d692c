"""What commands say: answers on stdout, progress on stderr."""

import json

import numpy as np
import pytest

from vesalius.cli import _screen
from vesalius.cli._options import scores_table
from vesalius.cli._screen import Progress, answer_json, duration, table


def test_a_table_is_aligned(capsys):
    table(("label", "dice"), [("RV", 0.91234), ("myocardium", None), ("LV", 1.0)], title="Test")
    assert capsys.readouterr().out.splitlines() == [
        "Test",
        "label        dice",
        "----------  -----",
        "RV          0.912",
        "myocardium      –",
        "LV          1.000",
    ]


def test_json_on_stdout_is_json_alone(capsys):
    answer_json({"dice": np.float64(0.5), "nothing": float("nan")})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"dice": 0.5, "nothing": None} and captured.err == ""


DURATIONS = [(0.4, "0 s"), (59.4, "59 s"), (65, "1 min 05 s"), (59.9, "1 min 00 s"), (3780, "1 h 03 min")]


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_progress_goes_to_stderr_with_the_time_left(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(_screen.time, "monotonic", lambda: now[0])
    with Progress("reading", every=10) as progress:
        for done in range(1, 5):
            now[0] += 6
            progress(done, 10, f"case_{done}")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "reading ...",
        "reading: 2 of 10, 48 s left case_2",  # 12 s for 2, hence 6 s for each of the 8 that are left
        "reading: 4 of 10, 36 s left case_4",
        "reading: done in 24 s",
    ]


def test_progress_that_fails_does_not_say_done(capsys):
    with pytest.raises(ValueError), Progress("reading"):
        raise ValueError
    assert "done" not in capsys.readouterr().err


def test_on_a_terminal_it_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(_screen.sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("reading") as progress:
        progress(1, 2, "case_1")
        progress(2, 2)
    captured = capsys.readouterr()
    assert "reading" in captured.err and captured.out == ""


def test_scores_by_group_stand_below_those_of_all(capsys):
    def told(mean):
        return {"ball": {"dice": {"mean": mean, "low": None, "high": None}}}

    model = {"summary": told(0.5), "groups": {"sex": {"F": told(0.75), "M": told(0.25)}}}
    scores_table({"unit": "mm", "leading": ["dice"], "parts": {"test": {"model": model, "baseline": None, "raters": {}}}})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:5]]
    assert rows == [["test", "model", "ball", "0.500"], ["test", "model,", "sex", "F", "ball", "0.750"],
                    ["test", "model,", "sex", "M", "ball", "0.250"]]  # fmt: skip
