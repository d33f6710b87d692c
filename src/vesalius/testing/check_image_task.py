"""What every task that learns from images alone must do: name methods of the shelf, refuse settings of a loss, judge what was learned
part by part, and put into calibration.json only what can be read back."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vesalius.core.card import Card
from vesalius.core.errors import UsageError
from vesalius.data.case import Case
from vesalius.data.labels import Labels
from vesalius.engine.images import told
from vesalius.methods import METHODS
from vesalius.methods._unlabelled import Unlabelled
from vesalius.tasks import TASKS, Images, ImageTask
from vesalius.testing import check_method

CLASSES = Labels(names=("normal", "ill"), values=((0,), (1,)), kind="classes")
NOTHING = Labels(names=(), values=())


def build(card: Card) -> ImageTask:
    """The task of `card`."""
    made: ImageTask = TASKS[card.name]()
    return made


def learned(task: ImageTask, ndim: int) -> Unlabelled:
    """A small method of the task after a few steps."""
    card = METHODS.card(task.method)
    method = check_method.build(card, ndim)
    optimisers = method.optimisers()
    for seed in range(3):
        check_method.step(method, optimisers, check_method.example(card, ndim, seed=seed))
    assert isinstance(method, Unlabelled)
    return method.eval()


def images(ndim: int, *, labels: Labels = CLASSES, seed: int = 0, normal_only: bool = False) -> Images:
    """Twelve images, every second of them ill (a bright spot) unless all are to be normal."""
    draw = np.random.default_rng(seed)
    pixels = 0.1 * draw.random((12, 1, *check_method.SIDES[ndim])).astype(np.float32) + 0.2
    ill = np.zeros(12, bool) if normal_only else np.arange(12) % 2 == 1
    pixels[(ill, 0, *(slice(2, 6),) * ndim)] = 0.9
    classes = [{labels.names[int(there)]: 1} if labels.names else None for there in ill]
    cases = [Case(f"case {k}", f"patient {k // 2}", {}, classes=known) for k, known in enumerate(classes)]
    return Images(cases, list(pixels), labels)


def check_methods(card: Card, folder: Path) -> None:
    """Its methods stand on the shelf, the usual one among them; it has no network and no loss of its own."""
    task = build(card)
    assert task.method in task.methods and set(task.methods) <= set(METHODS) and task.nets == () and task.leading
    assert set(task.leading) <= set(task.definitions("mm"))
    try:
        task.loss(CLASSES, {"gamma": 2})
    except UsageError as problem:
        assert "train.loss" in str(problem)
    else:
        raise AssertionError(f"{card.name} takes settings of a loss that it has not")


def check_judges(card: Card, folder: Path) -> None:
    """A row for each image and finite leading measures, with classes and without any label, in 2D and 3D; all of it plain JSON."""
    task = build(card)
    for ndim in card.ndim:
        method = learned(task, ndim)
        for labels in (CLASSES, NOTHING):
            trained, seen = images(ndim, labels=labels, normal_only=True), images(ndim, labels=labels, seed=1)
            how = json.loads(json.dumps(task.calibrate(method, images(ndim, labels=labels, seed=2), trained=trained, rules={})))
            judged = task.judge(method, seen, trained=trained, calibration=how, folder=folder)
            part = json.loads(json.dumps(told(judged, by={})))
            rows = part["model"]["rows"]
            assert [row["case"] for row in rows] == seen.names and all({"patient", "label"} <= set(row) for row in rows)
            assert part["model"]["summary"]["all"]


def check_look(card: Card, folder: Path) -> None:
    """The number for the curve lies in 0..1, or there is none."""
    task = build(card)
    for ndim in card.ndim:
        found = task.look(learned(task, ndim), images(ndim))
        assert found is None or 0 <= found <= 1


def check_answers(card: Card, folder: Path) -> None:
    """A row for each image by name, or an error in words; a map for each of one size with its image, or none."""
    task = build(card)
    for ndim in card.ndim:
        method, some = learned(task, ndim), images(ndim)
        how = task.calibrate(method, images(ndim, seed=2), trained=images(ndim, normal_only=True), rules={})
        try:
            rows = task.answers(method, some, how)
        except UsageError as problem:
            assert len(str(problem)) > 20
        else:
            assert [row["case"] for row in rows] == some.names and json.loads(json.dumps(rows)) == rows
        heat = task.heat(method, some)
        assert heat is None or heat.shape == (12, 1, *check_method.SIDES[ndim])


def check_refuses_unknown_rules(card: Card, folder: Path) -> None:
    """A wrong word in train.rules is an error, never ignored."""
    try:
        build(card).ruled({"nonsense": 1})
    except UsageError as problem:
        assert "nonsense" in str(problem)
    else:
        raise AssertionError(f"{card.name} ignores what train.rules says")


CHECKS: tuple[Callable[[Card, Path], None], ...] = (
    check_methods, check_judges, check_look, check_answers, check_refuses_unknown_rules,
)  # fmt: skip
