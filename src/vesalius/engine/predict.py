"""Answers for new scans: each lies on its scan's own grid, in the form in which the scan came."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

from vesalius.core.errors import UsageError
from vesalius.core.files import read_json, write_json
from vesalius.data.case import Case
from vesalius.engine import whole
from vesalius.engine.answered import Answered, Options, name_of, no_clash, prediction_path, report, share, volumes, write_apart
from vesalius.engine.extras import Extras
from vesalius.engine.image_files import answer_images
from vesalius.engine.infer import answer, callables
from vesalius.engine.inputs import cases_of
from vesalius.engine.progress import Listener
from vesalius.engine.reading import Read, read_ahead, taken
from vesalius.engine.run import Run
from vesalius.engine.table import write_table
from vesalius.engine.whole import Heard, calibration_of, in_parts
from vesalius.io import save
from vesalius.plan import Plan
from vesalius.plan.budget import device
from vesalius.tasks import CaseTask, VoxelTask

How = tuple[Plan, Options]

WRITTEN_EVERY = 10.0  # seconds between two versions of the list of answers to whole cases


def predict(
    run: Run | Path | str,
    inputs: Path | str | Sequence[Case],
    output: Path | str,
    *,
    images: Mapping[str, Path] | None = None,
    options: Options | None = None,
    listener: Listener | None = None,
) -> list[Answered]:
    """As `export/predicting.py` says, by torch whatever the run holds."""
    run = run if isinstance(run, Run) else Run.open(run)
    options, listener, folder = options or Options(), listener or Listener(), Path(output)
    plan = run.plan.with_settings(list(options.settings)) if options.settings else run.plan
    if options.apart and run.task.grain != "voxel":
        raise UsageError(f"{run.path} does not answer voxel by voxel: there are no masks to write apart. Leave --apart out.")
    cases = (
        list(inputs)
        if isinstance(inputs, Sequence) and not isinstance(inputs, str)
        else cases_of(Path(str(inputs)), list(plan.preparation.channels), images)
    )
    no_clash(cases, folder)
    mine = share(cases, options)
    folder.mkdir(parents=True, exist_ok=True)
    return PREDICTORS[run.task.grain](run, (plan, options), mine, folder=folder, listener=listener)


def predict_voxels(run: Run, how: How, mine: Sequence[Case], *, folder: Path, listener: Listener) -> list[Answered]:
    """Scan by scan, a file for each."""
    plan, options = how
    extras, networks = Extras.of(run), callables(run.networks(), plan, device())
    done: list[Answered] = []
    with listener.stage("predicting") as tick:
        for case, read in read_ahead(mine, folder, plan.preparation, ndim=plan.net.ndim, overwrite=options.overwrite):
            done.append(_one(run, (plan, options, networks), case, read=read, folder=folder, extras=extras))
            tick(len(done), len(mine), case.name)
            if listener.stop():
                listener.say(f"Stopped after {len(done)} of {len(mine)} cases; the same command goes on from there.")
                break
    write_json(folder / f"{name_of(options)}.json", report(run.path, run.plan.labels, done))
    return done


def predict_cases(run: Run, how: How, mine: Sequence[Case], *, folder: Path, listener: Listener) -> list[Answered]:
    """Many cases at a time, a row of predictions.csv for each; rows that are there already are kept unless they are to be overwritten."""
    plan, options = how
    networks = callables(run.networks(), plan, device())
    task, calibration = cast(CaseTask, run.task), calibration_of(run)
    file = folder / f"{name_of(options)}.json"
    done = [] if options.overwrite or not file.exists() else _kept(file, {case.name for case in mine})
    known, due = {a.case for a in done}, time.monotonic() + WRITTEN_EVERY
    left = [case for case in mine if case.name not in known]
    with listener.stage("predicting") as tick:
        for part in in_parts(left, plan):
            heard = Heard()
            whole.answer(networks, part, plan, heard=heard, skip_bad=options.skip_bad)
            done += [Answered(case.name, None, problem) for case, problem in heard.problems]
            if heard.cases:
                rows = task.rows(heard.of("model"), plan.labels, calibration, names=heard.names)
                done += [_told(name, row, file) for name, row in zip(heard.names, rows, strict=True)]
            if time.monotonic() > due:
                write_json(file, {**report(run.path, run.plan.labels, done), "calibration": calibration})
                due = time.monotonic() + WRITTEN_EVERY
            tick(len(done), len(mine), part[-1][0].name)
            if listener.stop():
                listener.say(f"Stopped after {len(done)} of {len(mine)} cases; the same command goes on from there.")
                break
    rows = [{"case": a.case, "said": a.said, "probabilities": a.probabilities, **a.trust} for a in done if not a.problem]
    write_table(folder, rows, plan.labels, name=file.stem)
    write_json(file, {**report(run.path, run.plan.labels, done), "calibration": calibration})
    return done


def _kept(file: Path, names: set[str]) -> list[Answered]:
    """Answers that an earlier call has left in `file`; what could not be read is tried again."""
    rows = [row for row in read_json(file).get("cases", []) if row["case"] in names and row.get("said") is not None]
    return [_told(row["case"], row, file) for row in rows]


def _told(case: str, row: Mapping[str, Any], file: Path) -> Answered:
    """The row of a case as an answer in the table beside `file`."""
    more = {key: row[key] for key in ("thresholds", "possible", "answered", "strange") if key in row}
    return Answered(case, file.with_suffix(".csv"), said=row["said"], probabilities=row["probabilities"], trust=more)


def predict_images(run: Run, how: How, mine: Sequence[Case], *, folder: Path, listener: Listener) -> list[Answered]:
    """A row of predictions.csv for each image, and a map on its grid where the task has one."""
    plan, options = how
    asked = {"name": name_of(options), "overwrite": options.overwrite, "skip_bad": options.skip_bad, "raw": options.probabilities}
    done = answer_images(run, plan, mine, folder=folder, how=asked, listener=listener)
    table = folder / f"{name_of(options)}.csv"
    said = {row["case"]: {key: value for key, value in row.items() if key != "case"} for row in done.rows}
    good = [Answered(case, done.files.get(case, table), row=row) for case, row in said.items()]
    return good + [Answered(case, None, problem) for case, problem in done.problems]


PREDICTORS = {"voxel": predict_voxels, "case": predict_cases, "image": predict_images}


def _one(
    run: Run, how: tuple[Plan, Options, Any], case: Case, *, read: Future[Read] | Path, folder: Path, extras: Extras
) -> Answered:
    plan, options, networks = how
    found = taken(case, read, skip_bad=options.skip_bad)
    if isinstance(found, Answered):
        return found
    image, prepared = found
    kept = folder / f"{case.name}_probabilities.npy" if options.probabilities else None
    said = answer(networks, prepared, plan=plan, device=device(), extras=extras, probabilities=kept)
    path = prediction_path(folder, image, case)
    save(cast(VoxelTask, run.task).written(said, image, plan.labels), path)
    if options.apart:
        write_apart(said, image, plan.labels, beside=path)
    return Answered(case.name, path, volumes=volumes(said, image, plan.labels))
