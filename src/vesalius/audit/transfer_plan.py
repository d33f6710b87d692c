"""What a transfer audit is asked, which jobs that makes, which cases are on which side, and the plan that every rival shares."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import field_validator

from vesalius.audit.subsets import nested
from vesalius.core.errors import DataError, UsageError, VesaliusError, suggest
from vesalius.core.files import read_json, write_json
from vesalius.core.settings import Settings
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.doctor import examine, mended
from vesalius.data.fingerprint import fingerprint
from vesalius.data.split import split
from vesalius.engine.begin import begin
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.methods import METHODS
from vesalius.plan import Plan, build
from vesalius.plan import plan as make_plan
from vesalius.plan.begin import named, with_network
from vesalius.plan.methods import built, takes
from vesalius.tasks import TASKS, Task

SCRATCH = "scratch"
HARD = ("leak", "groups", "classes")  # what makes a test worthless
USUAL = {"case": ("simclr", "vicreg", "rotation"), "voxel": ("models_genesis", "inpainting")}  # methods where none are named


class Asked(Settings):
    """`labels` counts labelled cases, those to validate on included; `methods` learn without labels and may hold "scratch" (which is
    there in any case); `inits` are further weights; `budget` is the time of one run, `unlabelled` that of learning without labels where it
    is another (a time, or a number of steps), `settings` values of the shared plan set by hand."""

    labels: tuple[int, ...] = (10, 20, 50, 100)
    seeds: int = 3
    budget: str | float | None = "30s"
    unlabelled: str = ""
    methods: tuple[str, ...] = ()
    inits: dict[str, str] = {}
    settings: tuple[str, ...] = ()
    fix_split: bool = False
    draws: int = 1000

    @field_validator("labels")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 2:
            raise ValueError("numbers of labels are 2 or more")
        return tuple(sorted(set(value)))

    @field_validator("seeds")
    @classmethod
    def _some(cls, value: int) -> int:
        if value < 1:
            raise ValueError("at least one seed")
        return value

    @field_validator("inits")
    @classmethod
    def _there(cls, value: dict[str, str]) -> dict[str, str]:
        for name, path in value.items():
            if name == SCRATCH or name in METHODS or not name.replace("-", "_").isidentifier():
                raise ValueError(f"{name!r} is no free name for weights (letters, digits, - and _)")
            if not Path(path).exists():
                raise ValueError(f"there is nothing at {path}")
        return value

    def without_labels(self) -> tuple[str, ...]:
        """The methods that learn without labels."""
        return tuple(dict.fromkeys(name for name in self.methods if name != SCRATCH))

    def rivals(self) -> dict[str, str]:
        """What each rival begins from, in words; scratch first."""
        given = {name: f"weights of {path}" for name, path in self.inits.items()}
        own = {name: f"{METHODS.card(name).title}, learned from the training images without labels" for name in self.without_labels()}
        return {SCRATCH: "drawn weights", **given, **own}


@dataclass(frozen=True)
class Job:
    """One rival learning from so many labels under one seed."""

    rival: str
    labels: int
    seed: int

    @property
    def words(self) -> str:
        return f"{self.rival}, {self.labels} labels, seed {self.seed}"


def jobs_of(asked: Asked) -> list[Job]:
    """Seed by seed, so that a whole table is there early."""
    return [Job(rival, number, seed) for seed in range(asked.seeds) for number in asked.labels for rival in asked.rivals()]


def able(method: str) -> str:
    """`method`; an error where no run with labels can begin from its weights."""
    if method not in METHODS:
        raise UsageError(suggest(method, [name for name in METHODS if _bears(name)], "method that learns without labels"))
    if not _bears(method):
        raise UsageError(f"The method {method} has a network of its own, which no run with labels can begin from. Take one of "
                         f"{', '.join(name for name in METHODS if _bears(name))}.")  # fmt: skip
    return method


def _bears(method: str) -> bool:
    """Whether it teaches a network of the shelf without labels."""
    return "pretrain" in METHODS.card(method).tasks and "trunk" in takes(method)


def able_to_teach(methods: Sequence[str], plan: Plan) -> None:
    """An error where one of `methods` cannot teach the network of `plan`: one that gives images back needs a network that makes them."""
    for name in methods:
        try:
            built(name, (plan.preparation.in_channels, *plan.patch.size), {"trunk": trunk(plan)})
        except VesaliusError as problem:
            raise UsageError(f"{name} cannot teach the network of this audit, {plan.net.name}: {problem} Here a network "
                             "is chosen with --set net.name=NAME; or leave the method out of --methods.") from problem  # fmt: skip


def prepared(data: Dataset, asked: Asked, *, folder: Path, listener: Listener) -> tuple[Dataset, tuple[Case, ...], tuple[Case, ...]]:
    """The data set, the cases that labels are given to, and those to test on: the split of the data set, or one made by patient. What was
    examined once is kept."""
    if data.grain == "image":
        raise UsageError(f"{data.root} has no labels, and an audit of few labels needs some to test by. Name a folder of classes or masks.")
    for name in asked.without_labels():
        able(name)
    files = folder / "dataset.json", folder / "splits.json"
    if not all(file.exists() for file in files):
        data = _examined(data, asked, listener)
        made = split(data, seed=0)
        write_json(files[0], data.to_json())
        write_json(files[1], {"pool": sorted({*made.folds[0].train, *made.folds[0].val}), "test": list(made.test), "reason": made.reason})
    data, kept = Dataset.from_json(read_json(files[0])), read_json(files[1])
    pool, test = (tuple(data.case(name) for name in kept[side]) for side in ("pool", "test"))
    test = tuple(case for case in test if case.labelled)
    if not test:
        raise DataError(f"{data.root} has no labelled test case. Rivals are told apart on test patients: mark some, "
                        "or leave the splits out.")  # fmt: skip
    for name, path in asked.inits.items():
        _unseen(name, Path(path), test)
    nested([case for case in pool if case.labelled], seed=0).first(max(asked.labels))
    return data, pool, test


def _examined(data: Dataset, asked: Asked, listener: Listener) -> Dataset:
    """The data set without leaks: mended where that is asked for, refused otherwise."""
    with listener.stage("examining") as tick:
        findings = examine(data, progress=tick)
    if asked.fix_split:
        data, findings = mended(data, findings)
    leak = next((f for f in findings if f.severity == "error" and f.check in HARD), None)
    if leak is not None:
        raise DataError(f"{leak.message} {leak.remedy}")
    return data


def _unseen(name: str, path: Path, test: Sequence[Case]) -> None:
    """Refuse weights of a run that has learned from an image of the test part."""
    folder = path if path.is_dir() else path.parent
    if not ((folder / "dataset.json").exists() and (folder / "plan.json").exists()):
        return
    run = Run.open(folder)
    learned = {case for fold in run.splits["folds"] for part in ("train", "val") for case in fold[part]}
    theirs = {str(p) for case in run.dataset.cases if case.name in learned for p in case.images.values()}
    seen = [case.name for case in test if any(str(p) in theirs for p in case.images.values())]
    if seen:
        raise DataError(f"The weights {name} ({path}) were learned from {len(seen)} of the test cases, for instance {seen[0]}. "
                        "Train them on other patients.")  # fmt: skip


def steps_alike(dataset: Dataset, pool: Sequence[Case], asked: Asked, *, folder: Path, listener: Listener) -> Plan:
    """The plan of all rivals: made once for the largest subset, its budget turned into a number of steps, the same for everybody."""
    file = folder / "plan.json"
    if file.exists():
        made = Plan.load(file)
        fitting(made, asked)
        return made
    sides = nested([case for case in pool if case.labelled], seed=0).first(max(asked.labels))
    some = sides_of(dataset, *sides)
    facts = fingerprint(some, list(some.cases))
    task: Task = TASKS[dataset.task]()
    with listener.stage("planning: measuring this machine"):
        made = make_plan(some, facts=facts, budget=asked.budget, settings=_with_networks(asked, task, ndim=len(facts["shapes"][0])))
    train = made.train.model_copy(update={"seconds": None, "deterministic": True, "validations": 2})
    made = made.model_copy(update={"train": train}).because(train__seconds="every rival has the same number of steps")
    fitting(made, asked)
    made.save(file)
    return made


def fitting(plan: Plan, asked: Asked) -> None:
    """An error before the first run where the shared network cannot begin from weights that are named."""
    for name, path in asked.inits.items():
        net = build(plan.net, plan.preparation.in_channels, plan.labels.out_channels, seed=plan.train.seed)
        try:
            begin(net, Path(path))
        except VesaliusError as problem:
            told = any(named(text) == "net.name" for text in asked.settings)
            name_it = "" if told else " Name the network that they are of, for instance --set net.name=resnet."
            raise UsageError(f"The audit's network, {plan.net.name}, cannot begin from the weights {name}: {problem}{name_it}") from None


def _with_networks(asked: Asked, task: Task, *, ndim: int) -> tuple[str, ...]:
    """The user's settings; the network of the first run among the weights, unless one is named."""
    for path in asked.inits.values():
        found = with_network((*asked.settings, f"train.init={path}"), task, ndim=ndim)
        if len(found) > len(asked.settings) + 1:
            return tuple(text for text in found if named(text) != "train.init")
    return asked.settings


def trunk(plan: Plan) -> dict[str, Any]:
    """The network of `plan` as methods without labels take it."""
    from inspect import signature

    from vesalius.nets import NETS

    known = signature(NETS[plan.net.name]).parameters
    planned = {"channels": plan.net.channels, "kernels": plan.net.kernels, "strides": plan.net.strides}
    return {"name": plan.net.name, **{name: value for name, value in planned.items() if value and name in known}, **plan.net.arguments}


def sides_of(dataset: Dataset, train: Sequence[Case], val: Sequence[Case], *, test: Sequence[Case] = ()) -> Dataset:
    """The data set with these cases alone, each with its side."""
    parts: Iterator[tuple[str, Sequence[Case]]] = iter((("train", train), ("val", val), ("test", test)))
    return dataset.with_cases(tuple(replace(case, split=side) for side, cases in parts for case in cases))
