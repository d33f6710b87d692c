"""Planning: from what the data look like and what the machine can do to a plan in which every value has its reason."""

import sys
from dataclasses import replace
from types import ModuleType
from typing import Any, cast

from pydantic import Field, field_validator

from vesalius.augment import Augment
from vesalius.core.errors import DataError, UsageError, suggest
from vesalius.core.settings import Settings
from vesalius.core.values import parse_value
from vesalius.data.dataset import Dataset
from vesalius.data.fingerprint import fingerprint
from vesalius.data.normalise import choose
from vesalius.data.prepare import Preparation
from vesalius.nets import NETS
from vesalius.plan import begin, classifiers, images, rules, whole
from vesalius.plan.begin import named
from vesalius.plan.budget import device, measure, precision, seconds, size_in_bytes
from vesalius.plan.classifiers import Own
from vesalius.plan.folding import decided
from vesalius.plan.methods import METHODS
from vesalius.plan.plan import OWN, Expected, Patch, Plan, Predict, Train, check_name
from vesalius.plan.search import BASE_MEMORY, Limits, Scan, Shape, build, search
from vesalius.tasks import TASKS, ImageTask, Task

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
    "train.arguments": "none: targets are learned from",
    "train.rules": "the task's own",
    "train.most_seconds": "as long as the budget allows",
    "train.compile": "off: it takes its time first, and nothing says yet that it pays",
    "preparation.fit": "every scan keeps its size; the network sees parts of it",
    "preparation.lead": "axes stay in their order",
    "net.name": "a plain U-Net with a good recipe is the strongest known baseline (nnU-Net Revisited, 2024)",
    "net.ndim": "as the scans",
    "net.bias": "every class alike",
    "net.prior": "one network, which is shown the images alone",
    "net.first": "the only network",
    "net.kernels": "1 across a thick axis until the others are as coarse",
    "augment.outside": "what lies outside a scan looks like its mean",
    "augment.further": "nothing beyond the standard list",
    "augment.translation": "patches lie anywhere already",
    "augment.translation_probability": "patches lie anywhere already",
    "augment.mixup": "voxels have labels of their own: scans are not mixed",
    "augment.cutmix": "voxels have labels of their own: scans are not mixed",
    "augment.mixing_probability": "nothing is mixed",
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
    "train.best": "the last weights count, unless those of an earlier look were clearly better on validation cases",
    "predict.overlap": "tiles half over each other, weighted to the middle; less where validation cases bear it",
    "predict.batch": "as in training",
    "predict.sensitivities": "of whole cases alone",
    "predict.specificities": "of whole cases alone",
    "predict.skip_air": "tiles without any signal are background",
    "expected.device": "where torch can compute here",
    "expected.tile_seconds": "measured here",
    "expected.steps": "a promise, measured before the first step",
    "expected.epochs": "steps times batch over training cases",
    "expected.memory_bytes": "bytes that a step keeps, measured, and the program's own",
    "expected.parameters": "counted",
}


class Request(Settings):
    """What the user asks of a plan: a time and a memory contract, single values set by hand, the number of folds (planned where None), how
    many networks answer together, each from a seed of its own (`members`), whether a given split that tears copies apart is mended (or
    learned from and tested on as it is, leaks and all), and whether the doctor looks for shortcuts of classes."""

    budget: str | float | None = "20m"
    memory: str | None = None
    settings: tuple[str, ...] = ()
    folds: int | None = Field(default=None, ge=1)
    why_folds: str = "as asked for"
    members: int = Field(default=1, ge=1)
    deterministic: bool = False
    seed: int = Field(default=0, ge=0)
    fix_split: bool = False
    allow_leaks: bool = False
    controls: bool = True

    @field_validator("budget")
    @classmethod
    def _none(cls, value: str | float | None) -> str | float | None:
        if value is None or value == "none":
            return None
        seconds(value)
        return value

    @field_validator("memory")
    @classmethod
    def _a_size(cls, value: str | None) -> str | None:
        if value is not None:
            size_in_bytes(value)
        return value

    @field_validator("settings")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Names that no plan has are told before any scan is looked at."""
        for text in value:
            check_name(text)
            if named(text) == "net.name" and (name := str(parse_value(text.partition("=")[2].strip()))) not in (*NETS, OWN):
                raise UsageError(suggest(name, NETS, "network"))
        return value


def plan(data: Dataset | str, *, facts: dict[str, Any] | None = None, **wishes: Any) -> Plan:
    """The plan for `data` (a Dataset or the path of one). Wishes: `budget="20m"`, `memory="8G"`,
    `settings=["train.learning_rate=0.001"]`, `folds`, `members`, `deterministic`, `seed` (see Request).
    `facts` is the fingerprint of the training cases; without it every case that is not for testing is looked at."""
    dataset = data if isinstance(data, Dataset) else Dataset.open(data)
    wish = Request.checked({**wishes, "settings": tuple(wishes.get("settings", ()))}, where="the request")
    if facts is None:
        facts = fingerprint(dataset, [case for case in dataset.learnable if case.split != "test"])
    if not facts["cases"]:
        raise DataError(f"{dataset.root} has no {'image' if dataset.alone else 'labelled case'} to learn from.")
    task: Task = TASKS[dataset.task]()
    wish, mine = decided(wish, dataset), wish.settings
    wish = wish.model_copy(update={"settings": begin.with_network(mine, task, ndim=len(facts["shapes"][0]))})
    made = begin.tuned(PLANNERS[task.grain](dataset, (task, wish, facts)), wish.settings).because(folds=wish.why_folds)
    made = made.model_copy(update={"members": wish.members}).because(members="as asked for; they share the time")
    left = [text for text in wish.settings if named(text) not in HEARD[task.grain]]
    if not left:
        return made
    return FINISHED[task.grain](made, (task, wish, facts), left).because(**begin.reasons(wish.settings, mine))


def finished(made: Plan, asked: tuple[Task, "Request", dict[str, Any]], left: list[str]) -> Plan:
    """`made` with the settings that are `left`, and what it promises then."""
    task, wish, facts = asked
    ends = (made.preparation.in_channels, task.out_channels(made.labels))
    changed = made.with_settings(left)
    learned_by(changed)
    counts = [one.get("cases", 0) for one in facts["classes"].values()]
    task.loss(made.labels, changed.train.loss, counts=counts)  # a loss that cannot be made is told before any work
    of_cases = (changed.augment.mixup, changed.augment.cutmix, changed.predict.sensitivities, changed.predict.specificities)
    if task.grain == "voxel" and any(of_cases):
        raise UsageError("augment.mixup and augment.cutmix mix whole cases, and predict.sensitivities and predict.specificities are of "
                         "whole cases, with one answer each; here every voxel has one. Leave them out.")  # fmt: skip
    return corrected(changed, wish.model_copy(update={"settings": tuple(left)}), ends=ends, cases=facts["cases"])


def learned_by(made: Plan) -> None:
    """An error where the plan's method does not learn targets."""
    able = [name for name, card in METHODS.cards.items() if made.task in card.tasks]
    if made.train.method not in able:
        if made.train.method in METHODS:
            raise UsageError(f"The method {made.train.method} learns from images alone, not from labels. Say for what: --task anomaly, "
                             "--task pretrain or --task generate; or leave --method out.")  # fmt: skip
        raise UsageError(suggest(made.train.method, METHODS, "method"))


def finished_images(made: Plan, asked: tuple[Task, "Request", dict[str, Any]], left: list[str]) -> Plan:
    """The same where images alone are learned from."""
    changed, task = images.settled(made, left), cast(ImageTask, asked[0])
    task.loss(made.labels, changed.train.loss)
    task.ruled(changed.train.rules)
    return changed


def plan_voxels(dataset: Dataset, asked: tuple[Task, "Request", dict[str, Any]]) -> Plan:
    """The plan where every voxel gets an answer: patches, a network with a decoder, tiles."""
    task, wish, facts = asked
    preparation, reasons = prepare_rules(facts)
    prior, reasons["net__prior"] = prior_rule(wish, facts["cases"], dataset)
    limit = learning_seconds(wish, networks=1 + bool(prior))
    shape = rules.median_shape(facts, preparation.spacing, crop=preparation.crop)
    ends = (preparation.in_channels, task.out_channels(dataset.labels))
    limits = Limits(limit, None if wish.memory is None else size_in_bytes(wish.memory))
    scan = Scan(shape, preparation.spacing, facts["cases"], facts.get("detail"), prior)
    chosen = search(scan, limits, ends=ends, net=task.nets[0])
    if chosen.why_spacing:
        preparation = replace(preparation, spacing=chosen.spacing)
        reasons["preparation__spacing"] = chosen.why_spacing
    augment, why = augment_rules(dataset, (chosen.size, preparation.spacing), facts)
    shares = [found["share"] for found in facts["classes"].values()]
    bias, reasons["net__bias"] = rules.start(shares, exclusive=dataset.labels.exclusive)
    chosen = replace(chosen, net=chosen.net.model_copy(update={"bias": bias}))
    first, reasons["net__first"] = networks_rule(wish, chosen.steps(limits), prior)
    if not first and limit is not None:
        limit *= 2
    chosen = replace(chosen, net=chosen.net.model_copy(update={"first": first}))
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


def plan_images(dataset: Dataset, asked: tuple[Task, "Request", dict[str, Any]]) -> Plan:
    """The plan where images alone are learned from: one grid for all, a method that is measured."""
    task, wish, facts = asked
    if wish.members != 1:
        raise UsageError("Learning from images alone is done once: leave --members out.")
    budget = None if wish.budget is None else seconds(wish.budget)
    memory = None if wish.memory is None else size_in_bytes(wish.memory)
    made, reasons = images.planned(dataset, cast(ImageTask, task), facts, limits=Limits(learning_seconds(wish), memory), budget=budget,
                                   asked=wish.model_dump(include={"folds", "seed", "deterministic"}), settings=wish.settings)  # fmt: skip
    return made.because(**{name.replace(".", "__"): why for name, why in CONSTANTS.items()} | reasons)


PLANNERS = {"voxel": plan_voxels, "case": plan_cases, "image": plan_images}
FINISHED = {"voxel": finished, "case": finished, "image": finished_images}
HEARD: dict[str, tuple[str, ...]] = {"voxel": ("net.prior",), "case": classifiers.HEARD, "image": images.HEARD}  # what planners go by


def corrected(made: Plan, wish: Request, *, ends: tuple[int, int], cases: int) -> Plan:
    """The promise after the user's settings: measured again where they changed the network, the patch or the batch."""
    own = {named(text) for text in wish.settings}
    promise = made.expected.model_dump()
    if any(name.startswith(("net.", "patch.")) for name in own):
        shape = (made.patch.batch, ends[0] + made.net.prior, *made.patch.size)
        cost = measure(build(made.net, *ends), shape, where=device(), kind=made.train.precision)
        promise |= {"step_seconds": cost.step, "tile_seconds": cost.tile, "memory_bytes": cost.memory + BASE_MEMORY,
                    "parameters": cost.parameters}  # fmt: skip
    limit = learning_seconds(wish, networks=made.net.networks)
    kept = limit is None or "train.steps" in own
    steps = made.train.steps if kept else max(1, int(limit / promise["step_seconds"]))
    promise |= {"steps": steps, "epochs": steps * made.patch.batch / cases}
    return made.model_copy(update={"train": made.train.model_copy(update={"steps": steps}), "expected": Expected(**promise)})


def learning_seconds(wish: Request, *, networks: int = 1) -> float | None:
    """Seconds for learning, for each of so many `networks` of each member of each fold; None without a budget."""
    return None if wish.budget is None else seconds(wish.budget) * LEARNING / ((wish.folds or 1) * wish.members * networks)


def prior_rule(wish: Request, cases: int, dataset: Dataset) -> tuple[int, str]:
    """How many log odds of the baseline a second network corrects: as the user says, else by the number of `cases`."""
    labels = len(dataset.labels.names)
    said = [parse_value(text.partition("=")[2].strip()) for text in wish.settings if named(text) == "net.prior"]
    if not said:
        return rules.prior(cases, labels)
    if said[-1] not in (0, labels):
        raise UsageError(f"net.prior is 0, or {labels}: one number for each label. Got {said[-1]}.")
    return int(said[-1]), "set by the user"


def networks_rule(wish: Request, steps: float, prior: int) -> tuple[bool, str]:
    """Whether a network that starts from nothing learns beside one that corrects the baseline, by the `steps` that each could take; it does
    where a user has set net.prior."""
    if prior and any(named(text) == "net.prior" for text in wish.settings):
        return True, "set by the user"
    return rules.networks(steps, prior, folds=wish.folds or 1)


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
                  precision="bf16" if kind == "bf16" else "fp32", seed=wish.seed, deterministic=wish.deterministic,
                  best=rules.best(wish.folds or 1)[0])  # fmt: skip
    expected = Expected(
        device=where, budget_seconds=budget, step_seconds=chosen.cost.step, tile_seconds=chosen.cost.tile, steps=steps,
        epochs=steps * chosen.batch / facts["cases"], memory_bytes=chosen.cost.memory + BASE_MEMORY, parameters=chosen.cost.parameters,
    )  # fmt: skip
    predict, why_mirror = predict_rule(preparation, chosen, augment, facts=facts, budget=budget)
    patch = Patch(size=chosen.size, batch=chosen.batch, foreground=task.foreground)
    made = Plan(task=dataset.task, folds=wish.folds or 1, labels=dataset.labels, preparation=preparation, patch=patch, net=chosen.net,
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
        "train__seed": "as asked for", "train__deterministic": "as asked for",
        "expected__budget_seconds": "as asked for", "train__best": rules.best(made.folds)[1],
    }  # fmt: skip
    published = {f"augment__{name}": "the published range and frequency of nnU-Net" for name in type(made.augment).model_fields}
    return published | {name.replace(".", "__"): why for name, why in CONSTANTS.items()} | here


class _Callable(ModuleType):
    """Lets `vesalius.plan(data)` be the verb and `vesalius.plan.rules` the room."""

    def __call__(self, data: Dataset | str, **wishes: Any) -> Plan:
        return plan(data, **wishes)


sys.modules[__name__].__class__ = _Callable
__all__ = ["Plan", "Request", "build", "plan"]
