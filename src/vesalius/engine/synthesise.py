"""Images that a run makes, in the form of its own data, with a table that names them: synthetic, and for training alone.

Intensities are taken back to what the files held, as far as preparation kept it; every image has a patient of its own, whom no real data
set has, and the split "train", so that it can come into no validation or test part.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.core.files import read_json, write_beside, write_json, write_text
from vesalius.core.record import digest, record
from vesalius.core.space import Space
from vesalius.data.labels import Labels
from vesalius.data.normalise import Normalise
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.io import save
from vesalius.io.image import MADE, Image, Source
from vesalius.tasks import Learned
from vesalius.tasks.generate.making import Floats, knows_classes, made, numbered

TABLE = "synthetic.csv"
STACK = "synthetic.npz"
WORDS = "synthetic image, made by a model and of no patient"
LOT = 64  # images that are made at once
SEEDS = 100_003  # between two classes of one seed: a prime


@dataclass(frozen=True)
class Wanted:
    """`number` images of the class `label`, -1 for no class in particular."""

    number: int
    label: int = -1


@dataclass(frozen=True)
class Form:
    """How made images are written: as files with `suffix`, or all in one .npz (""); `ranges` (low, high) of each component; the grid."""

    suffix: str
    ranges: tuple[tuple[float, float], ...]
    channels: dict[str, int]
    space: Space

    @classmethod
    def of(cls, run: Run) -> "Form":
        """That of the run's data: pictures as PNG, volumes as NIfTI, a stack as a stack."""
        first = str(next(iter(run.dataset.cases[0].images.values())))
        facts, how, size = read_json(run.path / "fingerprint.json"), run.plan.preparation, tuple(run.plan.patch.size)
        stacked = "#" in Path(first).name and ".npz#" in first
        suffix = "" if stacked and len(size) == 2 and len(how.channels) == 1 else ".png" if len(size) == 2 else ".nii.gz"
        names = [name for name, count in how.channels.items() for _ in range(count)]
        stats = list(facts["intensities"].values())
        ranges = tuple(range_of(rule, stats[k] if k < len(stats) else {}) for k, rule in enumerate(how.normalise[: len(names)]))
        extent = np.median(np.array(facts["shapes"], float) * np.array(facts["spacings"]), 0)
        steps = how.spacing or tuple(extent[-len(size) :] / np.array(size))
        physical = bool(facts.get("physical", True))
        return cls(suffix, ranges, dict(how.channels), Space.of(size, steps if physical else None, physical=physical))

    def pixels(self, image: Floats) -> NDArray[Any]:
        """`image` (C, *S) from 0 to 1 in the numbers of the files; whole ones where files hold pictures."""
        low, high = (np.array(ends, np.float32).reshape(-1, *(1,) * (image.ndim - 1)) for ends in zip(*self.ranges, strict=True))
        values = low + image * (high - low)
        if self.suffix == ".nii.gz":
            return np.asarray(values, np.float32)
        whole = np.rint(np.clip(values, 0, 65535))
        return np.asarray(whole, np.uint8 if max(top for _, top in self.ranges) <= 255 else np.uint16)

    def parts(self, pixels: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Components by channel."""
        ends = np.cumsum([0, *self.channels.values()])
        return {name: pixels[ends[k] : ends[k + 1]] for k, name in enumerate(self.channels)}


def range_of(rule: Normalise, stats: dict[str, Any]) -> tuple[float, float]:
    """What 0 and 1 stand for in a file: the rule's own ends, or the data set's usual range where each image was scaled by itself."""
    if rule.kind == "unit" and rule.high > rule.low:
        return rule.low, rule.high
    usual = (float(stats.get("p0.5", 0.0)), float(stats.get("p99.5", 1.0)))
    return usual if usual[1] > usual[0] else (0.0, 255.0)


def synthesise(run: Run | Path | str, folder: Path, *, number: int, label: str = "", seed: int = 0,
               listener: Listener | None = None) -> list[dict[str, Any]]:  # fmt: skip
    """Write `number` images into `folder` with a table, synthetic.csv, whose rows are given back. Where the model knows classes they come
    in turn, or all of the one called `label`."""
    run = run if isinstance(run, Run) else Run.open(run)
    if number < 1:
        raise UsageError(f"Ask for at least one image; got {number}.")
    labels, method = run.plan.labels, maker(run)
    if label:
        wanted = [Wanted(number, numbered(label, labels))]
    elif knows_classes(method):
        counts = np.bincount(np.arange(number) % len(labels.names), minlength=len(labels.names))
        wanted = [Wanted(int(count), k) for k, count in enumerate(counts) if count]
    else:
        wanted = [Wanted(number)]
    return written(run, method, folder, wanted=wanted, seed=seed, listener=listener or Listener())


def maker(run: Run) -> Learned:
    """What the run has learned to make images with."""
    if run.task.grain != "image":
        raise UsageError(f"{run.path} learned the task {run.plan.task}, which makes no images. Train one that does: "
                         f"vesalius train DATA -o RUN --task generate")  # fmt: skip
    method: Any = run.method()
    made(method, 0)  # an error in words where it makes no images
    return method  # type: ignore[no-any-return]


def written(run: Run, method: Learned, folder: Path, *, wanted: Sequence[Wanted], seed: int,
            listener: Listener) -> list[dict[str, Any]]:  # fmt: skip
    """Make and write; the rows of the table."""
    form, rows, stack = Form.of(run), list[dict[str, Any]](), list[NDArray[Any]]()
    refuse_older(folder)
    model = digest(run.plan.model_dump_json(), str(run.path.resolve()))[:8]
    total = sum(one.number for one in wanted)
    with listener.stage("making images") as tick:
        for one in wanted:
            for lot in lots(method, one, seed):
                for image in lot:
                    name = f"synthetic_{model}_{seed}_{len(rows):06d}"
                    rows.append(row_of(name, one, run=run, seed=seed))
                    rows[-1] |= kept(form.pixels(image), name, form, folder=folder, stack=stack)
                tick(len(rows), total, rows[-1]["case"])
    refuse_namesakes(run, rows)
    if stack:
        classes = [row["class"] for row in rows] if "class" in rows[0] else []
        write_stack(folder / STACK, stack, classes=classes, labels=run.plan.labels)
    write_table(folder / TABLE, rows)
    write_json(folder / "record.json", record(synthetic=WORDS, model=str(run.path), method=run.plan.train.method, seed=seed))
    return rows


def lots(method: Learned, one: Wanted, seed: int) -> Iterator[Floats]:
    """The images of `one`, some at a time (B, C, *S): the same for the same seed."""
    for start in range(0, one.number, LOT):
        label = one.label if one.label >= 0 else None
        yield made(method, min(LOT, one.number - start), seed=seed + SEEDS * (one.label + 1) + start, label=label)


def refuse_older(folder: Path) -> None:
    """An error where images were made before, so that no table names another's files."""
    if (folder / TABLE).exists():
        raise VesaliusError(f"{folder} holds made images already. Choose another folder with -o, or remove it.")


def refuse_namesakes(run: Run, rows: Sequence[dict[str, Any]]) -> None:
    """An error where a made patient has the name of a real one."""
    if both := {case.patient for case in run.dataset.cases} & {row["patient"] for row in rows}:
        raise VesaliusError(f"Patients of the data set are called as made ones are: {', '.join(sorted(both)[:3])}. Was the model trained "
                            "on made images? Choose another --seed.")  # fmt: skip


def row_of(name: str, one: Wanted, *, run: Run, seed: int) -> dict[str, Any]:
    """The row of one image, but for its files."""
    named = {"class": run.plan.labels.names[one.label]} if one.label >= 0 else {}
    return {"case": name, "patient": name, **named, "split": "train", "synthetic": "yes", "model": run.path.name,
            "method": run.plan.train.method, "seed": seed}  # fmt: skip


def kept(pixels: NDArray[Any], name: str, form: Form, *, folder: Path, stack: list[NDArray[Any]]) -> dict[str, str]:
    """Write one image, or put it on the stack; the cells of the table that say where it is."""
    if not form.suffix:
        stack.append(pixels)
        return {"image": f"{STACK}#train_images[{len(stack) - 1}]"}
    cells = {}
    for channel, part in form.parts(pixels).items():
        alone = len(form.channels) == 1
        file = folder / f"{name}{'' if alone else '_' + channel}{form.suffix}"
        save(Image(part, form.space, Source(str(file), MADE, {"description": WORDS})), file)
        cells["image" if alone else f"image_{channel}"] = file.name
    return cells


def write_stack(path: Path, stack: Sequence[NDArray[Any]], *, classes: Sequence[str], labels: Labels) -> None:
    """All images as train_images (N, rows, columns) or (N, rows, columns, 3), their classes as train_labels (N, 1)."""
    images = np.stack([one[0] if len(one) == 1 else np.moveaxis(one, 0, -1) for one in stack])
    numbers = {name: labels.values[k][0] if labels.values[k] else k for k, name in enumerate(labels.names)}
    parts = {"train_images": images, "synthetic": np.array(WORDS)}
    parts |= {"train_labels": np.array([[numbers[name]] for name in classes], np.uint8)} if classes else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_beside(path, lambda beside: np.savez_compressed(beside, allow_pickle=False, **parts))


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """`rows` as CSV; a cell that a row has not is empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[row.get(column, "") for column in columns] for row in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())
