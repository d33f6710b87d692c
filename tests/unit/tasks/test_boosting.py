"""Boosted trees: leaves and splits against closed forms and exhaustive search, whole forests against scikit-learn; and the baseline that
chooses between them and logistic regression."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax
from sklearn.metrics import log_loss, roc_auc_score

from vesalius.core.errors import DataError
from vesalius.tasks.classify.baseline import KEPT, LINEAR, TREES, Baseline, held_back, regression
from vesalius.tasks.classify.boosting import Forest, How, Known, binned, boost, cost, gain, grown, newton, quantiles, weight, widened

FULL = How(rounds=20, drawn=10**6, rows=10**6, least=1e-3)


def classes(y, count):
    """Cases of exactly one class."""
    inside = np.asarray(y)[:, None] == np.arange(count)
    return Known(inside, np.ones_like(inside), softly=True)


def findings(there, known=None):
    there = np.asarray(there, bool)
    return Known(there, np.ones_like(there) if known is None else known, softly=False)


def problem(cases=400, count=2, *, seed=0, features=6):
    """Features of a few whole values, of which three tell the class."""
    draw = np.random.default_rng(seed)
    x = draw.integers(0, 20, (cases, features)).astype(np.float32)
    score = x[:, 0] + np.abs(x[:, 1] - 10) + 0.3 * x[:, 2] + draw.normal(0, 3, cases)
    return x, np.searchsorted(np.quantile(score, np.arange(1, count) / count), score)


def first(forest, rounds):
    return Forest(forest.start, forest.feature[:rounds], forest.cut[:rounds], forest.leaves[:rounds])


def test_a_leaf_is_the_least_of_the_second_order_cost():
    for slope, bend, penalty in ((-3.0, 2.0, 1.0), (0.7, 0.1, 0.0), (5.0, 9.0, 4.0)):
        found = minimize_scalar(lambda w, g=slope, h=bend + penalty: g * w + h * w**2 / 2).x
        assert weight(np.array(slope), np.array(bend), penalty=penalty) == pytest.approx(found, abs=1e-6)


def second_order(slope, bend, penalty):
    """The least of G w + (H + lambda) w ** 2 / 2 over w, found by trying."""
    return minimize_scalar(lambda w: slope.sum() * w + (bend.sum() + penalty) * w**2 / 2).fun


def test_a_gain_is_what_two_leaves_cost_less_than_one():
    draw = np.random.default_rng(0)
    slope, bend = draw.normal(size=9), draw.uniform(0.05, 0.25, 9)
    left = np.arange(9) < 4
    told = gain([slope[left].sum(), bend[left].sum()], [slope[~left].sum(), bend[~left].sum()], penalty=0.8)
    costs = [second_order(slope[rows], bend[rows], 0.8) for rows in (slice(None), left, ~left)]
    assert told == pytest.approx(costs[0] - costs[1] - costs[2], abs=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_every_split_is_the_best_of_all_and_every_leaf_that_of_its_cases(seed):
    draw = np.random.default_rng(seed)
    bins = draw.integers(0, 4, (3, 24)).astype(np.uint8)
    slope, bend = draw.normal(size=24), draw.uniform(0.1, 0.25, 24)
    how = How(depth=2, bins=4, penalty=0.5, least=0.3)
    feature, cut, leaves = grown(bins, slope, bend, how=how)
    nodes = {0: np.arange(24)}
    for j in range(3):
        rows, found = nodes[j], {}
        for f in range(3):
            for c in range(3):
                left, right = rows[bins[f, rows] <= c], rows[bins[f, rows] > c]
                if min(bend[left].sum(), bend[right].sum()) >= how.least:
                    whole, one, other = (second_order(slope[r], bend[r], 0.5) for r in (rows, left, right))
                    found[f, c] = whole - one - other
        best = max(found.values(), default=0.0)
        split = (feature[j], cut[j])
        assert found[split] == pytest.approx(best, abs=1e-7) if best > 0 else split[1] == 3
        nodes[2 * j + 1], nodes[2 * j + 2] = rows[bins[split[0], rows] <= split[1]], rows[bins[split[0], rows] > split[1]]
    for k in range(4):
        rows = nodes[3 + k]
        assert leaves[k] == pytest.approx(-slope[rows].sum() / (bend[rows].sum() + 0.5))


def test_slope_and_bend_are_those_of_the_cost():
    draw, step = np.random.default_rng(0), 1e-4
    unknown = draw.random((5, 3)) < 0.3
    several = findings(draw.random((5, 3)) < 0.5, ~unknown)
    for truth, width in ((classes([0, 1, 2, 1, 0], 3), 3), (classes([0, 1, 1, 0, 1], 2), 1), (several, 3)):
        logits = draw.normal(size=(5, width))
        slope, bend = newton(logits, truth)
        number = len(logits) if truth.softly else truth.known.sum()
        for n, k in np.ndindex(logits.shape):
            here = (np.arange(5)[:, None] == n) & (np.arange(width) == k)
            near = [cost(logits + step * way * here, truth) * number for way in (-1, 0, 1)]
            assert slope[n, k] == pytest.approx((near[2] - near[0]) / (2 * step), abs=1e-6)
            assert bend[n, k] == pytest.approx((near[2] - 2 * near[1] + near[0]) / step**2, abs=1e-5)
            assert truth.softly or truth.known[n, k] or slope[n, k] == bend[n, k] == 0


@pytest.mark.parametrize("count", [2, 4])
def test_with_all_cases_and_small_steps_every_round_lowers_the_cost(count):
    x, y = problem(count=count)
    truth = classes(y, count)
    forest = boost(x, truth, how=replace(FULL, rounds=30, rate=0.05))
    costs = [cost(first(forest, t).logits(x), truth) for t in range(1, 31)]
    assert (np.diff(costs) < 0).all() and costs[-1] < 0.8 * costs[0]


@pytest.mark.parametrize("count", [2, 4])
def test_it_is_the_forest_of_scikit_learn(count):
    ensemble = pytest.importorskip("sklearn.ensemble")
    x, y = problem(400, count)
    other = ensemble.HistGradientBoostingClassifier(
        learning_rate=0.1, max_iter=20, max_leaf_nodes=None, max_depth=3, min_samples_leaf=1, l2_regularization=1.0, max_bins=32,
        early_stopping=False).fit(x, y)  # fmt: skip
    ours = softmax(widened(boost(x, classes(y, count), how=FULL).logits(x), count), 1)
    np.testing.assert_allclose(ours, other.predict_proba(x), atol=2e-3)  # it sums in single precision


def test_with_its_own_bins_and_draws_it_is_as_good_as_scikit_learn_s():
    ensemble = pytest.importorskip("sklearn.ensemble")
    draw = np.random.default_rng(0)
    x = draw.normal(size=(3000, 80)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + x[:, 2] + np.abs(x[:, 3]) + draw.normal(0, 0.7, 3000) > 0.8).astype(int)
    other = ensemble.HistGradientBoostingClassifier(max_iter=150, max_depth=3, max_leaf_nodes=None, l2_regularization=1.0, random_state=0,
                                                    early_stopping=False).fit(x[:2000], y[:2000])  # fmt: skip
    ours, theirs = expit(boost(x[:2000], classes(y[:2000], 2)).logits(x[2000:]))[:, 0], other.predict_proba(x[2000:])[:, 1]
    assert roc_auc_score(y[2000:], ours) > roc_auc_score(y[2000:], theirs) - 0.01
    assert log_loss(y[2000:], ours) < log_loss(y[2000:], theirs) + 0.02


def test_bins_hold_equally_many_and_few_values_have_one_each():
    x = np.stack([np.random.default_rng(0).normal(size=3200), np.arange(3200) % 5, np.ones(3200)], 1).astype(np.float32)
    edges = quantiles(x, 32)
    filled = np.bincount(binned(x, edges)[0])
    assert len(filled) == 32 and abs(filled - 100).max() <= 2
    assert edges[1].tolist() == [0.5, 1.5, 2.5, 3.5] and not len(edges[2])


def test_an_exclusive_or_is_learned_that_no_line_can_tell():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(1200, 10)).astype(np.float32)
    y = ((x[:, 3] > 0) ^ (x[:, 7] > 0)).astype(np.uint8)
    line = np.hstack([x, np.ones((1200, 1), np.float32)])
    straight = line[800:] @ regression(line[:800], y[:800, None], 0.01, classes=2)
    forest = boost(x[:800], classes(y[:800], 2), how=How(drawn=10))
    assert abs(roc_auc_score(y[800:], straight[:, 1]) - 0.5) < 0.08
    assert roc_auc_score(y[800:], forest.logits(x[800:])[:, 0]) > 0.95


def test_findings_that_nobody_looked_for_teach_nothing():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(600, 5)).astype(np.float32)
    there = np.stack([x[:, 0] > 0, x[:, 1] + x[:, 2] > 0.5, draw.random(600) < 0.5], 1)
    known = draw.random((600, 3)) < 0.6
    known[:, 2] = False
    forest = boost(x[:400], findings(there[:400], known[:400]), how=FULL)
    other = boost(x[:400], findings(there[:400] ^ (draw.random((400, 3)) < 0.5) & ~known[:400], known[:400]), how=FULL)
    np.testing.assert_array_equal(forest.leaves, other.leaves)
    said = forest.logits(x[400:])
    assert all(roc_auc_score(there[400:, k], said[:, k]) > 0.95 for k in (0, 1)) and (said[:, 2] == 0).all()


def test_one_class_alone_and_features_that_say_nothing_give_the_shares():
    x, y = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), np.ones(60, int)
    one = expit(boost(x, classes(y, 2), how=FULL).logits(x))
    assert np.isfinite(one).all() and one.min() > 0.95
    y[:15] = 0
    same = boost(np.ones((60, 4), np.float32), classes(y, 2), how=FULL).logits(np.ones((3, 4), np.float32))
    assert expit(same) == pytest.approx(0.75)
    three = boost(np.ones((60, 4), np.float32), classes(y, 3), how=FULL).logits(np.ones((1, 4), np.float32))
    assert softmax(three, 1)[0, :2] == pytest.approx([0.25, 0.75], abs=0.02)


def test_cases_held_back_say_how_many_trees():
    x, y = problem(300, seed=3)
    learned, held = classes(y[:200], 2), (x[200:], classes(y[200:], 2))
    how = How(rounds=150, rate=0.3, drawn=4)
    stopped, whole = boost(x[:200], learned, held=held, how=how), boost(x[:200], learned, how=how)
    costs = [cost(first(whole, t).logits(x[200:]), held[1]) for t in range(1, 151)]
    assert stopped.rounds == 1 + int(np.argmin(costs[: stopped.rounds + how.patience])) < 100
    np.testing.assert_array_equal(stopped.leaves, whole.leaves[: stopped.rounds])


def test_draws_are_those_of_the_seed():
    x, y = problem(300)
    made = [boost(x, classes(y, 2), how=How(rounds=5, drawn=3, rows=100), seed=seed).logits(x[:20]) for seed in (0, 0, 1)]
    assert (made[0] == made[1]).all() and (made[0] != made[2]).any()


def test_many_outputs_take_fewer_and_larger_steps():
    how = How()
    assert (how.paced(1).rounds, how.paced(1).rate) == (how.rounds, how.rate)
    many = how.paced(20)
    assert many.rounds * 20 <= how.trees and many.rate * many.rounds == pytest.approx(how.rate * how.rounds)
    assert how.paced(1000).rounds == 1 and how.paced(1000).rate == 0.5


def test_patients_are_held_back_with_all_their_images():
    alone = held_back([f"p{k}" for k in range(23)])
    assert alone.tolist() == [True] * 4 + [False] * 19
    draw = np.random.default_rng(0)
    people = draw.integers(0, 30, 200).astype(str)
    held = held_back(people.tolist())
    assert not set(people[held]) & set(people[~held]) and 40 <= held.sum() <= 40 + np.unique(people, return_counts=True)[1].max()
    assert not held_back(["one"] * 30).any() and not held_back([]).any()


def pictures(kind, cases, *, seed=0):
    """Pictures of noise with two bright or dark corners: class 1 where one is bright ("line"), or where they are unlike ("or")."""
    draw = np.random.default_rng(seed)
    for _ in range(cases):
        a, b = draw.random(2) < 0.5
        image = draw.normal(0, 0.3, (1, 8, 8)).astype(np.float32)
        image[0, :4, :4] += 2 * a - 1
        image[0, 4:, 4:] += 2 * b - 1
        yield image, np.array([a if kind == "line" else a ^ b], np.uint8)


@pytest.mark.parametrize(("kind", "winner"), [("or", TREES), ("line", LINEAR)])
def test_cases_held_back_choose_who_stands_as_the_baseline(kind, winner):
    made = Baseline(2, True).fit(pictures(kind, 150))
    assert made.stands == winner
    image = next(iter(pictures(kind, 1, seed=9)))[0]
    said = made.answers(image)
    assert set(said) == {LINEAR, TREES} and (made.predict(image) == said[winner]).all()
    assert all(p.sum() == pytest.approx(1) for p in said.values())
    if kind == "or":
        tests = list(pictures(kind, 60, seed=5))
        area = {who: roc_auc_score([y[0] for _, y in tests], [made.answers(x)[who][1] for x, _ in tests]) for who in said}
        assert area[TREES] > max(0.95, area[LINEAR])


def test_a_few_cases_choose_nothing_but_both_learn():
    made = Baseline(2, True).fit(pictures("line", 20))
    assert made.stands == LINEAR and set(made.answers(np.zeros((1, 8, 8), np.float32))) == {LINEAR, TREES}
    with pytest.raises(DataError, match="no case to learn from"):
        Baseline(2, True).fit([], patients=[])


def test_of_many_cases_some_are_drawn_and_only_those_are_described(monkeypatch):
    from vesalius.tasks.classify import baseline as parts

    seen = []
    monkeypatch.setattr(parts, "features", lambda image: (seen.append(float(image)), np.array([float(image)], np.float32))[1])
    people = [f"p{k}" for k in range(KEPT + 500)]
    x, y, of = parts.described(((np.float32(k), np.array([k % 2], np.uint8)) for k in range(len(people))), people, seed=0)
    assert len(seen) == len(x) == KEPT and [f"p{int(v)}" for v in x[:, 0]] == of and (y[:, 0] == x[:, 0] % 2).all()
