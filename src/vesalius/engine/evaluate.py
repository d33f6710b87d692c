"""What a run is worth: every metric on the scan's own grid, with a shallow baseline and further raters beside it."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from vesalius.core.errors import VesaliusError
from vesalius.core.files import write_json
from vesalius.core.space import Array
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.prepare import Prepared, prepare
from vesalius.data.read import read_mask, read_stored
from vesalius.engine.answered import prediction_path
from vesalius.engine.extras import Extras
from vesalius.engine.images import score_image_files, score_images
from vesalius.engine.infer import ALONE, answer, callables
from vesalius.engine.inputs import ENDINGS, stem
from vesalius.engine.jobs import Baselines, baseline_of, jobs_of
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.scores import summarise
from vesalius.engine.whole import score_cases
from vesalius.engine.whole_files import score_table
from vesalius.io import save
from vesalius.io.image import Image
from vesalius.io.resample import resample
from vesalius.plan.budget import device
from vesalius.tasks import Shallow, VoxelTask

Rows = list[dict[str, Any]]
Jobs = list[tuple[list[Case], list[int]]]


@dataclass(frozen=True)
class Read:
    """A case in memory: its scan, the prepared pixels and the truth (K, *S) on the scan's grid."""

    case: Case
    image: Image
    prepared: Prepared
    truth: Array


def evaluate(
    run: Run | Path | str,
    *,
    baseline: Baselines = None,
    parts: Sequence[str] = ("val", "test"),
    by: Sequence[str] = (),
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Score the run on its validation and test parts; predictions and metrics.json are written into the run folder.

    With several folds each validation case is answered by the network that never saw it (and by that fold's own `baseline`, where one
    for each is given), test cases by all together.
    `by` names metadata keys to split the summary by. Returns what metrics.json holds.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    listener = listener or Listener()
    run.dataset.check_words(by)
    jobs = {part: found for part, found in ((part, jobs_of(run, part)) for part in parts) if any(cases for cases, _ in found)}
    scores = SCORERS[run.task.grain](run, jobs, baseline=baseline, by=by, listener=listener)
    if not scores:
        raise VesaliusError(f"{run.path}: the split has no case to score in {', '.join(parts)}. Give it a test part (see docs/howto).")
    found = told(run, scores) | marked(run)
    write_json(run.path / "metrics.json", found)
    return found


def score_voxels(run: Run, jobs: dict[str, Jobs], *, baseline: Baselines, by: Sequence[str], listener: Listener) -> dict[str, Any]:
    """Scores of each part, scan by scan."""
    return {part: _score_part(run, part, found, baseline=baseline, by=by, listener=listener) for part, found in jobs.items()}


def _score_part(run: Run, part: str, jobs: Jobs, *, baseline: Baselines, by: Sequence[str], listener: Listener) -> dict[str, Any]:
    where, rows = device(), {"model": list[Any](), "baseline": list[Any]()}
    raters: dict[str, Rows] = {}
    total, done = sum(len(cases) for cases, _ in jobs), 0
    with listener.stage(f"testing on {part}") as tick, ThreadPoolExecutor(2) as pool:
        waiting: list[tuple[str, Future[Rows]]] = []
        for cases, members in jobs:
            networks = callables(run.networks([run.members[k] for k in members]), run.plan, where) if cases else []
            apart = members[0] if part == "val" and len(jobs) > 1 else None  # no case is judged by rules that it helped to set
            extras = Extras.of(run, [run.members[k] for k in members], apart=apart) if cases else ALONE
            shallow = baseline_of(baseline, members)
            for read in ahead(cases, lambda case: read_case(case, run)):
                said = answer(networks, read.prepared, plan=run.plan, device=where, extras=extras)
                waiting.append(("model", pool.submit(score, run, read, said)))
                save(
                    cast(VoxelTask, run.task).written(said, read.image, run.plan.labels),
                    prediction_path(run.path / "predictions" / part, read.image, read.case),
                )
                if shallow is not None:
                    waiting.append(("baseline", pool.submit(score, run, read, shallow_answer(shallow, read.prepared))))
                for rater in list(read.case.masks)[1:]:
                    other = read_mask(read.case.masks[rater], run.plan.labels, read.image.space)
                    waiting.append((rater, pool.submit(score, run, read, other)))
                done += 1
                tick(done, total, read.case.name)
        for who, future in waiting:
            (rows[who] if who in rows else raters.setdefault(who, [])).extend(future.result())
    group = {key: {case.name: case.metadata.get(key) for cases, _ in jobs for case in cases} for key in by}
    made = {who: summarise(found, groups=group) for who, found in {**rows, **raters}.items() if found}
    return {"model": made.pop("model"), "baseline": made.pop("baseline", None), "raters": made}


SCORERS = {"voxel": score_voxels, "case": score_cases, "image": score_images}


def read_case(case: Case, run: Run) -> Read:
    """Scan, prepared pixels and truth of one case."""
    image = read_stored(case, run.plan.preparation.channels)
    if case.mask is None:
        raise VesaliusError(f"Case {case.name} has no mask to be scored against. Leave it out of the test part, or use vesalius predict.")
    return Read(case, image, prepare(image, run.plan.preparation), read_mask(case.mask, run.plan.labels, image.space))


def score(run: Run, read: Read, said: Array) -> Rows:
    """One row per label, with the case and the patient."""
    who = {"case": read.case.name, "patient": read.case.patient}
    task = cast(VoxelTask, run.task)
    return [{**who, **row} for row in task.score(said, read.truth, space=read.image.space, labels=run.plan.labels)]


def shallow_answer(baseline: Shallow, prepared: Prepared) -> Array:
    """The baseline's classes on the scan's own grid."""
    said = baseline.predict(prepared.image)
    if prepared.space.shape != prepared.native.shape:
        said = np.asarray(resample(Image(said, prepared.space), prepared.native, order=0).array, np.uint8)
    return prepared.restore(said)


def ahead(cases: Sequence[Case], read: Callable[[Case], Read]) -> Iterator[Read]:
    """Cases in order; the next one is read while this one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(read, cases[0]) if cases else None
        for index in range(len(cases)):
            assert coming is not None
            now = coming.result()
            coming = pool.submit(read, cases[index + 1]) if index + 1 < len(cases) else None
            yield now


def evaluate_files(
    run: Run | Path | str,
    predictions: Path | None,
    truth: Dataset | None = None,
    *,
    by: Sequence[str] = (),
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Score answers from anywhere. `predictions` is a folder of one mask per case (`<case>.nii.gz` ...), or a predictions.csv
    where cases as a whole are answered; without it the run answers the cases of `truth` first. Without `truth` the run's own
    test part is the truth. Nothing in the run changes."""
    run, listener = run if isinstance(run, Run) else Run.open(run), listener or Listener()
    mark = marked(run) if truth is None else {}
    if truth is None:
        truth = run.dataset.with_cases(tuple(run.dataset.case(name) for name in run.splits["test"]))
    truth.check_words(by)
    part = FILE_SCORERS[run.task.grain](run, predictions, truth, by=by, listener=listener)
    return told(run, {"test": part}) | mark


def marked(run: Run) -> dict[str, Any]:
    """{"leaky_split": what lies on two sides} of a run whose split was let leak; empty otherwise."""
    leaks = run.splits.get("leaks")
    return {"leaky_split": leaks} if leaks else {}


def told(run: Run, parts: dict[str, Any]) -> dict[str, Any]:
    """The form of metrics.json."""
    words = {"definitions": run.task.definitions(run.unit), "leading": list(run.task.leading)}
    return {"version": 1, "unit": run.unit, **words, "parts": parts}


def score_masks(run: Run, predictions: Path | None, truth: Dataset, *, by: Sequence[str], listener: Listener) -> dict[str, Any]:
    """Scores of masks in a folder, or of what the run answers."""
    networks = None if predictions else callables(run.networks(), run.plan, device())
    extras = ALONE if predictions else Extras.of(run)
    rows: Rows = []
    cases = [case for case in truth.cases if case.mask]
    with listener.stage("scoring") as tick:
        for done, read in enumerate(ahead(cases, lambda case: read_case(case, run)), 1):
            if predictions:
                said = read_mask(_file_of(predictions, read.case), run.plan.labels, read.image.space)
            else:
                said = answer(networks or [], read.prepared, plan=run.plan, device=device(), extras=extras)
            rows += score(run, read, said)
            tick(done, len(cases), read.case.name)
    group = {key: {case.name: case.metadata.get(key) for case in cases} for key in by}
    return {"model": summarise(rows, groups=group), "baseline": None, "raters": {}}


FILE_SCORERS = {"voxel": score_masks, "case": score_table, "image": score_image_files}


def _file_of(folder: Path, case: Case) -> Path:
    masks = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name.lower().endswith(ENDINGS)]
    found = [path for path in masks if stem(path) == case.name]
    if len(found) != 1:
        raise VesaliusError(
            f"{folder} has {len(found)} masks for the case {case.name}; exactly one is expected, named {case.name}.nii.gz or the like."
        )
    return found[0]
