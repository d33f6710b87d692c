"""Intervals of measures that belong to a set: against the intervals of means, and by their coverage of a known truth."""

import numpy as np
import pytest

from vesalius.engine.scores import intervals
from vesalius.engine.sets import summaries


def of_means(values, who="model"):
    """A measure that is the mean of `values`, so that the other code knows its interval."""
    return lambda name, index: {"all": {"mean": float(np.mean(values[name][index]))}}


def test_the_interval_of_a_mean_is_that_of_the_other_code():
    draw = np.random.default_rng(0)
    values, patients = draw.gamma(2, size=40), [f"p{k // 2}" for k in range(40)]
    made, _ = summaries(["model"], patients, of_means({"model": values}), draws=4000)
    low, high = intervals(values[:, None], patients, draws=4000)
    told = made["model"]["all"]["mean"]
    assert told["mean"] == pytest.approx(values.mean()) and told["n"] == 40
    width = high[0] - low[0]
    assert abs(told["low"] - low[0]) < 0.06 * width and abs(told["high"] - high[0]) < 0.06 * width


def test_two_answers_to_the_same_cases_are_drawn_together():
    draw = np.random.default_rng(1)
    shared = draw.normal(0, 5, 60)
    values = {"model": shared + 0.5, "baseline": shared + draw.normal(0, 0.1, 60)}
    made, gap = summaries(["model", "baseline"], [str(k) for k in range(60)], of_means(values))
    alone = made["model"]["all"]["mean"]
    assert gap["all"]["mean"]["mean"] == pytest.approx(0.5, abs=0.1)
    assert gap["all"]["mean"]["low"] > 0.4, "what both share is no doubt about their difference"
    assert alone["high"] - alone["low"] > 20 * (gap["all"]["mean"]["high"] - gap["all"]["mean"]["low"])


def test_cases_of_a_patient_are_drawn_together():
    values = np.repeat(np.random.default_rng(2).normal(size=12), 10)
    together = summaries(["m"], [str(k // 10) for k in range(120)], of_means({"m": values}))[0]["m"]["all"]["mean"]
    apart = summaries(["m"], [str(k) for k in range(120)], of_means({"m": values}))[0]["m"]["all"]["mean"]
    assert together["high"] - together["low"] > 2 * (apart["high"] - apart["low"])


def test_what_is_undefined_is_none():
    made, gap = summaries(["m"], ["a", "b", "c"], lambda who, index: {"all": {"x": float("nan"), "y": 1.0}}, draws=50)
    assert gap == {} and made["m"]["all"]["x"]["mean"] is None and made["m"]["all"]["x"]["low"] is None
    assert made["m"]["all"]["y"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "median": None, "n": 3}
    one, _ = summaries(["m"], ["a", "a"], lambda who, index: {"all": {"y": 1.0}})
    assert one["m"]["all"]["y"]["low"] is None, "one patient has no interval"


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """40 patients, the mean of an exponential: 95 % promised; 200 trials allow for 90 to 99.5 %."""
    draw, hits = np.random.default_rng(3), 0
    for trial in range(200):
        values = draw.exponential(size=40)
        told = summaries(["m"], [str(k) for k in range(40)], of_means({"m": values}), draws=200, seed=trial)[0]["m"]["all"]["mean"]
        hits += told["low"] <= 1 <= told["high"]
    assert 0.90 <= hits / 200 <= 0.995
