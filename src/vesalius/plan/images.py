"""Planning where images alone are learned from: one grid for all of them, intensities from 0 to 1, a method whose steps are measured.

The grid is the finest whose epochs fit the time; small images keep theirs. Rates are those at which each method was published or checked.
"""

import inspect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from vesalius.augment import Augment
from vesalius.core.errors import DataError, UsageError, VesaliusError, suggest
from vesalius.core.values import parse_value
from vesalius.data.batch import Batch, Kind
from vesalius.data.dataset import Dataset
from vesalius.data.normalise import unit
from vesalius.data.prepare import Preparation
from vesalius.plan import begin, trunks, whole
from vesalius.plan.budget import AT_WORK, SLOW, Measured, device, precision
from vesalius.plan.methods import METHODS, built, rates, takes
from vesalius.plan.plan import Expected, Patch, Plan, Predict, Train
from vesalius.plan.search import BASE_MEMORY, Limits
from vesalius.tasks import ImageTask

Kinds = Literal["bf16", "fp32"]
NO_FASTER = ("vit",)  # trunks whose steps take as long in bf16 on a processor (benchmarks/halves.py)
HEARD = ("train.method", "train.arguments", "net.name", "net.arguments", "patch.size", "patch.batch")  # what planning goes by itself
LONGEST = {2: (128, 96, 64, 48, 32), 3: (64, 48, 40, 32, 24, 16)}  # sides of the grid that are tried, in voxels
MULTIPLE = 4  # of sides that are made: methods halve them
EPOCHS, SAMPLES, MANY_EPOCHS = 30, 60_000, 120  # a plan needs so many epochs, and so many samples, but no more than so many epochs
LEAST_STEPS = 200
UNIT = (0.0, 1.0)
FEW = 5000  # images, below which a critic is shown augmented ones (Karras et al. 2020)
WIDTHS = {"cpu": (32, 256), "cuda": (64, 512)}  # channels of two networks against each other: at the finest stage, and at most
HORIZON = 20_000  # samples in which the probability of views may go from 0 to 1: short runs are to have some of it
COARSEST = 7  # their sides are halved until none is above
COMPARED = {2: 64, 3: 32}  # no side of the grid on which pixels are compared is above this


@dataclass(frozen=True)
class Candidate:
    """A grid and a batch, the method's arguments there, what a step costs, and why in that precision."""

    size: tuple[int, ...]
    batch: int
    arguments: dict[str, Any]
    cost: Measured
    kind: Kinds
    why: str

    def samples(self, limits: Limits) -> float:
        """Samples that the time allows."""
        return math.inf if limits.seconds is None else limits.seconds / self.cost.step * self.batch

    def fits(self, limits: Limits) -> bool:
        """Whether the memory is enough."""
        return limits.memory is None or self.cost.memory + BASE_MEMORY <= limits.memory


@dataclass(frozen=True)
class Own:
    """What the user has said: the method, some of its arguments, the grid, the batch."""

    method: str
    arguments: dict[str, Any]
    size: tuple[int, ...]
    batch: int

    @classmethod
    def of(cls, settings: tuple[str, ...], task: ImageTask) -> "Own":
        """Out of the words of `--set` (and --method); an error where the method does not suit the task."""
        said = {text.partition("=")[0].strip(): parse_value(text.partition("=")[2].strip()) for text in settings}
        method = str(said.get("train.method") or task.method)
        if method not in task.methods:
            raise UsageError(suggest(method, task.methods, "method for this task"))
        arguments, known = dict(said.get("train.arguments") or {}), takes(method)
        if named := {name: said[f"net.{name}"] for name in ("name", "arguments") if f"net.{name}" in said}:
            trunk = {**dict(named.get("arguments") or {}), **({"name": named["name"]} if "name" in named else {})}
            arguments["trunk"] = {**dict(arguments.get("trunk") or {}), **trunk}
        for name in arguments:
            if name not in known:
                raise UsageError(suggest(name, known, f"argument of the method {method}"))
        return cls(method, dict(arguments), tuple(said.get("patch.size") or ()), int(said.get("patch.batch") or 0))


def planned(dataset: Dataset, task: ImageTask, facts: dict[str, Any], *, limits: Limits, budget: float | None, asked: dict[str, Any],
            settings: tuple[str, ...]) -> tuple[Plan, dict[str, str]]:  # fmt: skip
    """The plan, and reasons for what is not decided everywhere alike; `asked` holds folds, seed and deterministic."""
    if asked["folds"] != 1:
        raise UsageError(task.unfolded)
    own = Own.of(settings, task)
    wanted = samples_wanted(facts["cases"])
    build = builder(own, dataset, facts)
    chosen = search(facts, limits, build=build, wanted=wanted, own=own)
    preparation, why = preparation_rule(facts, chosen.size, own)
    seconds = limits.seconds
    steps = max(LEAST_STEPS, wanted // chosen.batch) if seconds is None else max(1, int(seconds / chosen.cost.step))
    if eyes := begin.borrowed(own.arguments):
        if not begin.source(settings):
            raise UsageError(f"{own.method} is to look with the network {eyes}, and has no weights for it: name a run by --init RUN.")
        seconds, steps = None, 1
    rate, decay = rates(own.method)
    train = Train(method=own.method, arguments=chosen.arguments, seconds=None if asked["deterministic"] else seconds, steps=steps,
                  learning_rate=rate, weight_decay=decay, warm_up=0.02, ema=0.05, seed=asked["seed"],
                  deterministic=asked["deterministic"], rules=rules_of(dataset), precision=chosen.kind)  # fmt: skip
    expected = Expected(device=device(), budget_seconds=budget, step_seconds=chosen.cost.step, tile_seconds=chosen.cost.tile, steps=steps,
                        epochs=steps * chosen.batch / facts["cases"], memory_bytes=chosen.cost.memory + BASE_MEMORY,
                        parameters=chosen.cost.parameters)  # fmt: skip
    net = trunks.net(chosen.arguments, len(chosen.size))
    made = Plan(task=dataset.task, folds=1, labels=dataset.labels, preparation=preparation, net=net,
                augment=still(len(chosen.size)), patch=Patch(size=chosen.size, batch=chosen.batch, foreground=0.0), train=train,
                predict=Predict(batch=64, overlap=0.0, skip_air=False), expected=expected)  # fmt: skip
    return made, {**_reasons(chosen, facts, wanted, own=own), **trunks.reasons(chosen.arguments), **why}


def rules_of(dataset: Dataset) -> dict[str, Any]:
    """What the user has said of the data and the task has to know later."""
    return {"normal": list(dataset.metadata["normal"])} if dataset.metadata.get("normal") else {}


def samples_wanted(cases: int) -> int:
    """Samples to learn from on a grid that is worth it: images alone say less than labels, so more of them than where labels are there."""
    return max(EPOCHS * cases, min(MANY_EPOCHS * cases, SAMPLES))


Build = Callable[[tuple[int, ...]], tuple[Any, dict[str, Any]]]


def builder(own: Own, dataset: Dataset, facts: dict[str, Any]) -> Build:
    """Gives for a grid the method on it and the arguments that the plan holds: bounds of what is made, the number of classes, the trunk."""
    known, given, channels = takes(own.method), dict(own.arguments), sum(facts["channels"].values())
    design = dict(given.get("design") or {})
    if known.get("classes") is inspect.Parameter.empty and "classes" not in given:
        if dataset.labels.grain != "case" or not dataset.labels.one_of:
            raise UsageError(f"The method {own.method} learns from images with classes, one for each; {dataset.root} has none. "
                             "Choose one that learns from images alone: vesalius shelf methods.")  # fmt: skip
        given["classes"] = len(dataset.labels.names)

    def made(size: tuple[int, ...]) -> tuple[Any, dict[str, Any]]:
        full = {**given, "design": {**design_rule(own.method, size, len(dataset.learnable)), **design}} if "design" in known else given
        words = trunks.arguments(own.method, full, dataset=dataset, facts=facts, size=size)
        return built(own.method, (channels, *size), words), words

    return made


def design_rule(method: str, size: tuple[int, ...], images: int) -> dict[str, Any]:
    """Both networks of an adversarial method, as the JSON of its `design`: intensities from 0 to 1; fewer channels without a GPU; views of
    what the critic sees where there are few images, as often as it is too sure of them, or now and then where its loss knows no "sure"."""
    narrow, wide = WIDTHS.get(device(), WIDTHS["cpu"])
    widths, side = [narrow], max(size)
    while (side := (side + 1) // 2) > COARSEST:
        widths.append(min(2 * widths[-1], wide))
    design: dict[str, Any] = {"bounds": list(UNIT), "widths": widths}
    if images < FEW:
        follows = getattr(METHODS[method], "boundary", None) is not None
        design["views"] = {"horizon": HORIZON} if follows else {"probability": 0.2, "target": None}
    return design


def search(facts: dict[str, Any], limits: Limits, *, build: Build, wanted: int, own: Own) -> Candidate:
    """The first grid, from fine to coarse, that leaves time for the samples `wanted` and fits the memory; else the fastest that fits.

    The coarsest is timed first; what would take far longer than there is time, by its number of voxels, is not timed at all."""
    sizes = [own.size] if own.size else grids(facts)
    least = timed(sizes[-1], facts["cases"], limits, build=build, own=own)
    for size in sizes[:-1]:
        if limits.seconds is not None and least.samples(limits) * np.prod(least.size) / np.prod(size) < wanted / 2.5:
            continue
        candidate = timed(size, facts["cases"], limits, build=build, own=own)
        if candidate.fits(limits) and candidate.samples(limits) >= wanted:
            return candidate
    if not least.fits(limits):
        raise DataError(f"Not even the smallest plan fits into {(limits.memory or 0) / 2**30:.1f} GiB. Allow more with --memory.")
    return least


def grids(facts: dict[str, Any]) -> list[tuple[int, ...]]:
    """Grids from fine to coarse, shaped like the images, their sides multiples of 4; small images keep their own."""
    extents = np.array(facts["shapes"], float) * np.array(facts["spacings"])
    shape, own = np.median(extents, 0), np.median(np.array(facts["shapes"]), 0)
    longest, ndim = int(own.max()), len(shape)
    part = shape / shape.max() if whole.fit(facts) == "stretch" or ndim == 3 else np.ones(ndim)
    sides = [longest] * (longest <= LONGEST[ndim][0]) + [side for side in LONGEST[ndim] if side < longest]
    found = [tuple(max(2 * MULTIPLE, MULTIPLE * math.ceil(side * p / MULTIPLE - 1e-6)) for p in part) for side in sides]
    return list(dict.fromkeys(found)) or [(MULTIPLE * math.ceil(longest / MULTIPLE),) * ndim]


def timed(size: tuple[int, ...], cases: int, limits: Limits, *, build: Build, own: Own) -> Candidate:
    """The candidate on the grid `size`; its batch is halved until it fits the memory."""
    batch = own.batch or whole.batch_rule(size, cases, METHODS[own.method].batch)
    while True:
        method, arguments = build(size)
        kind, why = precise(own.method, arguments)
        candidate = Candidate(size, batch, arguments, measured(method, batch, kind), kind, why)
        if candidate.fits(limits) or batch <= 4 or own.batch:
            return candidate
        batch //= 2


def precise(name: str, arguments: dict[str, Any]) -> tuple[Kinds, str]:
    """In which precision the method `name` with `arguments` learns, and why; by nothing that its own steps take, so that a plan made again
    is the same."""
    if not METHODS[name].halves:
        return "fp32", "the method was checked in fp32"
    if device() == "cpu" and dict(arguments.get("trunk") or {}).get("name") in NO_FASTER:
        return "fp32", "a small transformer is no faster in bf16 on a processor"
    kind, why = precision(device())
    return ("bf16" if kind == "bf16" else "fp32"), why


def measured(method: Any, batch: int, kind: str = "fp32") -> Measured:
    """What a step of `method` on a batch costs in precision `kind`, and its word on one image; on noise from 0 to 1."""
    where, kept = device(), dict[int, int]()
    method = method.to(where)
    image = torch.rand((batch, *method.shape), generator=torch.Generator().manual_seed(0)).to(where)
    label = torch.arange(batch, device=where) % 2
    data = Batch({"image": image, "label": label}, {"image": Kind.IMAGE, "label": Kind.LABEL})
    optimisers = method.optimisers()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        first = stepped(method, optimisers, data, kind=kind)
    fastest = min([first, *(stepped(method, optimisers, data, kind=kind) for _ in range(2 if first < SLOW else 0))])
    weights = sum(p.numel() for p in method.parameters())
    most = max(kept.values(), default=0)
    return Measured(fastest, answered(method, image[:4]), sum(kept.values()) + AT_WORK * most + 20 * weights + 4 * image.numel(), weights)


def stepped(method: Any, optimisers: dict[str, torch.optim.Optimizer], data: Batch, *, kind: str = "fp32") -> float:
    """Seconds of one step, every turn of it."""
    begun, turns = time.perf_counter(), method.train().steps(data)
    while True:
        with torch.autocast(device(), torch.bfloat16, enabled=kind == "bf16"):
            name, losses = next(turns, ("", {}))
        if not name:
            break
        optimisers[name].zero_grad(set_to_none=True)
        torch.stack([term.float() for term in losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
        optimisers[name].step()
    waited(data["image"])
    return time.perf_counter() - begun


def answered(method: Any, image: torch.Tensor) -> float:
    """Seconds for the score of one image; for a feature where nothing has a score before learning is over."""
    method.eval()
    for word in (method.score, method.features):
        try:
            with torch.inference_mode():
                first = spent(word, image)
                return (first if first > SLOW else min(first, spent(word, image))) / len(image)
        except VesaliusError:
            continue
    return 0.01


def spent(word: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor) -> float:
    """Seconds of one answer."""
    begun = time.perf_counter()
    word(image)
    waited(image)
    return time.perf_counter() - begun


def waited(tensor: torch.Tensor) -> None:
    """Until the device has done what was asked of it."""
    if tensor.is_cuda:
        torch.cuda.synchronize()


def still(ndim: int) -> Augment:
    """Nothing varied."""
    never = {name: 0.0 for name in Augment.model_fields if name.endswith("_probability")}
    return Augment.checked({"mirror": (False,) * ndim, "rotation": (0.0,) * (1 if ndim == 2 else 3), **never})


def preparation_rule(facts: dict[str, Any], size: tuple[int, ...], own: Own) -> tuple[Preparation, dict[str, str]]:
    """How an image comes onto the grid: as where whole cases are answered, with intensities from 0 to 1, unless pixels are Gaussian or a
    run with labels is to begin from the trunk, which will see them standardised."""
    made, why = whole.preparation_rule(facts, size)
    gaussian = own.arguments.get("visible") == "gaussian"
    if gaussian or "trunk" in takes(own.method) or begin.borrowed(own.arguments):
        return made, why
    pairs = [unit(name, stats) for name, stats in facts["intensities"].items()]
    made = replace(made, normalise=tuple(rule for rule, _ in pairs))
    return made, {**why, "preparation__normalise": "; ".join(words for _, words in pairs)}


def compared_rule(facts: dict[str, Any]) -> tuple[Preparation, tuple[int, ...]]:
    """How an image lies before it is compared pixel by pixel, and on which grid: by the data alone, whatever a method asks for and however
    much time there was, so that what stands beside several methods is one (decision 013). Intensities go from 0 to 1."""
    sizes = grids(facts)
    size = next((size for size in sizes if max(size) <= COMPARED[len(size)]), sizes[-1])
    made, _ = whole.preparation_rule(facts, size)
    return replace(made, normalise=tuple(unit(name, stats)[0] for name, stats in facts["intensities"].items())), size


def _reasons(chosen: Candidate, facts: dict[str, Any], wanted: int, *, own: Own) -> dict[str, str]:
    fast = f"{chosen.cost.step:.3f} s a step measured on this {device()}"
    images = " x ".join(str(int(v)) for v in np.median(np.array(facts["shapes"]), 0))
    mine, checked = "set by the user", "at which the method was published or checked"
    never = {f"augment__{name}": "images are learned as they are; methods that need views draw their own" for name in Augment.model_fields}
    finest = f"the whole image (images are {images}), on the finest grid that leaves time for {wanted:,} samples; {fast}"
    given = f"{mine} ({', '.join(own.arguments)}); the rest fits the images" if own.arguments else "as the images are: bounds, classes"
    given += f"; views, since there are fewer than {FEW:,} images" if dict(chosen.arguments.get("design") or {}).get("views") else ""
    return never | {
        "patch__size": mine if own.size else finest, "patch__foreground": "the whole image is seen",
        "patch__batch": mine if own.batch else "many small samples a step",
        "patch__balance": "images are drawn as they come", "net__name": "the method brings its own networks",
        "net__channels": "the method's own", "net__kernels": "the method's own", "net__strides": "the method's own",
        "net__arguments": "see train.arguments", "net__ndim": "as the images", "net__bias": "the method's own",
        "task": "as asked for", "labels__kind": "as the data set says; labels only judge what was learned",
        "train__method": "as asked for, or the task's usual one", "train__arguments": given, "train__rules": "the task's own",
        "train__loss": "the method's own", "train__learning_rate": checked, "train__weight_decay": checked,
        "train__warm_up": "short: methods begin gently by themselves", "train__precision": chosen.why,
        "train__ema": "the kept weights are an average over the last twentieth of the run",
        "train__seconds": "the budget less the time for reading, judging and the report",
        "train__most_seconds": "as long as the budget allows",
        "train__steps": fast, "expected__step_seconds": fast, "expected__budget_seconds": "as asked for",
        "train__seed": "as asked for", "train__deterministic": "as asked for", "train__compile": "off: networks with targets alone",
        "train__validations": "ten looks at validation images",
        "predict__overlap": "images are not cut into tiles", "predict__skip_air": "images are not cut into tiles",
        "predict__batch": "several images at once", "predict__mirror": "off: one view, as trained",
    }  # fmt: skip


def settled(made: Plan, settings: list[str]) -> Plan:
    """The plan with further settings of the user, and the promise after them."""
    changed = made.with_settings(settings)
    rules = {**made.train.rules, **changed.train.rules}
    changed = changed.model_copy(update={"train": changed.train.model_copy(update={"rules": rules})})
    if not any(text.partition("=")[0].strip() == "train.steps" for text in settings):
        return changed
    steps = changed.train.steps
    epochs = steps * made.expected.epochs / made.expected.steps
    return changed.model_copy(update={"expected": made.expected.model_copy(update={"steps": steps, "epochs": epochs})})
