"""From a folder of scans to a tested run: recognise, examine, plan, cache, learn, test, report. Each step leaves a file;
a run that was killed goes on where it stopped."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from torch import distributed as dist

from vesalius.core.environment import home, local_rank, process_rank
from vesalius.core.errors import DataError, UsageError
from vesalius.core.files import read_json, write_json
from vesalius.core.record import record
from vesalius.data.cache import Cache, Stored
from vesalius.data.dataset import Dataset
from vesalius.data.doctor import Finding, draw, examine, mended, told
from vesalius.data.fingerprint import fingerprint
from vesalius.data.split import Split, split
from vesalius.engine.evaluate import evaluate
from vesalius.engine.forecast import TESTING
from vesalius.engine.member import Sides, learn
from vesalius.engine.priming import FILE as PRIOR
from vesalius.engine.priming import SHOWN, fit_priors, forget_odds, primed
from vesalius.engine.progress import Listener
from vesalius.engine.run import CORRECTED, Run
from vesalius.engine.settle import SETTLERS
from vesalius.engine.state import load_weights
from vesalius.plan import Plan, Request
from vesalius.plan import plan as make_plan
from vesalius.plan.budget import device
from vesalius.plan.folding import decided
from vesalius.tasks import TASKS, Shallow, Task

PATIENCE = timedelta(days=2)
HARD = ("leak", "groups", "classes")  # errors that leaving cases out does not mend
LEAST_SECONDS = 5.0


@dataclass
class Session:
    """One sitting: the folder, the data, who listens, and when it has to end."""

    folder: Path
    dataset: Dataset
    listener: Listener
    wish: Request
    plan_file: Path | None = None
    by: tuple[str, ...] = ()
    started: float = field(default_factory=time.monotonic)
    spent: dict[str, float] = field(default_factory=dict)
    continued: bool = False
    leaks: str = ""
    baselines: list[Shallow] = field(default_factory=list)
    processor: float = field(default_factory=time.process_time)
    sat: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.listener.started is not None:
            self.started = min(self.started, self.listener.started)

    @property
    def busy(self) -> float:
        """Seconds of the clock that a second of the processor has taken so far: 1 on a machine that does nothing else."""
        return max(1.0, (time.monotonic() - self.sat) / max(0.1, time.process_time() - self.processor))

    @property
    def task(self) -> Task:
        made: Task = TASKS[self.dataset.task]()
        return made

    def clocked(self, what: str, since: float) -> None:
        self.spent[what] = round(self.spent.get(what, 0) + time.monotonic() - since, 2)


def train(
    data: Dataset | Path | str,
    output: Path | str,
    *,
    wish: Request | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    by: Sequence[str] = (),
    plan_file: Path | None = None,
    listener: Listener | None = None,
) -> Run:
    """Train, test and report: everything lands in the folder `output`. A run that is there already is continued.

    `wish` is what is asked of the plan: `Request(budget="20m", memory="8G", settings=("train.seed=1",))`; `plan_file` is a
    plan to train by instead. `by` names metadata by which the scores are summarised too; `wish.fix_split` puts copies that a given
    split tears apart on one side; `wish.allow_leaks` leaves them there, and marks the run.
    Raises DataError where the doctor finds an error: a leak, an unreadable file, a mask off its image.
    """
    folder = Path(output)
    dataset = data if isinstance(data, Dataset) else Dataset.open(data)
    dataset.check_words(by)
    rank, _ = process_rank()
    heard = listener if listener and rank == 0 else Listener()
    asked = decided(wish or Request(), dataset, plan_file=plan_file)
    session = Session(folder, dataset, heard, asked, plan_file=plan_file, by=tuple(by))
    with _together() as meet:
        if rank == 0 and overwrite and (folder / "plan.json").exists():
            _clear(folder)
        meet()
        if _complete(folder):
            _same_data(folder, dataset)
            _same_plan(session)
            session.listener.say(f"{folder} is finished already. Train anew with --overwrite, or choose another folder.")
            return Run(folder)
        meet()
        if rank == 0:
            _prepare(session, skip_bad=skip_bad)
        meet()
        run = Run(folder)
        stored = _cached(session, run) if rank == 0 else {}
        meet()
        stored = stored or _cached(session, run)  # mapped from what the first process has written
        session.baselines = _baselines(session, run, stored) if rank == 0 else []
        ended = _learn(session, run, stored)
        if rank == 0:
            _finish(session, run, stored=stored, ended=ended)
    return run


@contextmanager
def _together() -> Iterator[Callable[[], None]]:
    """Inside, the processes that torchrun started know each other; the function that is given waits until all have come.

    The first process may read and plan for hours while the others wait, hence the patience. Gloo carries what is on the
    CPU, NCCL what is on GPUs, of which each process takes its own.
    """
    if process_rank()[1] == 1 or dist.is_initialized():
        yield dist.barrier if dist.is_initialized() else lambda: None
        return
    if device() == "cuda":
        torch.cuda.set_device(local_rank())
    dist.init_process_group("gloo" if device() == "cpu" else "cpu:gloo,cuda:nccl", timeout=PATIENCE)
    try:
        yield dist.barrier
    finally:
        gc.collect()  # what was wrapped for several processes must be gone before their group is, or the program aborts at its end
        dist.destroy_process_group()


def _complete(folder: Path) -> bool:
    """Whether nothing is left to do in the run at `folder`."""
    return all((folder / name).exists() for name in ("plan.json", "metrics.json", "record.json")) and Run(folder).finished


def _prepare(session: Session, *, skip_bad: bool) -> None:
    """Examine, split, look and plan; done once, kept as files."""
    folder, dataset, listener = session.folder, session.dataset, session.listener
    if (folder / "plan.json").exists():
        _same_data(folder, dataset)
        _same_plan(session)
        session.continued = True
        listener.say(f"Continuing the run in {folder}.")
        return
    for note in dataset.notes:
        listener.say(note)
    since = time.monotonic()
    with listener.stage("examining") as tick:
        findings = examine(dataset, progress=tick, controls=session.wish.controls)
    if session.wish.fix_split:
        dataset, findings = mended(dataset, findings)
        session.dataset = dataset
        for finding in (f for f in findings if f.check == "leak" and f.severity == "repaired"):
            listener.say(finding.message)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "doctor.json", [asdict(finding) for finding in findings])
    for text in told(findings):
        listener.say(text)
    _show_leaks(session, findings)
    findings = _allowed(session, findings)
    _refuse(session, findings, skip_bad=skip_bad)
    parts = _parted(session, dataset, findings)
    session.clocked("examine", since)
    dataset, parts = _without_bad(session, findings, parts)
    parts, words = session.task.parted(dataset, parts)
    if words:
        listener.say(words)
    write_json(folder / "dataset.json", dataset.to_json())
    write_json(folder / "splits.json", asdict(parts))
    since = time.monotonic()
    seen = {name for fold in parts.folds for name in (*fold.train, *fold.val)}
    learned = [case for case in dataset.learnable if case.name in seen]
    with listener.stage("looking at the scans") as tick:
        facts = fingerprint(dataset, learned, progress=tick)
    write_json(folder / "fingerprint.json", facts)
    session.clocked("fingerprint", since)
    since = time.monotonic()
    made = _planned(session, dataset, facts)
    for word, planned, asked in (("folds", made.folds, len(parts.folds)), ("members", made.members, session.wish.members)):
        if planned != asked:
            raise UsageError(f"The plan has {planned} {word}, asked for are {asked}. Say --{word} {planned}.")
    made.save(folder / "plan.json")
    session.clocked("plan", since)
    listener.say(made.promise)


def _show_leaks(session: Session, findings: tuple[Finding, ...]) -> None:
    """Where copies lie on two sides, their pictures beside each other, before the run is refused."""
    pairs = [f for f in findings if f.check == "leak" and f.severity == "error" and f.details.get("pairs")]
    if pairs:
        written = draw(session.dataset, tuple(pairs), session.folder)
        session.listener.say(f"The pairs are drawn in {', '.join(str(path) for path in written if path.stem == 'copies')}.")


def _allowed(session: Session, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings without the leaks that the user lets pass, which are told loudly and stay with the run."""
    leaks = [finding for finding in findings if finding.check == "leak" and finding.severity == "error"]
    if not session.wish.allow_leaks or not leaks:
        return findings
    session.leaks = " ".join(finding.message for finding in leaks)
    session.listener.say(f"THE SPLIT LEAKS, and --allow-leaks lets it: {session.leaks} The scores of this run are too good, and every page "
                         "of it says so.")  # fmt: skip
    return tuple(finding for finding in findings if finding not in leaks)


def _planned(session: Session, dataset: Dataset, facts: dict[str, Any]) -> Plan:
    """The plan that was given, or one made here."""
    if session.plan_file is None:
        with session.listener.stage("planning: measuring this machine"):
            return make_plan(dataset, facts=facts, **session.wish.model_dump(exclude={"fix_split", "allow_leaks", "controls"}))
    repeat = ["train.deterministic=true", "train.seconds=null"] if session.wish.deterministic else []
    return Plan.load(session.plan_file).with_settings([*repeat, *session.wish.settings])


def _same_data(folder: Path, dataset: Dataset) -> None:
    known = {case["name"] for case in read_json(folder / "dataset.json")["cases"]}
    new = {case.name for case in dataset.cases} - known
    if new:
        raise UsageError(f"{folder} was trained on other data ({len(new)} cases are new, for instance {min(new)}). "
                         "Choose another folder, or start again with --overwrite.")  # fmt: skip


def _same_plan(session: Session) -> None:
    """A run keeps the plan that it was begun with; wishes that it does not hold are refused."""
    kept = Plan.load(session.folder / "plan.json")
    unlike = [text for text in session.wish.settings if not kept.holds(text)]
    unlike += [f"--members {session.wish.members}"] if session.wish.members not in (1, kept.members) else []
    if unlike:
        raise UsageError(f"{session.folder} was planned otherwise than {', '.join(unlike)}. Leave that out, edit "
                         f"{session.folder / 'plan.json'}, or start again with --overwrite.")  # fmt: skip


def _refuse(session: Session, findings: Sequence[Finding], *, skip_bad: bool) -> None:
    """Errors stop the run; with `skip_bad` those that name cases do not, unless it is a leak."""
    errors = [f for f in findings if f.severity == "error"]
    hard = [f for f in errors if not f.cases or f.check in HARD]
    if errors and (not skip_bad or hard):
        first = (hard or errors)[0]
        more = f" (and {len(errors) - 1} more: vesalius inspect {session.dataset.root})" if len(errors) > 1 else ""
        raise DataError(f"{first.message} {first.remedy}{more}")


def _without_bad(session: Session, findings: Sequence[Finding], parts: Split) -> tuple[Dataset, Split]:
    """What is left without the cases that errors name."""
    bad = {name for f in findings if f.severity == "error" for name in f.cases}
    if not bad:
        return session.dataset, parts
    session.listener.say(f"Left out, because they cannot be used: {', '.join(sorted(bad))}")
    kept = session.dataset.with_cases(tuple(case for case in session.dataset.cases if case.name not in bad))
    return kept, _parted(session, kept, findings)


def _parted(session: Session, dataset: Dataset, findings: Sequence[Finding]) -> Split:
    """The split; copies that the doctor found stay on one side."""
    names = {case.name for case in dataset.cases}
    copies = [pair[:2] for f in findings if f.check == "copies" and f.details.get("exact") for pair in f.details["pairs"]]
    together = [tuple(pair) for pair in copies if set(pair) <= names]
    return split(dataset, folds=session.wish.folds or 1, seed=session.wish.seed, together=together, leaks=session.leaks)


def _cached(session: Session, run: Run) -> dict[str, Stored]:
    """Every case that is learned from or validated on, prepared and mapped."""
    since = time.monotonic()
    splits = run.splits
    names = {name for fold in splits["folds"] for part in ("train", "val") for name in fold[part]}
    cases = [case for case in run.dataset.cases if case.name in names]
    cache = Cache(home() / "prepared", run.plan.preparation, run.plan.labels, size=run.plan.patch.size)
    with session.listener.stage("preparing") as tick:
        stored = cache.store(cases, progress=tick)
    session.clocked("prepare", since)
    return {item.name: item for item in stored}


def _baselines(session: Session, run: Run, stored: dict[str, Stored]) -> list[Shallow]:
    """One for each fold, fitted to the cases that its network learns from, so that it never saw those that it is asked about; none where
    the task has no baseline."""
    since, made = time.monotonic(), list[Shallow]()
    if session.task.baseline(run.plan.labels) is None:
        return made
    with session.listener.stage("fitting the shallow baseline"):
        patients = {case.name: case.patient for case in run.dataset.cases}
        for fold in run.splits["folds"]:
            made.append(cast(Shallow, session.task.baseline(run.plan.labels)))
            names = sorted(fold["train"])
            pairs = ((stored[name].image.astype("float32"), stored[name].target) for name in names)
            made[-1].fit(pairs, patients=[patients[name] for name in names])
    session.clocked("baseline", since)
    return made


def _learn(session: Session, run: Run, stored: dict[str, Stored]) -> bool:
    """Each fold in turn, and in it each member; True if all ran to their end."""
    folds = run.splits["folds"]
    turns = [(k, number, voice) for k, member in enumerate(run.members) for number, voice in enumerate(run.voices(member))]
    for done, (k, number, voice) in enumerate(turns):
        fold, seed = folds[k], number // run.plan.net.networks
        if _final(voice):
            continue
        what = "learning" if len(folds) == 1 else f"learning, fold {k + 1} of {len(folds)}"
        what += f", member {seed + 1} of {run.plan.members}" if run.plan.members > 1 else ""
        sides, corrects = Sides([stored[name] for name in fold["train"]], [stored[name] for name in fold["val"]]), run.corrects(voice)
        if corrects:
            sides, what = _primed(session, run, voice, sides=sides), f"{what} to correct the baseline"
        since = time.monotonic()
        plan = _with_deadline(session, run, left=len(turns) - done).of_member(seed)
        with session.listener.stage(what) as tick:
            ended = learn(session.task, plan if corrects else plan.alone(), voice, sides=sides, listener=session.listener, tick=tick)
        session.clocked("learn", since)
        if not ended:
            return False
        if corrects and process_rank()[0] == 0:
            forget_odds(voice)
    return True


def _primed(session: Session, run: Run, voice: Path, *, sides: Sides) -> Sides:
    """`sides` with the log odds of the baseline that the network corrects; fitted by the first process while the others wait."""
    since, (rank, world) = time.monotonic(), process_rank()
    if rank == 0:
        patients = {case.name: case.patient for case in run.dataset.cases}
        with session.listener.stage("fitting the baseline that the network corrects") as tick:
            fit_priors(run, voice, sides.learned, patients=patients, tick=tick)
    if world > 1:
        dist.barrier()
    made = Sides(*primed(run, voice, sides.learned, checked=sides.checked))
    session.clocked("prior", since)
    return made


def _final(member: Path) -> bool:
    """Whether this member has run to its end."""
    file = member / "weights.safetensors"
    return file.exists() and bool(load_weights(file)[1].get("final"))


def _with_deadline(session: Session, run: Run, *, left: int) -> Plan:
    """The plan with the seconds that this fold really has: the budget less what is gone and what testing will take."""
    plan = run.plan
    if plan.train.seconds is None or plan.expected.budget_seconds is None:
        return plan
    if session.continued:  # the plan's own share, of which a part may be spent
        return plan
    testing = TESTING[run.task.grain](run, session.baselines[0] if session.baselines else None, busy=session.busy)
    gone = time.monotonic() - session.started
    seconds = max(LEAST_SECONDS, (plan.expected.budget_seconds - gone - testing) / left)
    if seconds == LEAST_SECONDS:
        session.listener.say(f"Of {plan.expected.budget_seconds:.0f} s {gone:.0f} s are gone and testing will take {testing:.0f} s: "
                             f"{LEAST_SECONDS:.0f} s are left to learn in. Give it more: --budget")  # fmt: skip
    seconds = min(seconds, plan.train.most_seconds or seconds)
    return plan.model_copy(update={"train": plan.train.model_copy(update={"seconds": seconds})})


def _finish(session: Session, run: Run, *, stored: dict[str, Stored], ended: bool) -> None:
    """Test, record and report."""
    since = time.monotonic()
    if not ended:
        session.listener.say("Stopped before the end: the model so far is kept, tested and usable. The same command continues it.")
    SETTLERS[run.task.grain](run, stored, session.listener)
    if any(run.splits["test"]) or any(fold["val"] for fold in run.splits["folds"]):
        evaluate(run, baseline=session.baselines or None, by=session.by, listener=session.listener)
    session.clocked("test", since)
    seconds = {**session.spent, "whole": round(time.monotonic() - session.started, 2)}
    made = record(data=str(session.dataset.root), ended=ended, seconds=seconds, processes=process_rank()[1])
    write_json(run.path / "record.json", made)


def _clear(folder: Path) -> None:
    """Remove what a run wrote, and nothing else."""
    import shutil

    for name in ("plan.json", "record.json", "dataset.json", "splits.json", "doctor.json", "fingerprint.json", "log.csv",
                 "weights.safetensors", PRIOR, "metrics.json", "calibration.json", "answering.json", "report.html"):  # fmt: skip
        (folder / name).unlink(missing_ok=True)
    places = ("checkpoint", CORRECTED, SHOWN, "predictions", "events")
    for path in [*(folder / place for place in places), *folder.glob("fold_*"), *folder.glob("seed_*")]:
        if path.is_dir():
            shutil.rmtree(path)
