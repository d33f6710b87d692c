"""Learning from images alone: the method that the plan names, its samples and looks, what it says of images, and how that is judged."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from vesalius.core.environment import home, process_rank
from vesalius.core.errors import VesaliusError
from vesalius.core.files import read_json, write_json
from vesalius.data.batch import Batch, Kind
from vesalius.data.cache import Cache, Stored
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.labels import IGNORE
from vesalius.data.wholes import Wholes
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.scores import summarise
from vesalius.engine.sets import summaries
from vesalius.methods._unlabelled import Unlabelled
from vesalius.plan import Plan
from vesalius.plan.budget import device
from vesalius.plan.images import compared_rule
from vesalius.tasks import Images, ImageTask, Judged, Task

FEWEST_LOOKED_AT, MOST_LOOKED_AT = 16, 256  # validation images of one look
LOOK = 1 / 100  # part of the budget that one look may take
GATHERED = 64  # images at a time
UNKNOWN = -1  # the label of an image of which nothing is said


def samples(plan: Plan, learned: Sequence[Stored], where: str) -> Callable[[int, int], Batch]:
    """Batches by step number, this process's share of each: "image", and "label" (-1 where there is none)."""
    source, (rank, world) = Wholes(learned, 0.0, plan.train.seed, where), process_rank()
    layout = torch.channels_last_3d if plan.net.ndim == 3 else torch.channels_last

    def draw(step: int, size: int) -> Batch:
        batch, _ = source.batch(step, size, rank=rank, world=world)
        image = batch["image"].contiguous(memory_format=layout)
        return Batch({"image": image, "label": labels_of(batch["target"])}, {"image": Kind.IMAGE, "label": Kind.LABEL})

    return draw


def labels_of(target: Tensor) -> Tensor:
    """(B,) classes out of targets (B, K), -1 where there is no class or it is not one of several."""
    one = target.reshape(len(target), -1)
    if one.shape[1] != 1:
        return torch.full((len(target),), UNKNOWN, device=target.device)
    label = one[:, 0].long()
    return torch.where(label == IGNORE, torch.full_like(label, UNKNOWN), label)


def look(task: Task, plan: Plan, checked: Sequence[Stored], *, where: str) -> Callable[[nn.Module], float | None]:
    """What the task sees in some validation images while the method learns; in none where an answer takes too long to be asked for."""
    budget = plan.train.seconds or plan.train.steps * plan.expected.step_seconds
    most = min(MOST_LOOKED_AT, int(budget * LOOK / max(plan.expected.tile_seconds, 1e-9)))
    if most < min(FEWEST_LOOKED_AT, len(checked)):
        return lambda method: None
    some = checked[:: max(1, -(-len(checked) // most))]
    cases = [Case(one.name, one.name, {}, classes=known(plan, one)) for one in some]
    images = Images(cases, [one.image for one in some], plan.labels, where, plan.train.rules)
    return lambda method: cast(ImageTask, task).look(cast(Unlabelled, method), images)


def known(plan: Plan, one: Stored) -> dict[str, int] | None:
    """The classes of a prepared case; None where whole cases are not labelled."""
    if plan.labels.grain != "case":
        return None
    if plan.labels.one_of:
        return {plan.labels.names[int(one.target[0])]: 1}
    return {name: int(there) for name, there in zip(plan.labels.names, one.target, strict=True) if there != IGNORE}


def gatherer(learned: Sequence[Stored], where: str) -> Callable[[nn.Module], None]:
    """What is done once with the learned weights: the method sees every training image."""

    def finish(method: nn.Module) -> None:
        def batches() -> Iterator[Tensor]:
            for start in range(0, len(learned), GATHERED):
                some = np.stack([np.asarray(one.image, np.float32) for one in learned[start : start + GATHERED]])
                yield torch.from_numpy(some).to(where)

        with torch.no_grad():
            cast(Unlabelled, method).gather(batches())

    return finish


def images_of(run: Run, cases: Sequence[Case]) -> Images:
    """Prepared images of `cases`, mapped from the cache, where they are put first if need be."""
    cache = Cache(home() / "prepared", run.plan.preparation, run.plan.labels, size=run.plan.patch.size)
    stored = cache.store(list(cases)) if cases else []
    plan = run.plan
    return Images(list(cases), [one.image for one in stored], plan.labels, device(), plan.train.rules, plan.preparation)


def compared(run: Run, images: Images) -> Images:
    """`images` with themselves as pixels are compared, which the data alone decide; as they are where the task does not compare any."""
    if not cast(ImageTask, run.task).compares:
        return images
    how, size = compared_rule(read_json(run.path / "fingerprint.json"))
    stored = Cache(home() / "prepared", how, run.plan.labels, size=size).store(list(images.cases)) if len(images) else []
    return replace(images, plain=[one.image for one in stored])


def part_of(run: Run, part: str) -> Images:
    """Images of "train", "val" or "test"."""
    fold = run.splits["folds"][0]
    names = run.splits["test"] if part == "test" else fold[part]
    return images_of(run, [run.dataset.case(name) for name in names])


def score_images(run: Run, jobs: dict[str, Any], *, baseline: Any, by: Sequence[str], listener: Listener) -> dict[str, Any]:
    """Scores of each part; what the task sets on validation is written to calibration.json first."""
    task, method, trained = cast(ImageTask, run.task), run.method(), compared(run, part_of(run, "train"))
    if "val" in jobs:
        with listener.stage("calibrating"):
            how = task.calibrate(method, compared(run, part_of(run, "val")), trained=trained, rules=run.plan.train.rules)
        write_json(run.path / "calibration.json", how)
    made = {}
    for part in jobs:
        with listener.stage(f"judging on {part}"):
            folder = run.path / "predictions" / part
            judged = task.judge(method, compared(run, part_of(run, part)), trained=trained, calibration=calibration_of(run), folder=folder)
        made[part] = told(judged, by={key: {n: run.dataset.case(n).metadata.get(key) for n in _names(judged)} for key in by})
    return made


def score_image_files(run: Run, predictions: Path | None, truth: Dataset, *, by: Sequence[str], listener: Listener) -> dict[str, Any]:
    """Scores on another data set."""
    if predictions:
        raise VesaliusError("What a model says of images alone is not read from files: leave --predictions out.")
    task = cast(ImageTask, run.task)
    cases = [as_channel(case, list(run.plan.preparation.channels)) for case in truth.cases]
    seen, trained = (compared(run, images) for images in (replace(images_of(run, cases), labels=truth.labels), part_of(run, "train")))
    with listener.stage("judging"):
        judged = task.judge(run.method(), seen, trained=trained, calibration=calibration_of(run), folder=run.path / "judged")
    return told(judged, by={key: {case.name: case.metadata.get(key) for case in cases} for key in by})


def as_channel(case: Case, channels: Sequence[str]) -> Case:
    """`case` with its only channel under the name that the run knows."""
    if len(channels) == len(case.images) == 1:
        return replace(case, images={channels[0]: next(iter(case.images.values()))})
    return case


def told(judged: Judged, *, by: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The form of one part in metrics.json: {"model", "baseline", ...: {"rows", "summary", "groups"}, "difference", "raters": {}, ...}."""
    people, rows = list(judged.rows), judged.rows
    made: dict[str, Any] = {"baseline": None, "raters": {}, **judged.more}
    if judged.measure is None:
        return {**made, **{who: summarise(rows[who], groups=by if who == "model" else {}) for who in people}}
    patients = [row["patient"] for row in rows["model"]]
    main = [who for who in ("model", "baseline") if who in people]
    tables, difference = summaries(main, patients, judged.measure)
    others = [who for who in people if who not in main]
    for who in others:
        tables[who] = summaries([who], patients, judged.measure)[0][who]
    return {**made, **{who: {"rows": rows[who], "summary": tables[who], "groups": {}} for who in people}, "difference": difference or None}


def _names(judged: Judged) -> list[str]:
    return [str(row["case"]) for row in judged.rows["model"]]


def calibration_of(run: Run) -> dict[str, Any]:
    """What was set on validation images; nothing where there was none."""
    file = run.path / "calibration.json"
    return dict(read_json(file)) if file.exists() else {}


def testing_images(run: Run) -> float:
    """Seconds that judging and the report take."""
    parts = [run.splits["test"], *(fold["val"] for fold in run.splits["folds"])]
    return 8.0 + sum(cast(ImageTask, run.task).seconds(len(names), run.plan.expected.tile_seconds) for names in parts if names)
