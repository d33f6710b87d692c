"""What every metric of classification must do: keep the values on its card for absent classes, and not mind order or the unknown."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.card import Card
from vesalius.data.labels import IGNORE
from vesalius.metrics import METRICS
from vesalius.metrics._answers import Answers
from vesalius.testing.check_metric import close

FACTS = {"definition", "unit", "better", "perfect", "no_positives", "no_negatives"}
Score = Callable[[Answers], dict[str, float]]
Facts = dict[str, dict[str, Any]]
Floats = NDArray[np.float64]


def serves_answers(card: Card) -> bool:
    """Whether the entry scores the answers of a classifier."""
    return "classify" in card.tasks


def example(classes: int = 3, *, cases: int = 60, seed: int = 0, exclusive: bool = True) -> tuple[Floats, NDArray[np.int64]]:
    """Probabilities (N, classes) that know something of the truth, (N,) or (N, classes), in which every class is there."""
    random = np.random.default_rng(seed)
    if exclusive:
        truth = random.permutation(np.arange(cases) % classes)
        logits = random.normal(size=(cases, classes)) + 1.5 * np.eye(classes)[truth]
        odds = np.exp(logits)
        return odds / odds.sum(1, keepdims=True), truth
    truth = (random.random((cases, classes)) < 0.4).astype(np.int64)
    return 1 / (1 + np.exp(-random.normal(size=truth.shape) - 1.5 * (truth - 0.5))), truth


def forms() -> list[Answers]:
    """Two classes, five classes, and three findings of which some entries are unknown."""
    p, findings = example(3, exclusive=False)
    findings[np.random.default_rng(1).random(findings.shape) < 0.1] = IGNORE
    return [Answers.of(*example(2)), Answers.of(*example(5)), Answers.of(p, findings)]


def check_card(score: Score, facts: Facts) -> None:
    """The card defines each number that is returned, and every number is finite where all classes are there."""
    for answers in forms():
        found = score(answers)
        assert found.keys() == facts.keys() and all(np.isfinite(list(found.values())))
    assert all(set(fact) == FACTS and fact["better"] in ("high", "low") for fact in facts.values())


def check_absent(score: Score, facts: Facts) -> None:
    """Without positives and without negatives the numbers are those on the card: a value, undefined, or the usual formula's."""
    p, _ = example(2)
    for state, truth in (("no_positives", np.zeros(len(p), int)), ("no_negatives", np.ones(len(p), int))):
        found = score(Answers.of(p, truth))
        for name, fact in facts.items():
            expected, value = fact[state], found[name]
            right = np.isfinite(value) if expected == "usual" else np.isnan(value) if expected is None else value == expected
            assert right, (state, name, value, expected)


def check_nobody(score: Score, facts: Facts) -> None:
    """Without a case nothing is defined."""
    for p, y in ((np.zeros((0, 3)), np.zeros(0, int)), (np.zeros((0, 3)), np.zeros((0, 3), int))):
        assert all(np.isnan(value) for value in score(Answers.of(p, y)).values())


def check_perfect(score: Score, facts: Facts) -> None:
    """Sure and right answers are worth what the card says, and better than the example."""
    for classes in (2, 4):
        p, y = example(classes)
        found, worse = score(Answers.of(np.eye(classes)[y], y)), score(Answers.of(p, y))
        for name, fact in facts.items():
            best = 1 / classes if fact["perfect"] == "prevalence" else fact["perfect"]
            assert np.isclose(found[name], best, atol=1e-12), (name, found[name])
            assert found[name] > worse[name] if fact["better"] == "high" else found[name] < worse[name]


def check_order(score: Score, facts: Facts) -> None:
    """The order of cases does not matter; nor does that of three classes or more turned round, or of findings."""
    for answers in forms():
        rows = np.random.default_rng(2).permutation(len(answers.truth))
        assert close(score(answers.take(rows)), score(answers))
    p, y = example(5)
    assert close(score(Answers.of(p[:, ::-1], 4 - y)), score(Answers.of(p, y)))
    p, y = example(3, exclusive=False)
    assert close(score(Answers.of(p[:, [2, 0, 1]], y[:, [2, 0, 1]])), score(Answers.of(p, y)))


def check_unknown(score: Score, facts: Facts) -> None:
    """A case of unknown class counts nowhere, and a finding with unknown entries is that of the other cases."""
    p, y = example(3)
    hidden = np.where(np.arange(len(y)) % 4 == 0, IGNORE, y)
    assert close(score(Answers.of(p, hidden)), score(Answers.of(p[hidden != IGNORE], y[hidden != IGNORE])))
    p, y = example(1, exclusive=False)
    hidden = np.where(np.arange(len(y))[:, None] % 4 == 0, IGNORE, y)
    known = hidden[:, 0] != IGNORE
    assert close(score(Answers.of(p, hidden)), score(Answers.of(p[known], y[known])))


def check_forms(score: Score, facts: Facts) -> None:
    """One column of probabilities is two; equal findings have the number of one."""
    p, y = example(2)
    assert close(score(Answers.of(p[:, 1], y)), score(Answers.of(p, y)))
    p, y = example(1, exclusive=False)
    assert close(score(Answers.of(np.repeat(p, 3, 1), np.repeat(y, 3, 1))), score(Answers.of(p, y)))


CHECKS: tuple[Callable[[Score, Facts], None], ...] = (
    check_card, check_absent, check_nobody, check_perfect, check_order, check_unknown, check_forms,
)  # fmt: skip


def check_class_metric(name: str) -> None:
    """Run every check on the entry `name` of the shelf."""
    for check in CHECKS:
        check(METRICS[name], METRICS.card(name).facts or {})
