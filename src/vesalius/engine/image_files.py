"""Answers of models that learned from images alone: a row of a table for each image, and a map on its own grid where the task has one."""

import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vesalius.core.colours import viridis
from vesalius.core.errors import VesaliusError
from vesalius.core.files import read_json, write_beside, write_json, write_text
from vesalius.core.space import Array
from vesalius.data.case import Case
from vesalius.data.read import components
from vesalius.data.whole import read_whole
from vesalius.engine.grids import restored
from vesalius.engine.images import calibration_of
from vesalius.engine.missing import completed, lacking, write_missing
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.io import load, save
from vesalius.io.image import Image
from vesalius.plan import Plan
from vesalius.plan.budget import device
from vesalius.tasks import Images, ImageTask

AT_ONCE = 16  # images
WRITTEN_EVERY = 10.0  # seconds between two versions of the table
OPACITY = 0.65  # of the hottest place


@dataclass
class Done:
    """Rows so far, files of maps by case, and (case, problem) of what could not be read."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)


def answer_images(run: Run, plan: Plan, cases: Sequence[Case], *, folder: Path, how: Mapping[str, Any], listener: Listener) -> Done:
    """Answers to `cases` in `folder`, `how` = {"name" of the table, "overwrite", "skip_bad", "raw": maps as .npy too}. Rows that are there
    already are kept unless they are to be overwritten."""
    task, method, calibration = cast(ImageTask, run.task), run.method(), calibration_of(run)
    file = folder / f"{how['name']}.json"
    done = Done() if how["overwrite"] or not file.exists() else kept(file, {case.name for case in cases}, folder)
    known, due = {row["case"] for row in done.rows}, time.monotonic() + WRITTEN_EVERY
    left = [case for case in cases if case.name not in known]
    with listener.stage("predicting") as tick:
        for start in range(0, len(left), AT_ONCE):
            images = read(left[start : start + AT_ONCE], plan, done, skip_bad=how["skip_bad"])
            if len(images):
                images, whole = completed(method, images, plan), images
                done.rows += task.answers(method, images, calibration)
                if images is not whole:
                    fill_in(images, plan, done, folder=folder)
                maps = task.heat(method, images)
                for case, one in zip(images.cases, maps if maps is not None else (), strict=False):
                    done.files[case.name] = write_map(folder, case, one, plan=plan, top=calibration.get("hottest"), raw=how["raw"])
            if time.monotonic() > due:
                write(file, run, done, calibration=calibration)
                due = time.monotonic() + WRITTEN_EVERY
            tick(min(len(left), start + AT_ONCE), len(left), left[min(len(left), start + AT_ONCE) - 1].name)
            if listener.stop():
                listener.say(f"Stopped after {len(done.rows)} of {len(cases)} cases; the same command goes on from there.")
                break
    write(file, run, done, calibration=calibration)
    return done


def fill_in(images: Images, plan: Plan, done: Done, *, folder: Path) -> None:
    """Files of the channels that cases lack; the last rows say which are there."""
    first = len(done.rows) - len(images)
    for k, (case, pixels) in enumerate(zip(images.cases, images.pixels, strict=True), start=first):
        if names := lacking(case, plan.preparation.channels):
            done.rows[k] = {"case": case.name, "filled_in": "; ".join(names), **done.rows[k]}
            done.files[case.name] = write_missing(folder, case, pixels, plan=plan)[0]


def read(cases: Sequence[Case], plan: Plan, done: Done, *, skip_bad: bool) -> Images:
    """Prepared images, in half precision as those that were learned from; what cannot be read is an error, or listed with `skip_bad`."""
    found = []
    for case in cases:
        try:
            found.append((case, read_whole(case, plan.preparation, plan.patch.size).astype(np.float16)))
        except VesaliusError as problem:
            if not skip_bad:
                raise
            done.problems.append((case.name, str(problem)))
    return Images([case for case, _ in found], [pixels for _, pixels in found], plan.labels, device())


def kept(file: Path, names: set[str], folder: Path) -> Done:
    """What an earlier call has left; what could not be read is tried again."""
    found = [row for row in read_json(file).get("cases", []) if row["case"] in names and not row.get("problem")]
    rows = [{key: value for key, value in row.items() if key != "file"} for row in found]
    return Done(rows, {row["case"]: folder / row["file"] for row in found if row.get("file")})


def write(file: Path, run: Run, done: Done, *, calibration: Mapping[str, Any]) -> None:
    """The table as JSON at `file`, and as CSV beside it."""
    from vesalius.core.record import record

    rows = [{**row, "file": done.files[row["case"]].name if row["case"] in done.files else None} for row in done.rows]
    bad = [{"case": case, "problem": problem} for case, problem in done.problems]
    write_json(file, {"model": str(run.path), "cases": [*rows, *bad], "calibration": calibration, "record": record()})
    columns = list(dict.fromkeys(key for row in rows for key in row if row[key] is not None))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns or ["case"])
    writer.writerows([[row.get(column, "") for column in columns] for row in rows])
    write_text(file.with_suffix(".csv"), text.getvalue())


def write_map(folder: Path, case: Case, heat: Array, *, plan: Plan, top: float | None, raw: bool) -> Path:
    """`heat` (1, *grid) on the grid of the first channel of `case`: NIfTI of a volume, of a picture the picture with the heat over it
    (`top` is the heat of the brightest colour); `raw`: as .npy too."""
    name = next(name for name in plan.preparation.channels if name in case.images)
    image = load(case.images[name])
    whole = restored(heat, components(image, plan.preparation.channels[name], case.images[name]), plan.preparation, size=plan.patch.size)
    if raw:
        write_beside(folder / f"{case.name}_map.npy", lambda beside: _save(beside, whole))
    if image.space.ndim == 3:
        path = folder / f"{case.name}_map.nii.gz"
        save(image.with_array(whole), path)
        return path
    path = folder / f"{case.name}_map.png"
    save(Image(np.moveaxis(heated(image.array[:3].mean(0), whole[0], top=top), -1, 0), image.space), path)
    return path


def _save(path: Path, array: Array) -> None:
    with open(path, "wb") as file:
        np.save(file, array, allow_pickle=False)


def heated(picture: Array, heat: Array, *, top: float | None = None) -> NDArray[np.uint8]:
    """`heat` (rows, columns) in colour over `picture` in grey, (rows, columns, 3); places without heat stay grey."""
    low, high = np.percentile(picture, (1, 99))
    grey = 255 * np.clip((picture - low) / max(float(high - low), 1e-12), 0, 1)
    part = np.clip(np.nan_to_num(heat) / (top or float(heat.max()) or 1.0), 0, 1)
    cover = OPACITY * np.sqrt(part)[..., None]
    return np.asarray(np.rint((1 - cover) * grey[..., None] + cover * viridis(part)), np.uint8)
