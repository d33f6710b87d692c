import numpy as np
import pytest

from tests.unit.report.fake_run import scores
from vesalius.engine.scores import intervals, summarise
from vesalius.report.numbers import case_means, difference, differences, duration, interval, listed, number, plural


def row(case: str, label: str, dice: float | None, *, patient: str = "", state: str = "scored") -> dict[str, object]:
    return {"case": case, "patient": patient or case, "label": label, "dice": dice, "state": state}


@pytest.mark.parametrize(
    ("value", "digits", "sign", "text"),
    [
        (0.8764, 3, False, "0.876"),
        (-1.2, 2, False, "−1.20"),
        (0.1, 3, True, "+0.100"),
        (-0.0001, 3, True, "+0.000"),
        (12345.6, 0, False, "12\u202f346"),
        (None, 3, False, "–"),
    ],
)
def test_a_number_as_people_write_it(value: float | None, digits: int, sign: bool, text: str):
    assert number(value, digits, sign=sign) == text


def test_words_for_lengths_of_time_and_lists():
    assert [duration(s) for s in (None, 45, 89, 1200, 3900)] == ["–", "45 s", "89 s", "20 min", "1 h 05 min"]
    assert [plural(1, "case"), plural(3, "case"), plural(0, "case")] == ["1 case", "3 cases", "0 cases"]
    assert [listed([]), listed(["a"]), listed(["a", "b"]), listed(list("abcdefgh"), 3)] == ["", "a", "a and b", "a, b, c and 5 more"]
    assert [interval(0.1, 0.2), interval(None, 0.2)] == ["0.100 to 0.200", ""]


def test_a_case_mean_leaves_out_what_is_undefined_or_absent():
    rows = [row("a", "x", 0.5), row("a", "y", 0.7), row("a", "z", 1.0, state="both_empty"), row("b", "x", None)]
    assert case_means([*rows, row("c", "x", 0.0, state="missed")], "dice") == pytest.approx({"a": 0.6, "c": 0.0})


def test_the_difference_is_that_of_the_means_over_the_same_cases():
    """Against the two means themselves, and its interval against the engine's on the paired differences."""
    rng, labels = np.random.default_rng(3), ("a", "b")
    ours = scores([f"c{k}" for k in range(20)], labels, rng, 0.85)["rows"]
    theirs = scores([f"c{k}" for k in range(20)], labels, rng, 0.7)["rows"]
    found = difference(ours, theirs, "dice")
    model, baseline = summarise(ours)["summary"]["all"]["dice"], summarise(theirs)["summary"]["all"]["dice"]
    assert found is not None and found.mean == pytest.approx(model["mean"] - baseline["mean"])
    assert (found.n, found.patients) == (20, 10)
    gaps = [np.mean([a["dice"] - b["dice"] for a, b in zip(ours[k : k + 2], theirs[k : k + 2], strict=True)]) for k in range(0, 40, 2)]
    low, high = intervals(np.array(gaps)[:, None], [r["patient"] for r in ours[::2]])
    assert (found.low, found.high) == pytest.approx((low[0], high[0]))
    assert found.clear and found.low < found.mean < found.high


def test_only_pairs_that_both_define_are_compared():
    ours = [row("a", "x", 0.9), row("b", "x", None), row("c", "x", 0.5), row("d", "x", 0.2)]
    theirs = [row("a", "x", 0.7), row("b", "x", 0.1), row("c", "x", None), row("e", "x", 0.3)]
    found = difference(ours, theirs, "dice")
    assert found is not None and found.mean == pytest.approx(0.2) and (found.n, found.low, found.clear) == (1, None, False)
    assert difference(ours, [], "dice") is None
    assert differences(ours, theirs, ["dice", "hd95"]).keys() == {"dice"}
