"""What every task must answer: nets that stand on the shelf, a loss that learns its own targets, a baseline, a quick score
that knows right from wrong, and answers that are written so that they read back as the same target. Tasks that answer cases as a
whole are asked what check_case_task.py asks, those that learn from images alone what check_image_task.py asks."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from vesalius.core.card import Card
from vesalius.core.space import Array, Space
from vesalius.data.labels import IGNORE, Labels
from vesalius.io import load, save
from vesalius.io.image import Image
from vesalius.nets import NETS
from vesalius.tasks import TASKS, VoxelTask
from vesalius.testing import check_case_task, check_image_task

SIDES = {2: (20, 18), 3: (16, 14, 12)}
SCHEMES = (
    Labels(names=("core",), values=((7,),)),
    Labels(names=("core", "rim"), values=((1,), (2, 3))),
    Labels(names=("whole", "core"), values=((1, 2), (2,)), kind="regions"),
    Labels(names=("a", "b"), values=((1,), (4,)), kind="bits"),
)


def build(card: Card) -> VoxelTask:
    """The task of `card`."""
    made: VoxelTask = TASKS[card.name]()
    return made


def examples(card: Card) -> Iterator[tuple[VoxelTask, Labels, int]]:
    """The task with every scheme of labels and number of axes."""
    yield from ((build(card), labels, ndim) for labels in SCHEMES for ndim in card.ndim)


def truth(labels: Labels, ndim: int, *, seed: int = 0) -> Array:
    """A target as `Labels.encode` codes it: a block of each class somewhere, the second inside the first where they overlap."""
    start = 2 + seed % 3
    coded = np.zeros((1 if labels.exclusive else len(labels.names), *SIDES[ndim]), np.uint8)
    for k in range(len(labels.names)):
        layer, value = (0, k + 1) if labels.exclusive else (k, 1)
        block: tuple[slice, ...] = (slice(start + 2 * k, start + 8),) * ndim
        coded[layer][block] = value
    return coded


def image(coded: Array, *, seed: int = 0) -> Array:
    """(1, *S) float32: brighter by 3 in each class, in noise."""
    noise = np.random.default_rng(seed).normal(0, 0.3, (1, *coded.shape[1:]))
    return np.asarray(3.0 * coded.sum(0, keepdims=True) + noise, np.float32)


def check_nets(card: Card, folder: Path) -> None:
    """The networks that it names stand on the shelf and say that they suit it."""
    task = build(card)
    assert task.nets
    for name in task.nets:
        assert card.name in NETS.card(name).tasks, f"the card of {name} does not name the task {card.name}"
    assert 0 <= task.foreground <= 1


def check_loss(card: Card, folder: Path) -> None:
    """Of the logits that a network gives, at every scale: named, finite terms with a gradient; the truth costs less."""
    for task, labels, ndim in examples(card):
        net = NETS[task.nets[0]](ndim, 1, task.out_channels(labels), channels=(4, 6, 8))
        sides = [4 * (side // 4) for side in SIDES[ndim]]
        target = torch.from_numpy(np.ascontiguousarray(truth(labels, ndim)[(None, ..., *(slice(0, side) for side in sides))]))
        heads = net.heads(torch.zeros(1, 1, *sides))
        loss = task.loss(labels)
        terms = loss(heads, target)
        assert terms and all(term.ndim == 0 and bool(term.isfinite()) and term.requires_grad for term in terms.values())
        right = [_logits(target, labels, head.shape[2:]) for head in heads]
        assert sum(float(t) for t in loss(right, target).values()) < 0.2 * sum(float(t.detach()) for t in terms.values())


def _logits(target: torch.Tensor, labels: Labels, sides: torch.Size) -> torch.Tensor:
    """+-8 where the target says so, on a grid of `sides` (voxels nearest to its centres)."""
    from vesalius.losses.deep_supervision import coarsen

    small = coarsen(target, sides)
    classes = torch.arange(labels.out_channels).reshape(-1, *[1] * len(sides))
    inside = small == (classes if labels.exclusive else 1)
    return 16.0 * inside.float() - 8


def check_baseline(card: Card, folder: Path) -> None:
    """It learns from pairs, answers in the code of the targets, and is better than nothing on an easy case."""
    for task, labels, ndim in examples(card):
        pairs = [(image(truth(labels, ndim, seed=s), seed=s), truth(labels, ndim, seed=s)) for s in range(4)]
        baseline = task.baseline(labels)
        baseline.fit(pairs[:3])
        said = baseline.predict(pairs[3][0])
        assert said.dtype == np.uint8 and said.shape == pairs[3][1].shape
        assert task.quick_score(said, pairs[3][1], labels) > 0.5


def check_quick_score(card: Card, folder: Path) -> None:
    """1 for the truth, 0 for its opposite, between them for a half; ignored voxels and empty targets do no harm."""
    for task, labels, ndim in examples(card):
        right = truth(labels, ndim)
        empty = np.zeros_like(right)
        assert task.quick_score(right, right, labels) == 1 and task.quick_score(empty, empty, labels) == 1
        assert task.quick_score(empty, right, labels) == 0
        half = right.copy()
        half[:, :6] = 0
        assert 0 < task.quick_score(half, right, labels) < 1
        veiled = right.copy()
        veiled[:, :6] = IGNORE
        assert task.quick_score(half, veiled, labels) == task.quick_score(np.where(veiled == IGNORE, right, half), veiled, labels) == 1


def check_written(card: Card, folder: Path) -> None:
    """The answer lies where the scan lies, and reads back from a file as what was answered."""
    for task, labels, ndim in examples(card):
        coded = truth(labels, ndim)
        affine = np.eye(ndim + 1)
        affine[:-1, :-1] = np.diag((0.7, 0.8, 2.5)[:ndim])[::-1] if ndim == 3 else affine[:-1, :-1]
        scan = Image(image(coded), Space(SIDES[ndim], affine, physical=ndim == 3))
        made = task.written(coded, scan, labels)
        assert made.space is scan.space and made.channels == 1
        path = folder / ("answer.nii.gz" if ndim == 3 else "answer.png")
        save(made, path)
        read = load(path)
        assert read.space.shape == scan.space.shape and (ndim == 2 or read.space.same_as(scan.space))
        assert np.array_equal(labels.encode(read.array), coded), f"{card.name}: an answer of the kind {labels.kind} reads back as another"


CHECKS: tuple[Callable[[Card, Path], None], ...] = (
    check_nets, check_loss, check_baseline, check_quick_score, check_written,
)  # fmt: skip


def checks_of(name: str) -> tuple[Callable[[Card, Path], None], ...]:
    """The checks that suit the task `name`, by what it answers."""
    return {"voxel": CHECKS, "case": check_case_task.CHECKS, "image": check_image_task.CHECKS}[TASKS[name].grain]


def check_task(name: str, folder: Path) -> None:
    """Run every check on the entry `name` of the shelf; `folder` is a place to write."""
    for check in checks_of(name):
        check(TASKS.card(name), folder)
