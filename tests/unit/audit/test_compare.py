"""Paired comparisons against loops, exact enumeration, scipy, and their level where there is no difference."""

import json
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from vesalius.audit.compare import bootstrap_differences, compare, delong_test, mcnemar, sign_flips
from vesalius.core.errors import DataError
from vesalius.metrics._answers import Answers
from vesalius.metrics.decisions import decisions
from vesalius.testing.check_class_metric import example


def two_models(cases=60, seed=0, edge=1.0, patients=None):
    """Probabilities of two models that share what they see of each case; the first sees `edge` more of the truth."""
    random = np.random.default_rng(seed)
    truth, shared = (np.arange(cases) % 3 == 0).astype(int), random.normal(size=cases)
    logits = [shared + random.normal(size=cases) + k * truth for k in (1 + edge, 1)]
    return [Answers.of(1 / (1 + np.exp(-x)), truth, patients=patients) for x in logits]


def accuracy(answers):
    return {"accuracy": float(answers.right.mean())}


def test_delong_s_test_as_the_paper_writes_it():
    first, second = two_models()
    truth = first.truth == 1
    values = np.stack([a.probabilities[:, 1] for a in (first, second)])
    x, y = values[:, truth], values[:, ~truth]
    psi = (x[:, :, None] > y[:, None, :]).astype(float)
    spread = np.cov(psi.mean(2)) / x.shape[1] + np.cov(psi.mean(1)) / y.shape[1]
    gap = np.diff(psi.mean((1, 2)))[0] * -1
    error = np.sqrt(spread[0, 0] + spread[1, 1] - 2 * spread[0, 1])
    found = delong_test(first, second)
    assert found.difference == pytest.approx(gap) and found.p == pytest.approx(2 * norm.sf(abs(gap) / error))
    assert (found.high - found.low) / 2 == pytest.approx(norm.ppf(0.975) * error)


def test_delong_s_test_keeps_its_level_and_finds_a_difference():
    same = [delong_test(*two_models(90, seed, edge=0.0)).p for seed in range(300)]
    assert np.mean(np.array(same) < 0.05) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 300))
    assert np.mean([delong_test(*two_models(150, seed, edge=1.5)).p < 0.05 for seed in range(50)]) > 0.8


def test_a_model_is_not_better_than_itself():
    first, _ = two_models()
    found = delong_test(first, first)
    assert (found.difference, found.p, found.low, found.high) == (0, 1, 0, 0)
    assert all(d.difference == 0 and d.p == 1 for d in bootstrap_differences(first, first, score=accuracy, draws=50))


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 0), (3, 9), (7, 7), (1, 14)])
def test_mcnemar_as_scipy_and_by_enumeration(b, c):
    first, second = np.repeat([True, False, True], [b, c, 10]), np.repeat([False, True, True], [b, c, 10])
    found = mcnemar(first, second)
    assert (found.first, found.second) == (b, c)
    assert found.p_exact == pytest.approx(binomtest(b, b + c, 0.5).pvalue if b + c else 1.0)
    heads = np.array([sum(coins) for coins in product((0, 1), repeat=b + c)])  # of b + c fair coins, all outcomes
    mid = 2 * ((heads < min(b, c)).mean() + 0.5 * (heads == min(b, c)).mean())
    assert found.p_mid == pytest.approx(mid)


def test_the_bootstrap_of_accuracy_is_the_normal_interval_of_the_paired_difference():
    first, second = two_models(400)
    found = bootstrap_differences(first, second, score=accuracy, draws=1500)[0]
    gaps = first.right.astype(float) - second.right
    assert found.difference == pytest.approx(gaps.mean())
    error = gaps.std() / 20
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.12)
    first, second = two_models(400, seed=5, edge=0.5)
    gaps = first.right.astype(float) - second.right
    expected = 2 * norm.sf(abs(gaps.mean()) / (gaps.std() / 20))
    assert 0.02 < expected < 0.5
    assert bootstrap_differences(first, second, score=accuracy, draws=2000)[0].p == pytest.approx(expected, rel=0.35)


def test_the_bootstrap_draws_patients():
    """The same cases thrice: as those of one patient the interval keeps its width, as patients it would shrink by sqrt 3."""
    first, second = two_models(80)
    once = bootstrap_differences(first, second, score=accuracy, draws=800)[0]
    rows = np.tile(np.arange(80), 3)
    thrice = [Answers.of(a.probabilities[rows], a.truth[rows], patients=rows) for a in (first, second)]
    together = bootstrap_differences(*thrice, score=accuracy, draws=800)[0]
    assert together.high - together.low == pytest.approx(once.high - once.low, rel=0.15)


def test_exchanging_answers_enumerates():
    """With six patients the 64 exchanges can be counted; random ones come to the same chance."""
    random = np.random.default_rng(3)
    truth = np.array([0, 1, 0, 1, 0, 1])
    p = np.abs(truth - [0.2, 0.4, 0.1, 0.3, 0.2, 0.1]), random.random(6)
    first, second = (Answers.of(x, truth) for x in p)
    exact = []
    for swap in product((False, True), repeat=6):
        a, b = np.where(swap, p[1], p[0]), np.where(swap, p[0], p[1])
        exact.append(((a >= 0.5) == truth).mean() - ((b >= 0.5) == truth).mean())
    expected = np.mean(np.abs(exact) >= abs(exact[0]) - 1e-12)
    found = sign_flips(first, second, score=accuracy, draws=3000)["accuracy"]
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 3000) + 1e-3)


def test_compare_tells_everything_in_json():
    first, second = two_models(60)
    told = json.loads(json.dumps(compare(first, second, draws=30)))
    assert told["differences"][0]["metric"] == "auc" and told["differences"][0]["test"] == "DeLong"
    by_name = {d["metric"]: d for d in told["differences"]}
    assert by_name["f1"]["first"] == pytest.approx(decisions(first)["f1"]) and len(by_name) > 20
    assert told["discordant"] == mcnemar(first.right, second.right).model_dump() and told["remarks"] == []
    whose = np.arange(60) // 2
    told = compare(*two_models(60, patients=whose), draws=30)
    assert told["discordant"] is None and "several cases" in told["remarks"][0]


def test_findings_and_several_classes_are_compared():
    p, y = example(3, exclusive=False)
    assert delong_test(Answers.of(p, y), Answers.of(p[::-1], y)).p < 0.05
    p, y = example(4)
    assert delong_test(Answers.of(p, y), Answers.of(np.roll(p, 1, 1), y)).p < 0.05


def test_other_cases_are_refused():
    first, second = two_models()
    with pytest.raises(DataError, match="same cases"):
        compare(first, second.take(np.arange(59, -1, -1)))
