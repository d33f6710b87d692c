"""Planning: from what the data look like and what the machine can do to a plan in which every value has its reason."""

import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

from pydantic import field_validator

from vesalius.augment import Augment
from vesalius.core.errors import DataError
from vesalius.core.settings import Settings
from vesalius.data.dataset import Dataset
from vesalius.data.fingerprint import fingerprint
from vesalius.data.normalise import choose
from vesalius.data.prepare import Preparation
from vesalius.plan import begin, classifiers, rules, whole
from vesalius.plan.begin import named
from vesalius.plan.budget import device, measure, precision, seconds, size_in_bytes
from vesalius.plan.classifiers import Own
from vesalius.plan.plan import Expected, Patch, Plan, Predict, Train
from vesalius.plan.search import BASE_MEMORY, Limits, Scan, Shape, build, search
from vesalius.tasks import TASKS, Task

LEARNING = 0.85  # of the budget: the rest is for reading, testing and the report
CONSTANTS = {
    "version": "of this file",
    "task": "what the data set is labelled for",
    "labels.names": "as found in the data set",
    "labels.values": "as found in the data set",
    "labels.ignore": "as the data set says",
    "labels.colours": "as the data set says",
    "labels.background": "as the data set says",
    "patch.foreground": "half of the samples are centred on a class, so that rare ones are seen",
    "patch.balance": "voxels of every class are sampled already",
    "net.arguments": "none beyond these",
    "train.loss": "the task's own",
    "train.most_seconds": "as long as the budget allows",
    "preparation.fit": "every scan keeps its size; the network sees parts of it",
    "preparation.lead": "axes stay in their order",
    "net.name": "a plain U-Net with a good recipe is the strongest known baseline (nnU-Net Revisited, 2024)",
    "net.ndim": "as the scans",
    "net.bias": "every class alike",
    "net.kernels": "1 across a thick axis until the others are as coarse",
    "augment.outside": "what lies outside a scan looks like its mean",
    "augment.further": "nothing beyond the standard list",
    "augment.translation": "patches lie anywhere already",
    "augment.translation_probability": "patches lie anywhere already",
    "augment.elastic": "none: rotation and scale do as well (nnU-Net 2) and cost less",
    "augment.elastic_probability": "none: rotation and scale do as well (nnU-Net 2) and cost less",
    "augment.bias_field": "none by default",
    "augment.bias_field_probability": "none by default",
    "train.method": "masks are there: learn from them",
    "train.learning_rate": "one-cycle peak for AdamW, chosen on validation data",
    "train.weight_decay": "as nnU-Net; norms and biases are not decayed",
    "train.warm_up": "the first tenth, so that early steps do no harm",
    "train.ema": "the kept weights are an average over the last part of the run",
    "train.clip": "as nnU-Net",
    "train.init": "no weights were given to begin from: all are drawn",
    "train.layer_decay": "drawn weights learn at one rate",
    "train.freeze": "drawn weights learn, all of them",
    "train.validations": "ten looks at validation cases draw the curve",
    "predict.overlap": "tiles half over each other, weighted to the middle",
    "predict.batch": "as in training",
    "predict.skip_air": "tiles without any signal are background",
    "expected.device": "where torch can compute here",
    "expected.tile_seconds": "measured here",
    "expected.steps": "a promise, measured before the first step",
    "expected.epochs": "steps times batch over training cases",
    "expected.memory_bytes": "bytes that a step keeps, measured, and the program's own",
    "expected.parameters": "counted",
}


class Request(Settings):
    """What the user asks of a plan: a time and a memory contract, single values set by hand, and whether a given split that tears
    copies apart is mended."""

    budget: str | float | None = "20m"
    memory: str | None = None
    settings: tuple[str, ...] = ()
    folds: int = 1
    deterministic: bool = False
    seed: int = 0
    fix_split: bool = False

    @field_validator("budget")
    @classmethod
    def _none(cls, value: str | float | None) -> str | float | None:
        return None if value == "none" else value


def plan(data: Dataset | str, *, facts: dict[str, Any] | None = None, **wishes: Any) -> Plan:
    """The plan for `data` (a Dataset or the path of one). Wishes: `budget="20m"`, `memory="8G"`,
    `settings=["train.learning_rate=0.001"]`, `folds`, `deterministic`, `seed` (see Request).
    `facts` is the fingerprint of the training cases; without it every case that is not for testing is looked at."""
    dataset = data if isinstance(data, Dataset) else Dataset.open(data)
    wish = Request.checked({**wishes, "settings": tuple(wishes.get("settings", ()))}, where="the request")
    if facts is None:
        facts = fingerprint(dataset, [case for case in dataset.cases if case.split != "test" and case.labelled])
    if not facts["cases"]:
        raise DataError(f"{dataset.root} has no labelled case to learn from.")
    task: Task = TASKS[dataset.task]()
    mine = wish.settings
    wish = wish.model_copy(update={"settings": begin.with_network(mine, task, ndim=len(facts["shapes"][0]))})
    made = begin.tuned(PLANNERS[task.grain](dataset, (task, wish, facts)), wish.settings)
    left = [text for text in wish.settings if named(text) not in HEARD[task.grain]]
    if not left:
        return made
    ends = (made.preparation.in_channels, task.out_channels(dataset.labels))
    changed = made.with_settings(left)
    counts = [one.get("cases", 0) for one in facts["classes"].values()]
    task.loss(dataset.labels, changed.train.loss, counts=counts)  # a loss that cannot be made is told before any work
    made = corrected(changed, wish.model_copy(update={"settings": tuple(left)}), ends=ends, cases=facts["cases"])
    return made.because(**begin.reasons(wish.settings, mine))


def plan_voxels(dataset: Dataset, asked: tuple[Task, "Request", dict[str, Any]]) -> Plan:
    """The plan where every voxel gets an answer: patches, a network with a decoder, tiles."""
    task, wish, facts = asked
    preparation, reasons = prepare_rules(facts)
    shape = rules.median_shape(facts, preparation.spacing, crop=preparation.crop)
    limit = learning_seconds(wish)
    ends = (preparation.in_channels, task.out_channels(dataset.labels))
    limits = Limits(limit, None if wish.memory is None else size_in_bytes(wish.memory))
    scan = Scan(shape, preparation.spacing, facts["cases"], facts.get("detail"))
    chosen = search(scan, limits, ends=ends, net=task.nets[0])
    if chosen.why_spacing:
        preparation = preparation.model_copy(update={"spacing": chosen.spacing})
        reasons["preparation__spacing"] = chosen.why_spacing
    augment, why = augment_rules(dataset, (chosen.size, preparation.spacing), facts)
    shares = [found["share"] for found in facts["classes"].values()]
    bias, reasons["net__bias"] = rules.start(shares, exclusive=dataset.labels.exclusive)
    chosen = replace(chosen, net=chosen.net.model_copy(update={"bias": bias}))
    made = assemble(dataset, asked, (preparation, chosen, augment), limit=limit)
    return made.because(**{**reasons, **why})


def plan_cases(dataset: Dataset, asked: tuple[Task, "Request", dict[str, Any]]) -> Plan:
    """The plan where cases as a whole get an answer: one grid for all, a network that ends in classes."""
    task, wish, facts = asked
    budget = None if wish.budget is None else seconds(wish.budget)
    memory = None if wish.memory is None else size_in_bytes(wish.memory)
    made, reasons = whole.planned(dataset, task, facts, limits=Limits(learning_seconds(wish), memory), budget=budget,
                                  asked=wish.model_dump(include={"folds", "seed", "deterministic"}), own=Own.of(wish.settings))  # fmt: skip
    return made.because(**{name.replace(".", "__"): why for name, why in CONSTANTS.items()} | reasons)


PLANNERS = {"voxel": plan_voxels, "case": plan_cases}
HEARD: dict[str, tuple[str, ...]] = {"voxel": (), "case": classifiers.HEARD}  # settings that the planner goes by itself


def corrected(made: Plan, wish: Request, *, ends: tuple[int, int], cases: int) -> Plan:
    """The promise after the user's settings: measured again where they changed the network, the patch or the batch."""
    own = {named(text) for text in wish.settings}
    promise = made.expected.model_dump()
    if any(name.startswith(("net.", "patch.")) for name in own):
        cost = measure(build(made.net, *ends), (made.patch.batch, ends[0], *made.patch.size), where=device(), kind=made.train.precision)
        promise |= {"step_seconds": cost.step, "tile_seconds": cost.tile, "memory_bytes": cost.memory + BASE_MEMORY,
                    "parameters": cost.parameters}  # fmt: skip
    limit = learning_seconds(wish)
    kept = limit is None or "train.steps" in own
    steps = made.train.steps if kept else max(1, int(limit / promise["step_seconds"]))
    promise |= {"steps": steps, "epochs": steps * made.patch.batch / cases}
    return made.model_copy(update={"train": made.train.model_copy(update={"steps": steps}), "expected": Expected(**promise)})


def learning_seconds(wish: Request) -> float | None:
    """Seconds for learning, per fold; None without a budget."""
    return None if wish.budget is None else seconds(wish.budget) * LEARNING / wish.folds


def prepare_rules(facts: dict[str, Any]) -> tuple[Preparation, dict[str, str]]:
    """Spacing, crop and normalisation with their reasons."""
    spacing, why_spacing = rules.spacing(facts)
    pairs = [choose(name, stats, facts["cropped"]) for name, stats in facts["intensities"].items()]
    crop = facts["cropped"] < 0.9
    made = Preparation(channels=facts["channels"], normalise=tuple(rule for rule, _ in pairs), spacing=spacing, crop=crop)
    return made, {
        "preparation__spacing": why_spacing,
        "preparation__normalise": "; ".join(why for _, why in pairs),
        "preparation__channels": "files per case and components per file, as found",
        "preparation__crop": f"{1 - facts['cropped']:.0%} of the volume is zero background" + (": it is cut away" if crop else ""),
        "preparation__order": "images by cubic, masks by nearest-neighbour interpolation",
    }


def augment_rules(dataset: Dataset, grid: tuple[tuple[int, ...], tuple[float, ...]],
                  facts: dict[str, Any]) -> tuple[Augment, dict[str, str]]:
    """What is varied, with its reasons."""
    size, spacing = grid
    flips, why_flips = rules.mirror(dataset.labels.names, len(size), poses=facts.get("poses"))
    turn, why_turn = rules.rotation(size, spacing, flips)
    lacking = max(facts["missing"].values(), default=0)
    drop = 0.2 if lacking and len(facts["missing"]) > 1 else 0.0
    made = Augment(mirror=flips, rotation=turn, channel_dropout_probability=drop)
    why_drop = f"{lacking} training cases lack a channel: dropping teaches the network to bear it" if drop else "no channel is missing"
    return made, {"augment__mirror": why_flips, "augment__rotation": why_turn, "augment__channel_dropout_probability": why_drop}


def assemble(dataset: Dataset, asked: tuple[Task, Request, dict[str, Any]], parts: tuple[Preparation, Shape, Augment], *,
             limit: float | None) -> Plan:
    """The plan out of its parts, with what it promises."""
    task, wish, facts = asked
    preparation, chosen, augment = parts
    where = device()
    kind, why_kind = precision(where)
    budget = None if wish.budget is None else seconds(wish.budget)
    steps = 50_000 if limit is None else max(1, int(limit / chosen.cost.step))
    train = Train(seconds=None if wish.deterministic else limit, steps=steps, learning_rate=2e-3, weight_decay=3e-5,
                  precision="bf16" if kind == "bf16" else "fp32", seed=wish.seed, deterministic=wish.deterministic)  # fmt: skip
    expected = Expected(
        device=where, budget_seconds=budget, step_seconds=chosen.cost.step, tile_seconds=chosen.cost.tile, steps=steps,
        epochs=steps * chosen.batch / facts["cases"], memory_bytes=chosen.cost.memory + BASE_MEMORY, parameters=chosen.cost.parameters,
    )  # fmt: skip
    predict, why_mirror = predict_rule(preparation, chosen, augment, facts=facts, budget=budget)
    patch = Patch(size=chosen.size, batch=chosen.batch, foreground=task.foreground)
    made = Plan(task=dataset.task, folds=wish.folds, labels=dataset.labels, preparation=preparation, patch=patch, net=chosen.net,
                augment=augment, train=train, predict=predict, expected=expected)  # fmt: skip
    return made.because(**_reasons(made, chosen, why_kind), predict__mirror=why_mirror)


def predict_rule(preparation: Preparation, chosen: Shape, augment: Augment, *, facts: dict[str, Any],
                 budget: float | None) -> tuple[Predict, str]:
    """How answers are made: tiles as in training, and the mean over mirrored scans where that is cheap."""
    made = Predict(batch=chosen.batch)
    shape = rules.median_shape(facts, preparation.spacing, crop=preparation.crop)
    seconds_per_scan = rules.tiles(shape, chosen.size, made.overlap) * chosen.cost.tile
    mirror, why = rules.mirrored(seconds_per_scan, 2 ** sum(augment.mirror), budget)
    return made.model_copy(update={"mirror": mirror}), why


def _reasons(made: Plan, chosen: Shape, why_precision: str) -> dict[str, str]:
    """Every value has a reason: those that were measured here, those that the data gave, and published constants."""
    fast = f"{chosen.cost.step:.2f} s a step measured on this {made.expected.device}"
    stages = chosen.why_net
    overlap = "classes exclude each other" if made.labels.exclusive else "labels overlap: one yes or no per class"
    ends = "the budget less the time for reading, testing and the report" if made.train.seconds else "no deadline: a fixed number of steps"
    here = {
        "labels__kind": overlap, "patch__size": f"{chosen.why_size}; {fast}", "patch__batch": chosen.why_batch,
        "net__channels": stages, "net__strides": stages,
        "train__precision": why_precision, "train__seconds": ends, "train__steps": fast, "expected__step_seconds": fast,
        "folds": "as asked for", "train__seed": "as asked for", "train__deterministic": "as asked for",
        "expected__budget_seconds": "as asked for",
    }  # fmt: skip
    published = {f"augment__{name}": "the published range and frequency of nnU-Net" for name in type(made.augment).model_fields}
    return published | {name.replace(".", "__"): why for name, why in CONSTANTS.items()} | here


class _Callable(ModuleType):
    """Lets `vesalius.plan(data)` be the verb and `vesalius.plan.rules` the room."""

    def __call__(self, data: Dataset | str, **wishes: Any) -> Plan:
        return plan(data, **wishes)


sys.modules[__name__].__class__ = _Callable
__all__ = ["Plan", "Request", "build", "plan"]
