"""Was it worth it, of a run folder: images as the run has prepared them, answers kept in worth.json, pictures in worth.npz."""

from pathlib import Path
from typing import Any

import numpy as np

from vesalius.audit.filling import filling
from vesalius.audit.shown import Arrays, flat, shown
from vesalius.audit.worth import Cohort, Part, Tick, worth
from vesalius.core.errors import UsageError
from vesalius.core.files import read_json, write_beside, write_json
from vesalius.core.record import digest
from vesalius.data.labels import IGNORE
from vesalius.engine.forecast import MOST_ASKED
from vesalius.engine.images import part_of
from vesalius.engine.run import Run
from vesalius.methods._unlabelled import Unlabelled
from vesalius.plan.budget import device
from vesalius.plan.methods import built

MOST_BYTES = 1 << 30
FILES = ("worth.json", "worth.npz")


def worth_of(run: Run, *, seed: int = 0, tick: Tick = lambda _: None) -> dict[str, Any]:
    """What `audit.worth` finds of the run, with the words of its pictures under "pictures"; computed once for its weights."""
    if run.task.grain != "image":
        raise UsageError(f"{run.path} learned from labels; whether that was worth it stands in its metrics. Take a run that learned from "
                         "images alone: vesalius train DATA -o RUN --task pretrain")  # fmt: skip
    key = key_of(run)
    if (kept := read_worth(run.path)) and kept["key"] == key:
        return kept
    method, cohort = run.method(), cohort_of(run, seed=seed)
    made = worth(method, cohort, drawn=drawn(run), seed=seed, tick=tick)
    tick("drawing")
    looked = cohort if len(cohort.test) else Cohort(cohort.train, cohort.val, cohort.val, cohort.labels)
    arrays, words = shown(method, looked, made.features if len(cohort.test) else {**made.features, "test": made.features["val"]})
    rows, pictures = filling(method, looked, run.plan.preparation.channels, seed=seed)
    save_arrays(run.path / FILES[1], {**arrays, **{name: flat(images) for name, images in pictures.items()}})
    found = {"key": key, **made.found, "filling": rows, "pictures": words}
    write_json(run.path / FILES[0], found)
    return found


def drawn(run: Run) -> Unlabelled:
    """The run's method as it was before its first step."""
    plan = run.plan
    rates = {"learning_rate": plan.train.learning_rate, "weight_decay": plan.train.weight_decay, "seed": plan.train.seed}
    made: Unlabelled = built(plan.train.method, _shape(run), plan.train.arguments, **rates)
    return made.to(device()).eval()


def key_of(run: Run) -> str:
    """Changes with the weights."""
    stat = (run.path / "weights.safetensors").stat()
    return digest("2", str(stat.st_size), str(stat.st_mtime_ns))


def read_worth(folder: Path) -> dict[str, Any]:
    """What was found before; {} where nothing was."""
    return dict(read_json(folder / FILES[0])) if all((folder / name).exists() for name in FILES) else {}


def save_arrays(path: Path, arrays: Arrays) -> None:
    """As .npz, whole or not at all."""

    def write(beside: Path) -> None:
        with open(beside, "wb") as file:
            np.savez_compressed(file, **{name: value.astype(np.float16) for name, value in arrays.items()})  # type: ignore[arg-type]

    write_beside(path, write)


def load_arrays(folder: Path) -> Arrays:
    """The pictures by name."""
    with np.load(folder / FILES[1], allow_pickle=False) as kept:
        return {name: kept[name].astype(np.float32) for name in kept.files}


def cohort_of(run: Run, *, seed: int = 0) -> Cohort:
    """Prepared images of the run by part, at most MOST_ASKED of each, drawn where there are more."""
    labels = run.dataset.labels if run.dataset.labels.grain == "case" else None
    return Cohort(_part(run, "train", seed), _part(run, "val", seed), _part(run, "test", seed), labels)


def _part(run: Run, name: str, seed: int) -> Part:
    images = part_of(run, name)
    size = 4 * int(np.prod((run.plan.preparation.in_channels, *run.plan.patch.size)))
    most = max(1, min(MOST_ASKED, MOST_BYTES // size))
    if len(images) > most:
        images = images.chosen(np.sort(np.random.default_rng(seed).permutation(len(images))[:most]).tolist())
    pixels = np.stack([np.asarray(one, np.float32) for one in images.pixels]) if len(images) else np.zeros((0, *_shape(run)), np.float32)
    labels = run.dataset.labels
    targets = None
    if labels.grain == "case" and any(case.classes is not None for case in images.cases):
        nothing = np.full(1 if labels.one_of else len(labels.names), IGNORE, np.uint8)
        targets = np.stack([nothing if case.classes is None else labels.coded(case.classes) for case in images.cases])
    return Part(pixels, np.array(images.patients, str), tuple(images.names), targets)


def _shape(run: Run) -> tuple[int, ...]:
    return (run.plan.preparation.in_channels, *run.plan.patch.size)
