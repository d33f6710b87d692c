"""Answers for new scans: each lies on its scan's own grid, in the form in which the scan came."""

import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from vesalius.core.errors import DataError, UsageError, VesaliusError
from vesalius.core.files import read_json, write_json
from vesalius.core.record import record
from vesalius.core.space import Array
from vesalius.data.case import Case
from vesalius.data.labels import Labels
from vesalius.data.prepare import Prepared, prepare
from vesalius.data.read import read_stored
from vesalius.engine import whole
from vesalius.engine.evaluate import prediction_path
from vesalius.engine.extras import Extras
from vesalius.engine.image_files import answer_images
from vesalius.engine.infer import answer, callables
from vesalius.engine.inputs import cases_of, stem
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.table import write_table
from vesalius.engine.whole import Heard, calibration_of, in_parts
from vesalius.io import save
from vesalius.io.image import Image
from vesalius.plan import Plan
from vesalius.plan.budget import device
from vesalius.tasks import CaseTask, VoxelTask

WRITTEN_EVERY = 10.0  # seconds between two versions of the list of answers to whole cases
LARGE = 256 << 20  # bytes of a prepared scan beside which no other is read


@dataclass(frozen=True)
class Options:
    """How to predict. `part` of `parts`: this process's share of the cases (the same for every process that asks). `apart`: a mask for
    each label too, in a folder for each case."""

    probabilities: bool = False
    apart: bool = False
    settings: tuple[str, ...] = ()
    overwrite: bool = False
    skip_bad: bool = False
    parts: int = 1
    part: int = 0


@dataclass(frozen=True)
class Answered:
    """A case, the file of its answer, and what went wrong if anything did; `volumes` per label in mL (mm2 or px2 in 2D), or what
    is `said` of the case as a whole, the `probabilities` of each class, and what the rules from validation add (`trust`: thresholds,
    possible classes, answered or not, strange or not). Where images alone were learned from, `row` is what the task says of it."""

    case: str
    path: Path | None
    problem: str = ""
    volumes: dict[str, float] | None = None
    said: str | None = None
    probabilities: dict[str, float] | None = None
    trust: dict[str, Any] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)


def predict(
    run: Run | Path | str,
    inputs: Path | str | Sequence[Case],
    output: Path | str,
    *,
    images: Mapping[str, Path] | None = None,
    options: Options | None = None,
    listener: Listener | None = None,
) -> list[Answered]:
    """Answer every case behind `inputs` (see engine/inputs.py) into the folder `output`, one file each.

    Answers that are there already are left alone (a killed job goes on where it stopped) unless `overwrite`. A case that
    cannot be read stops the work, or with `skip_bad` is listed and passed over. All folds of the run answer together.
    """
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
    _no_clash(cases, folder)
    mine = share(cases, options)
    folder.mkdir(parents=True, exist_ok=True)
    return PREDICTORS[run.task.grain](run, (plan, options), mine, folder=folder, listener=listener)


def predict_voxels(run: Run, how: "How", mine: Sequence[Case], *, folder: Path, listener: Listener) -> list[Answered]:
    """Scan by scan, a file for each."""
    plan, options = how
    extras, networks = Extras.of(run), callables(run.networks(), plan, device())
    done: list[Answered] = []
    with listener.stage("predicting") as tick:
        for case, read in _read_ahead(mine, plan, folder, overwrite=options.overwrite):
            done.append(_one(run, (plan, options, networks), case, read=read, folder=folder, extras=extras))
            tick(len(done), len(mine), case.name)
            if listener.stop():
                listener.say(f"Stopped after {len(done)} of {len(mine)} cases; the same command goes on from there.")
                break
    write_json(folder / f"{name_of(options)}.json", report(run, done))
    return done


def predict_cases(run: Run, how: "How", mine: Sequence[Case], *, folder: Path, listener: Listener) -> list[Answered]:
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
                write_json(file, {**report(run, done), "calibration": calibration})
                due = time.monotonic() + WRITTEN_EVERY
            tick(len(done), len(mine), part[-1][0].name)
            if listener.stop():
                listener.say(f"Stopped after {len(done)} of {len(mine)} cases; the same command goes on from there.")
                break
    rows = [{"case": a.case, "said": a.said, "probabilities": a.probabilities, **a.trust} for a in done if not a.problem]
    write_table(folder, rows, plan.labels, name=file.stem)
    write_json(file, {**report(run, done), "calibration": calibration})
    return done


def _kept(file: Path, names: set[str]) -> list[Answered]:
    """Answers that an earlier call has left in `file`; what could not be read is tried again."""
    rows = [row for row in read_json(file).get("cases", []) if row["case"] in names and row.get("said") is not None]
    return [_told(row["case"], row, file) for row in rows]


def _told(case: str, row: Mapping[str, Any], file: Path) -> Answered:
    """The row of a case as an answer in the table beside `file`."""
    more = {key: row[key] for key in ("thresholds", "possible", "answered", "strange") if key in row}
    return Answered(case, file.with_suffix(".csv"), said=row["said"], probabilities=row["probabilities"], trust=more)


def name_of(options: Options) -> str:
    """The name of the list of answers; each process that shares the work writes its own."""
    return f"predictions-{options.part}" if options.parts > 1 else "predictions"


def predict_images(run: Run, how: "How", mine: Sequence[Case], *, folder: Path, listener: Listener) -> list[Answered]:
    """A row of predictions.csv for each image, and a map on its grid where the task has one."""
    plan, options = how
    asked = {"name": name_of(options), "overwrite": options.overwrite, "skip_bad": options.skip_bad, "raw": options.probabilities}
    done = answer_images(run, plan, mine, folder=folder, how=asked, listener=listener)
    table = folder / f"{name_of(options)}.csv"
    said = {row["case"]: {key: value for key, value in row.items() if key != "case"} for row in done.rows}
    good = [Answered(case, done.files.get(case, table), row=row) for case, row in said.items()]
    return good + [Answered(case, None, problem) for case, problem in done.problems]


PREDICTORS = {"voxel": predict_voxels, "case": predict_cases, "image": predict_images}


def share(cases: Sequence[Case], options: Options) -> list[Case]:
    """The cases of part `part` of `parts`, in their order: processes that see the same cases agree without talking, and no part has
    more than one case above another. They are dealt out in an order drawn from their names, so that large scans, which often follow
    each other, do not meet in one part."""
    if options.parts < 1:
        raise UsageError(f"Expected at least 1 part; got {options.parts}.")
    if not 0 <= options.part < options.parts:
        raise UsageError(f"Expected a part id from 0 to {options.parts - 1}; got {options.part}.")
    drawn = sorted((zlib.crc32(case.name.encode()), case.name) for case in cases)
    mine = {name for _, name in drawn[options.part :: options.parts]}
    return [case for case in cases if case.name in mine]


def _no_clash(cases: Sequence[Case], folder: Path) -> None:
    """Refuse two cases of one name, of which one answer would be lost, and answers in the place of the scans."""
    twice = [name for name, number in Counter(case.name for case in cases).items() if number > 1]
    if twice:
        raise DataError(f"{len(twice)} names stand for several scans each, for instance {twice[0]}. Rename one, or predict them apart.")
    for case in cases:
        for path in case.images.values():
            if stem(path) == case.name and path.resolve().parent == folder.resolve():
                raise UsageError(f"The answer to {case.name} would take the place of the scan {path}. Choose another folder with --output.")


How = tuple[Plan, Options]
Read = tuple[Image, Prepared]


def _read_ahead(cases: Sequence[Case], plan: Plan, folder: Path, *, overwrite: bool) -> Iterator[tuple[Case, "Future[Read] | Path"]]:
    """Each case with what was read of it (or the answer that is there); the next is read while this one is computed, unless
    this one is so large that two would not fit beside each other."""

    def begin(case: Case) -> Future[Read] | Path:
        there = None if overwrite else existing(folder, case)
        return there or pool.submit(_read, case, plan)

    with ThreadPoolExecutor(1) as pool:
        coming = [begin(case) for case in cases[:1]]
        for index, case in enumerate(cases):
            now, then = coming.pop(), cases[index + 1 : index + 2]
            ahead = _is_small(now)
            if ahead:
                coming += [begin(other) for other in then]
            yield case, now
            del now
            if not ahead:
                coming += [begin(other) for other in then]


def _is_small(read: "Future[Read] | Path") -> bool:
    """Whether what was read (waited for here) leaves room for the next scan beside it."""
    return isinstance(read, Path) or read.exception() is not None or read.result()[1].image.nbytes <= LARGE


def existing(folder: Path, case: Case) -> Path | None:
    """The answer to `case` that is in `folder` already, in whatever form."""
    found = (p for p in folder.glob(f"{_escaped(case.name)}.*") if stem(p) == case.name)
    return next((p for p in found if not p.name.endswith((".npy", ".json"))), None)


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _read(case: Case, plan: Plan) -> Read:
    image = read_stored(case, plan.preparation.channels)
    if image.space.ndim != plan.net.ndim:
        raise VesaliusError(f"Case {case.name} has {image.space.ndim} dimensions; the model was trained on {plan.net.ndim}.")
    prepared = prepare(image, plan.preparation)
    return image.with_array(np.broadcast_to(np.float32(0), image.array.shape)), prepared  # only its place is needed from here on


def _one(
    run: Run, how: tuple[Plan, Options, Any], case: Case, *, read: "Future[Read] | Path", folder: Path, extras: Extras
) -> Answered:
    plan, options, networks = how
    if isinstance(read, Path):
        return Answered(case.name, read)
    try:
        image, prepared = read.result()
    except VesaliusError as problem:
        if not options.skip_bad:
            raise
        return Answered(case.name, None, str(problem))
    kept = folder / f"{case.name}_probabilities.npy" if options.probabilities else None
    said = answer(networks, prepared, plan=plan, device=device(), extras=extras, probabilities=kept)
    path = prediction_path(folder, image, case)
    save(cast(VoxelTask, run.task).written(said, image, plan.labels), path)
    if options.apart:
        _write_apart(said, image, plan.labels, beside=path)
    return Answered(case.name, path, volumes=volumes(said, image, plan))


def _write_apart(said: Array, image: Image, labels: Labels, *, beside: Path) -> None:
    """A mask of 0 and 1 for each label, named by it, in a folder with the name of the case."""
    folder = beside.parent / stem(beside)
    suffix = beside.name.removeprefix(folder.name)
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(labels.names):
        save(image.with_array(labels.mask(said, number)[None].astype(np.uint8)), folder / f"{name.replace('/', '_')}{suffix}")


def volumes(said: Array, image: Image, plan: Plan) -> dict[str, float]:
    """Size per label: mL in 3D, mm2 (or px2) in 2D."""
    one = image.space.voxel_volume / (1000 if image.space.ndim == 3 else 1)
    return {name: round(number * one, 4) for name, number in zip(plan.labels.names, plan.labels.counts(said), strict=True)}


def row_of(a: Answered) -> dict[str, Any]:
    """An answer as JSON: its volumes, or what was said of the case."""
    known = {"case": a.case, "file": a.path.name if a.path else None, "problem": a.problem}
    if a.row:
        return {**known, **a.row}
    return {**known, "volumes": a.volumes} if a.said is None else {**known, "said": a.said, "probabilities": a.probabilities, **a.trust}


def report(run: Run, done: Sequence[Answered]) -> dict[str, Any]:
    """What predict writes beside its answers."""
    rows = [row_of(a) for a in done]
    return {"model": str(run.path), "labels": run.plan.labels.describe(), "cases": rows, "record": record()}
