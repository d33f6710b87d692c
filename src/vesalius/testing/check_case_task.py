"""What every task must answer that answers cases as a whole: nets, a loss that learns its own targets, a baseline, a calibration that
finds what is known, rows that say what is right, and measures that know the best answer from the worst."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vesalius.core.card import Card
from vesalius.data.labels import IGNORE, Labels
from vesalius.nets import NETS
from vesalius.tasks import TASKS, CaseTask
from vesalius.tasks._rules import Rules

SIDES = {2: (12, 10), 3: (8, 6, 5)}
CASES = 60


def labels_of(count: int, kind: str) -> Labels:
    """`count` classes of a kind."""
    return Labels.checked({"names": [f"class {k}" for k in range(count)], "values": [[k] for k in range(count)], "kind": kind})


SCHEMES = (labels_of(2, "classes"), labels_of(4, "classes"), labels_of(3, "grades"), labels_of(3, "findings"), labels_of(1, "findings"))


def build(card: Card) -> CaseTask:
    """The task of `card`."""
    made: CaseTask = TASKS[card.name]()
    return made


def examples(card: Card) -> Iterator[tuple[CaseTask, Labels]]:
    """The task with every scheme of labels."""
    yield from ((build(card), labels) for labels in SCHEMES)


def truth(labels: Labels, *, seed: int = 0) -> NDArray[np.uint8]:
    """(60, 1 | K) targets with every class in them; some findings are unknown."""
    draw, count = np.random.default_rng(seed), len(labels.names)
    if labels.one_of:
        return draw.permutation(np.arange(CASES) % count)[:, None].astype(np.uint8)
    table = draw.integers(0, 2, (CASES, count)).astype(np.uint8)
    table[::9, 0] = IGNORE
    return table


def right(target: NDArray[np.uint8], labels: Labels, *, sure: float = 4.0) -> NDArray[np.float64]:
    """Logits (N, K) that say the truth."""
    inside = target == (np.arange(len(labels.names)) if labels.one_of else 1)
    return np.where(inside, sure, -sure)


def image(target: NDArray[np.uint8], labels: Labels, ndim: int, *, seed: int) -> NDArray[np.float32]:
    """(1, *S) noise, brighter at a place of its own for each class that is there."""
    pixels = np.random.default_rng(seed).normal(0, 0.5, (1, *SIDES[ndim]))
    for k in range(len(labels.names)):
        if (int(target[0]) == k) if labels.one_of else target[k] == 1:
            pixels[(0, slice(2 * (k % 2), 2 * (k % 2) + 3), slice(3 * (k // 2), 3 * (k // 2) + 3))] += 3
    return np.asarray(pixels, np.float32)


def check_nets(card: Card, folder: Path) -> None:
    """The networks that it names stand on the shelf and say that they suit it; what leads a table is defined."""
    task = build(card)
    assert task.nets and task.leading and set(task.leading) <= set(task.definitions("px"))
    for name in task.nets:
        assert card.name in NETS.card(name).tasks, f"the card of {name} does not name the task {card.name}"


def check_loss(card: Card, folder: Path) -> None:
    """Of the logits that a network gives: named, finite terms with a gradient; the truth costs less, and what is unknown nothing."""
    for task, labels in examples(card):
        for ndim in card.ndim:
            net = NETS[task.nets[0]](ndim, 1, task.out_channels(labels), channels=(4, 6))
            target = torch.from_numpy(truth(labels))
            heads = net.heads(torch.zeros(CASES, 1, *SIDES[ndim]))
            terms = task.loss(labels)(heads, target)
            assert terms and all(term.ndim == 0 and bool(term.isfinite()) and term.requires_grad for term in terms.values())
            best = task.loss(labels)([torch.from_numpy(right(truth(labels), labels, sure=8.0))], target)
            assert sum(float(t) for t in best.values()) < 0.2 * sum(float(t.detach()) for t in terms.values())
    task, findings = build(card), labels_of(3, "findings")
    logits = torch.zeros(2, 3, requires_grad=True)
    task.loss(findings)([logits], torch.full((2, 3), IGNORE, dtype=torch.uint8))["cross_entropy"].backward()
    assert logits.grad is not None and not logits.grad.any()


def check_baseline(card: Card, folder: Path) -> None:
    """It learns from pairs, gives probabilities, and is better than nothing on easy cases."""
    for task, labels in examples(card):
        for ndim in card.ndim:
            targets = truth(labels)
            pixels = [image(t, labels, ndim, seed=k) for k, t in enumerate(targets)]
            baseline = task.baseline(labels)
            baseline.fit(zip(pixels[:40], targets[:40], strict=True))
            said = np.stack([baseline.predict(one) for one in pixels[40:]])
            assert said.shape == (CASES - 40, len(labels.names)) and said.min() >= 0 and said.max() <= 1
            assert not labels.one_of or np.allclose(said.sum(1), 1)
            assert task.quick_score(said, targets[40:], labels) > 0.8, (labels, ndim)


def check_quick_score(card: Card, folder: Path) -> None:
    """1 for the truth, 0 for its opposite, one half for the same answer to all."""
    for task, labels in examples(card):
        target = truth(labels)
        how = task.calibrate(right(target, labels)[:0], target[:0], labels)
        best, worst = (task.probabilities(sign * right(target, labels), labels, how) for sign in (1, -1))
        assert task.quick_score(best, target, labels) == 1 and task.quick_score(worst, target, labels) == 0
        assert abs(task.quick_score(np.full_like(best, 0.5), target, labels) - 0.5) < 1e-9


def check_calibrate(card: Card, folder: Path) -> None:
    """Plain JSON; logits that are too sure by a factor are divided by it; no cases are no error."""
    for task, labels in examples(card):
        draw = np.random.default_rng(0)
        logits = draw.normal(0, 1.5, (4000, len(labels.names)))
        chance = task.probabilities(logits, labels, task.calibrate(logits[:0], np.zeros((0, 1), np.uint8), labels))
        drawn = (chance.cumsum(1) > draw.random((4000, 1))).argmax(1)[:, None] if labels.one_of else draw.random(chance.shape) < chance
        one, three = (task.calibrate(factor * logits, drawn.astype(np.uint8), labels) for factor in (1.0, 3.0))
        assert json.loads(json.dumps(one)) == one
        assert abs(one["temperature"] - 1) < 0.15 and abs(three["temperature"] / one["temperature"] - 3) < 0.05
        assert np.allclose(task.probabilities(logits, labels, one), task.probabilities(3 * logits, labels, three), atol=1e-2)
        _promises(task, labels, logits, target=drawn.astype(np.uint8).reshape(4000, -1), how=one)


def _promises(task: CaseTask, labels: Labels, logits: NDArray[np.float64], *, target: NDArray[np.uint8], how: dict[str, Any]) -> None:
    """Rows say which classes a case may be, whether it is answered and strange; the figures count those rows."""
    names = [f"case {k}" for k in range(len(logits))]
    rows = task.rows(logits, labels, how, names=names, truth=target)
    told = task.examined(logits, target, labels, rules=Rules.one(how, len(names)), names=names, patients=names)
    assert json.loads(json.dumps(told)) == told
    assert told["strange"]["part"] == sum(row["strange"] for row in rows) > 0
    assert told["abstention"]["answered"] == np.mean([row["answered"] for row in rows])
    assert told["abstention"]["wrong"]["part"] == sum(row["answered"] and row["state"] == "wrong" for row in rows)
    if labels.one_of:
        inside = [row["truth"] in row["possible"] for row in rows]
        assert told["coverage"]["all"]["part"] == sum(inside) and abs(np.mean(inside) - told["coverage"]["promised"]) < 0.05
    assert abs(told["reliability"]["after"]["ece"] - task.measures(task.probabilities(logits, labels, how), target, labels,
                                                                   thresholds=how["thresholds"])["all"]["ece"]) < 1e-12  # fmt: skip


def check_rows(card: Card, folder: Path) -> None:
    """What is said of each case; right where the truth is said, wrong where its opposite is."""
    for task, labels in examples(card):
        target = truth(labels)
        how = task.calibrate(right(target, labels)[:0], target[:0], labels)
        for sign, state in ((1, "right"), (-1, "wrong")):
            rows = task.rows(sign * right(target, labels), labels, how, names=[str(k) for k in range(CASES)], truth=target)
            known = [row for row, t in zip(rows, target, strict=True) if IGNORE not in t]
            assert len(rows) == CASES and {row["state"] for row in known} == {state}
            assert all(set(row["probabilities"]) == set(labels.names) and row["said"] and row["truth"] for row in rows)


def check_measures(card: Card, folder: Path) -> None:
    """For every class and for all; the truth scores best, and each measure has a definition."""
    for task, labels in examples(card):
        target = truth(labels)
        how = task.calibrate(right(target, labels)[:0], target[:0], labels)
        said = [task.probabilities(sign * right(target, labels, sure=9.0), labels, how) for sign in (1, -1)]
        best, worst = (task.measures(one, target, labels, thresholds=how["thresholds"]) for one in said)
        assert list(best) == [*labels.names, "all"]
        assert {name for row in best.values() for name in row} <= set(task.definitions("px"))
        assert all(abs(best["all"][name] - 1) < 1e-6 for name in task.leading)
        assert all(worst["all"][name] < 0.4 for name in task.leading)


CHECKS: tuple[Callable[[Card, Path], None], ...] = (
    check_nets, check_loss, check_baseline, check_quick_score, check_calibrate, check_rows, check_measures,
)  # fmt: skip
