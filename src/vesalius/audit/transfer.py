"""The transfer audit: from how many labels on are learned weights of what kind better than none?

Rivals on the user's own data: from scratch, weights that the user names (of general images, or of a run on another labelled set), and each
method that learns from the training images without their labels. Every rival has the same network, the same labelled subsets (nested,
by patient, alike in their classes), the same number of steps and the same seeds, and answers the same test patients. Beside fine-tuning
stand a linear probe and votes of neighbours on features that stay as they begin (Chen et al. 2020; Raghu et al. 2019, NeurIPS, found
that weights of general images add little to medical ones: hence the question).

Everything is a job with a file of its own, so that an audit that was killed goes on with what is missing.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vesalius.audit import transfer_runs
from vesalius.audit.rivals import Rows
from vesalius.audit.rounds import Outcome
from vesalius.audit.subsets import Nested, nested
from vesalius.audit.transfer_plan import Asked, Job, able_to_teach, jobs_of, prepared, steps_alike
from vesalius.audit.transfer_table import tabled
from vesalius.core.errors import UsageError
from vesalius.core.files import read_json, write_json
from vesalius.core.record import digest, record
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.engine.progress import Listener, Tick
from vesalius.plan import Plan

WRITTEN = ("asked.json", "dataset.json", "splits.json", "plan.json", "transfer.json", "transfer.html")
FOLDERS = ("pretrained", "runs", "outcomes", "plans")
FIXED = ("data", "budget", "unlabelled", "settings", "inits", "fix_split")  # what may not change between two sittings


@dataclass
class Audit:
    """One sitting: what is asked, the folder, the data by side, the plan that all rivals share, and who listens."""

    asked: Asked
    folder: Path
    dataset: Dataset
    pool: tuple[Case, ...]
    test: tuple[Case, ...]
    plan: Plan
    listener: Listener
    described: dict[tuple[str, int], dict[str, Rows]] = field(default_factory=dict)

    def subset(self, seed: int) -> Nested:
        """The order in which cases get labels under this seed."""
        return nested([case for case in self.pool if case.labelled], seed=seed)


class Within(Listener):
    """A part of a longer work: its stages move one bar from `done` to `done` + 1 of `of`; what it says is not repeated."""

    def __init__(self, outer: Listener, tick: Tick, place: tuple[int, int, str]) -> None:
        self.outer, self.tick, self.place, self.share = outer, tick, place, 0.0

    def stage(self, what: str) -> AbstractContextManager[Tick]:
        return _Part(self, what.startswith("learning"))

    def stop(self) -> bool:
        return self.outer.stop()


class _Part(AbstractContextManager[Tick]):
    def __init__(self, within: Within, counts: bool) -> None:
        self.within, self.counts = within, counts

    def __enter__(self) -> Tick:
        return self.moved

    def __exit__(self, *problem: object) -> None:
        return None

    def moved(self, done: float, total: float | None = None, note: str = "") -> None:
        """Only learning moves the bar, and never back: the rest is short."""
        first, of, words = self.within.place
        if self.counts and total:
            self.within.share = max(self.within.share, min(done / total, 1.0))
        self.within.tick(round(first + self.within.share, 2), of, words)


def transfer(data: Dataset, folder: Path | str, *, asked: Asked, listener: Listener | None = None,
             overwrite: bool = False) -> dict[str, Any]:  # fmt: skip
    """What is written to `transfer.json` in `folder`; a folder that holds part of the same audit is continued. The table is written anew
    after every job, so that it can be looked at while the audit goes on."""
    where, heard = Path(folder), listener or Listener()
    if overwrite:
        clear(where)
    audit = _begun(data, where, asked, listener=heard)
    jobs = jobs_of(asked)
    left = [job for job in jobs if not outcome_file(where, job).exists()]
    if len(left) < len(jobs):
        heard.say(f"{len(jobs) - len(left)} of {len(jobs)} runs are done already; {len(left)} are left.")
    since, done = time.monotonic(), len(jobs) - len(left)
    with heard.stage("comparing") as tick:
        for number, job in enumerate(left):
            within = Within(heard, tick, (number, len(left), job.words))
            if not _one(audit, job, within):
                heard.say(f"Stopped after {done + number} of {len(jobs)} runs; the same command goes on from there.")
                break
            written(audit, jobs)
            tick(number + 1, len(left), job.words)
    found = written(audit, jobs, seconds=time.monotonic() - since)
    return found


def _begun(data: Dataset, folder: Path, asked: Asked, *, listener: Listener) -> Audit:
    """Splits and the shared plan, made once and kept as files."""
    folder.mkdir(parents=True, exist_ok=True)
    now = {**asked.model_dump(mode="json"), "data": digest(*sorted(case.name for case in data.cases))}
    _same_audit(folder, now)
    dataset, pool, test = prepared(data, asked, folder=folder, listener=listener)
    plan = steps_alike(dataset, pool, asked, folder=folder, listener=listener)
    able_to_teach(asked.without_labels(), plan)
    write_json(folder / "asked.json", now)
    return Audit(asked, folder, dataset, pool, test, plan, listener)


def _same_audit(folder: Path, now: dict[str, Any]) -> None:
    """What an audit was begun with is kept; labels, seeds and rivals may be added."""
    if (file := folder / "asked.json").exists():
        before = read_json(file)
        unlike = [name for name in FIXED if before.get(name, "") != now.get(name)
                  and not (name == "inits" and _grown(before[name], now[name]))]  # fmt: skip
        if unlike:
            raise UsageError(f"{folder} holds an audit with another {', '.join(unlike)}. "
                             "Choose another folder, or start again with --overwrite.")  # fmt: skip


def _grown(before: dict[str, str], now: dict[str, str]) -> bool:
    """Whether nothing that was named before now means something else."""
    return all(now.get(name, path) == path for name, path in before.items())


def _one(audit: Audit, job: Job, listener: Listener) -> bool:
    """One job to its end, its outcome on disk; False where the user stopped it."""
    init = transfer_runs.begun_from(audit, job, listener)
    if init is None:
        return False
    found = transfer_runs.done(audit, job, init=init, listener=listener)
    if found is None:
        return False
    write_json(outcome_file(audit.folder, job), {"rival": job.rival, "labels": job.labels, "seed": job.seed, **found})
    return True


def outcome_file(folder: Path, job: Job) -> Path:
    """Where the outcome of a job is kept."""
    return folder / "outcomes" / f"{job.rival}_{job.labels}_{job.seed}.json"


def outcomes(folder: Path, jobs: Sequence[Job]) -> Iterator[tuple[Job, dict[str, Outcome], dict[str, float]]]:
    """What was found so far: by the way in which weights are used, and the seconds it took."""
    for job in jobs:
        if (file := outcome_file(folder, job)).exists():
            tree = read_json(file)
            yield job, {how: Outcome.from_json(one) for how, one in tree["outcomes"].items()}, tree["seconds"]


def written(audit: Audit, jobs: Sequence[Job], *, seconds: float | None = None) -> dict[str, Any]:
    """transfer.json from all outcomes that are there. While the audit goes on few draws are made, so that it costs little."""
    there = list(outcomes(audit.folder, jobs))
    found = {
        "data": str(audit.dataset.root), "name": audit.dataset.name, "task": audit.dataset.task, "labels": list(audit.asked.labels),
        "seeds": audit.asked.seeds, "rivals": audit.asked.rivals(), "done": len(there), "of": len(jobs),
        "network": audit.plan.net.name, "parameters": audit.plan.expected.parameters, "steps": audit.plan.train.steps,
        "test": {"cases": len(audit.test), "patients": len({case.patient for case in audit.test})},
        "pool": {"cases": len(audit.pool), "patients": len({case.patient for case in audit.pool})},
        **tabled(there, audit.dataset.labels, draws=100 if seconds is None else audit.asked.draws),
        "record": record(seconds=seconds),
    }  # fmt: skip
    write_json(audit.folder / "transfer.json", found)
    return found


def clear(folder: Path) -> None:
    """Remove what an audit wrote, and nothing else."""
    for name in WRITTEN:
        (folder / name).unlink(missing_ok=True)
    for name in FOLDERS:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
