"""Planning where cases as a whole are answered: one grid for all of them, a network whose cost is measured, gentle augmentation.

The grid is the finest whose epochs fit the time; small images keep theirs. Each value comes with its reason.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vesalius.augment import Augment
from vesalius.core.environment import process_rank
from vesalius.core.errors import DataError, UsageError, VesaliusError
from vesalius.data.dataset import Dataset
from vesalius.data.normalise import choose
from vesalius.data.prepare import Preparation
from vesalius.data.whole import led
from vesalius.plan import classifiers, rules
from vesalius.plan.budget import Measured, device, measure, precision
from vesalius.plan.classifiers import Own
from vesalius.plan.plan import Expected, Net, Patch, Plan, Predict, Train
from vesalius.plan.search import BASE_MEMORY, Limits, build
from vesalius.tasks import Task

LONGEST = {2: (224, 192, 160, 128, 96, 64, 48), 3: (128, 96, 80, 64, 48, 32)}  # sides of the grid that are tried, in voxels
ALIKE = 1.25  # proportions of images that differ by less than this are made one
COARSEST = {2: 7, 3: 4}  # voxels at the last stage
SLOW = 1.0  # seconds of a step with the fewest samples
PIXELS = {"cpu": 2**18, "cuda": 2**22}  # of a batch
BATCH = {"cpu": 128, "cuda": 256}
EPOCHS, SAMPLES, MANY_EPOCHS = 10, 40_000, 60  # a plan needs so many epochs, and so many samples, but no more than so many epochs
MOST = 4  # times as many samples are the most that is learned from: beyond, small data sets are learned by heart
FEW_CASES = 1000  # training cases, below which mixing cases may help
UNEVEN = 3.0  # the most common class over the rarest, from which on classes are drawn more evenly
WISHED = (0.95,)  # of sensitivity and of specificity: a rule-out and a rule-in
Economy = tuple[float, bool]  # times every width, and whether the first layers shrink a small image at once
ANYWAY = ("microscopy", "histology", "pathology", "dermatoscopy", "dermoscopy", "blood", "cell")  # turned over they are as likely


@dataclass(frozen=True)
class Candidate:
    """A grid with its network and batch, and what a step costs."""

    size: tuple[int, ...]
    net: Net
    batch: int
    cost: Measured

    def samples(self, limits: Limits) -> float:
        """Samples that the time allows."""
        return float("inf") if limits.seconds is None else limits.seconds / self.cost.step * self.batch

    def fits(self, limits: Limits) -> bool:
        """Whether the memory is enough."""
        return limits.memory is None or self.cost.memory + BASE_MEMORY <= limits.memory


def planned(dataset: Dataset, task: Task, facts: dict[str, Any], *, limits: Limits, budget: float | None,
            asked: dict[str, Any], own: Own | None = None) -> tuple[Plan, dict[str, str]]:  # fmt: skip
    """The plan, and reasons for what is not decided everywhere alike; `asked` holds folds, seed and deterministic, `own` what the
    user has said of the network."""
    own = own or Own()
    ends = (sum(facts["channels"].values()), task.out_channels(dataset.labels))
    wanted, name = samples_wanted(facts["cases"]), classifiers.chosen_name(own, task, len(facts["shapes"][0]))
    lead, why_lead = classifiers.lead(name, facts["spacings"])
    facts = {**facts, **{key: [led(axes, lead) for axes in facts[key]] for key in ("shapes", "spacings")}}
    chosen = search(facts, limits, ends=ends, net=name, wanted=wanted, own=own)
    preparation, why = preparation_rule(facts, chosen.size, lead=lead)
    augment, why_augment = augment_rule(dataset, facts, chosen.size)
    balance, why_balance = balance_rule(facts)
    kind, why_kind = precision(device())
    steps = steps_of(chosen, limits, wanted)
    most = None if limits.seconds is None else round(MOST * wanted / chosen.batch * chosen.cost.step, 1)
    rate, why_rate = classifiers.rate(name)
    train = Train(seconds=None if asked["deterministic"] else limits.seconds, most_seconds=most, steps=steps, learning_rate=rate,
                  weight_decay=1e-2, precision="bf16" if kind == "bf16" else "fp32", seed=asked["seed"],
                  deterministic=asked["deterministic"], best=rules.best(asked["folds"])[0])  # fmt: skip
    made = Plan(task=dataset.task, folds=asked["folds"], labels=dataset.labels, preparation=preparation, net=chosen.net, augment=augment,
                patch=Patch(size=chosen.size, batch=chosen.batch, foreground=task.foreground, balance=balance), train=train,
                predict=Predict(batch=max(1, min(256, 4 * chosen.batch)), overlap=0.0, skip_air=False,
                                sensitivities=WISHED, specificities=WISHED),
                expected=promise(chosen, steps, facts["cases"], budget=budget))  # fmt: skip
    reasons = {**_reasons(chosen, facts, wanted), **why, "preparation__lead": why_lead, **why_augment, "patch__balance": why_balance,
               "train__precision": why_kind, "train__best": rules.best(asked["folds"])[1],
               "train__learning_rate": why_rate, **classifiers.reasons(name, own, task.nets[0])}  # fmt: skip
    return made, reasons


def samples_wanted(cases: int) -> int:
    """Samples to learn from until more bring little: ten epochs, for few cases more of them."""
    return max(EPOCHS * cases, min(MANY_EPOCHS * cases, SAMPLES))


def steps_of(chosen: Candidate, limits: Limits, wanted: int) -> int:
    """Steps that will be taken."""
    if limits.seconds is None:
        return max(1, wanted // chosen.batch)
    return max(1, int(min(chosen.samples(limits), MOST * wanted) / chosen.batch))


def promise(chosen: Candidate, steps: int, cases: int, *, budget: float | None) -> Expected:
    """What the plan promises; a case is answered in a batch."""
    return Expected(device=device(), budget_seconds=budget, step_seconds=chosen.cost.step,
                    tile_seconds=min(chosen.cost.tile, chosen.cost.step / chosen.batch / 2), steps=steps,
                    epochs=steps * chosen.batch / cases, memory_bytes=chosen.cost.memory + BASE_MEMORY,
                    parameters=chosen.cost.parameters)  # fmt: skip


def search(facts: dict[str, Any], limits: Limits, *, ends: tuple[int, int], net: str, wanted: int, own: Own | None = None) -> Candidate:
    """The first grid, from fine to coarse, that leaves time for the samples `wanted` and fits the memory; else the fastest that fits.

    The coarsest is timed first, with ever half the widths where a network has a scale and time does not allow its own, then with first
    layers that shrink the image at once; what would take far longer than there is time, by its number of voxels, is not timed at all.
    """
    own = own or Own()
    sizes = grids_for(net, facts, own)

    def at(size: tuple[int, ...], economy: Economy) -> Candidate:
        return timed(size, facts["cases"], limits, ends=ends, net=net, own=own, economy=economy)

    economies = {"narrow": classifiers.is_scalable(net, own), "hurry": classifiers.can_hurry(net, sizes[-1], own)}
    economy, least = thrifty(lambda economy: at(sizes[-1], economy), limits, wanted, **economies)
    for size in sizes[:-1]:
        if limits.seconds is not None and least.samples(limits) * np.prod(least.size) / np.prod(size) < wanted / 2.5:
            continue
        candidate = at(size, economy)
        if candidate.fits(limits) and candidate.samples(limits) >= wanted:
            return candidate
    if not least.fits(limits):
        raise DataError(f"Not even the smallest plan fits into {(limits.memory or 0) / 2**30:.1f} GiB. Allow more with --memory.")
    return least


def thrifty(at: Callable[[Economy], Candidate], limits: Limits, wanted: int, *, narrow: bool, hurry: bool) -> tuple[Economy, Candidate]:
    """The first of ever cheaper networks that leaves time for the samples `wanted`, or the cheapest: half the widths where they may be made
    `narrow`, and where it may `hurry` the same with first layers that shrink the image at once."""
    for quick in (False, True)[: 1 + hurry]:
        scale, least = 1.0, at((1.0, quick))
        while narrow and least.samples(limits) < wanted and scale > classifiers.LEAST_SCALE:
            half = 8 * least.samples(limits) >= wanted  # half the width is at most 4 times as fast
            scale = scale / 2 if half else classifiers.LEAST_SCALE
            least = at((scale, quick))
        if least.samples(limits) >= wanted:
            break
    return (scale, quick), least


def grids_for(net: str, facts: dict[str, Any], own: Own) -> list[tuple[int, ...]]:
    """Grids from fine to coarse that the network takes; the user's alone where there is one."""
    ndim = len(facts["shapes"][0])
    if own.size and len(own.size) != ndim:
        raise UsageError(f"The images have {ndim} axes; patch.size is {list(own.size)}.")
    return list(dict.fromkeys(classifiers.accepted(net, size, own) for size in ([own.size] if own.size else grids(facts))))


def grids(facts: dict[str, Any]) -> list[tuple[int, ...]]:
    """Grids from fine to coarse, shaped like the images; none is finer than the images, and small images keep their own."""
    extents = np.array(facts["shapes"], float) * np.array(facts["spacings"])
    shape, own = np.median(extents, 0), np.median(np.array(facts["shapes"]), 0)
    ndim, longest = len(shape), int(own.max())
    part = shape / shape.max() if fit(facts) == "stretch" or ndim == 3 else np.ones(ndim)
    sides = [longest] * (longest <= LONGEST[ndim][0]) + [side for side in LONGEST[ndim] if side < longest]
    found = [tuple(round(side * p) if side == longest else max(8, 8 * round(side * p / 8)) for p in part) for side in sides]
    if ndim == 3:  # a thick axis is not made finer than it is, and no axis of a small volume coarser
        found = [tuple(min(side, max(1, int(o))) for side, o in zip(size, own, strict=True)) for size in found]
        found[:1] = [tuple(max(1, int(o)) for o in own)] if sides[0] == longest else found[:1]
    return list(dict.fromkeys(found))


def fit(facts: dict[str, Any]) -> Literal["pad", "stretch"]:
    """ "stretch" where pictures have one shape, or nearly; "pad" keeps proportions."""
    extents = np.array(facts["shapes"], float) * np.array(facts["spacings"])
    proportions = extents / extents.max(1, keepdims=True)
    low, high = np.percentile(proportions, [5, 95], axis=0)
    return "stretch" if extents.shape[1] == 2 and (high / low).max() < ALIKE else "pad"


def preparation_rule(facts: dict[str, Any], size: tuple[int, ...], *, lead: int = 0) -> tuple[Preparation, dict[str, str]]:
    """How a case comes onto the grid, whose first axis is the scans' axis `lead`."""
    extents = np.array(facts["shapes"], float) * np.array(facts["spacings"])
    pairs = [choose(name, stats, facts["cropped"]) for name, stats in facts["intensities"].items()]
    how = fit(facts)
    scaled = len(size) == 3 and facts["physical"]
    spacing = tuple(float(v) for v in np.percentile(extents, 75, axis=0) / size) if scaled else ()
    made = Preparation(channels=facts["channels"], normalise=tuple(rule for rule, _ in pairs), spacing=spacing, fit=how, order=1,
                       lead=lead)  # fmt: skip
    words = "the images have one shape, or nearly: each fills the grid" if how == "stretch" else "proportions are kept, the rest is filled"
    return made, {
        "preparation__fit": words,
        "preparation__spacing": "the grid covers three quarters of the volumes; sizes in millimetres mean something and are kept" if scaled
                                else "pictures: what counts is the picture, not the size of a pixel",
        "preparation__normalise": "; ".join(why for _, why in pairs),
        "preparation__channels": "files per case and components per file, as found",
        "preparation__crop": "borders stay: where something lies in the picture may matter",
        "preparation__order": "linear, and means of blocks where an image shrinks",
    }  # fmt: skip


def timed(size: tuple[int, ...], cases: int, limits: Limits, *, ends: tuple[int, int], net: str, own: Own,
          economy: Economy = (1.0, False)) -> Candidate:  # fmt: skip
    """The candidate on the grid `size`; its batch is halved until it fits the memory. A network whose step is slow with few samples
    learns from so few, and is not timed with many."""
    made = Net(name=net, ndim=len(size), channels=channels(size) if "channels" in classifiers.takes(net) else (),
               arguments=classifiers.arguments(net, size, own, scale=economy[0], quick=economy[1]))  # fmt: skip
    batch, few = batch_rule(size, cases), max(4, process_rank()[1])
    if classifiers.is_large(net) and batch > few:
        cost = measured(made, (few, ends[0], *size), ends)
        if cost.step > SLOW:
            return Candidate(size, made, few, cost)
    while True:
        cost = measured(made, (batch, ends[0], *size), ends)
        candidate = Candidate(size, made, batch, cost)
        if candidate.fits(limits) or batch <= few:
            return candidate
        batch //= 2


def measured(net: Net, shape: tuple[int, ...], ends: tuple[int, int]) -> Measured:
    """What a step on `shape` (B, C, *S) costs; an error in words where the network does not take it."""
    try:
        return measure(build(net, *ends), shape, where=device(), kind=precision(device())[0])
    except UsageError:
        raise
    except VesaliusError as problem:
        raise DataError(f"The network {net.name} does not take these images on a grid of {list(shape[2:])}. {problem} "
                        "Or choose another network (net.name), or another grid (patch.size).") from None  # fmt: skip


def batch_rule(size: tuple[int, ...], cases: int, usual: int = 0) -> int:
    """Many samples a step where they are small, up to `usual` (0: what is usual on the device), at least ten steps per epoch."""
    where = device()
    most = min(usual or BATCH[where], PIXELS[where] // int(np.prod(size)), max(4, cases // 10))
    return max(4, process_rank()[1], 1 << int(np.log2(max(1, most))))


def channels(size: tuple[int, ...]) -> tuple[int, ...]:
    """Features per stage, so many stages that the last sees few voxels; large images begin with few features."""
    stages = max(3, 1 + round(float(np.log2(max(size) / COARSEST[len(size)]))))
    wide = (16, 32, 48, 96, 144, 192, 192)
    return (48, 96, 144) if stages == 3 and len(size) == 2 else wide[5 - min(stages, 5) :][:stages] if stages < 5 else wide[:stages]


def augment_rule(dataset: Dataset, facts: dict[str, Any], size: tuple[int, ...]) -> tuple[Augment, dict[str, str]]:
    """Gentle: whole cases are seen as they will be asked about."""
    ndim = len(size)
    free = any(word in dataset.modality.lower() for word in ANYWAY)
    lacking = max(facts["missing"].values(), default=0)
    drop = 0.1 if lacking and len(facts["missing"]) > 1 else 0.0
    small = max(size) <= 64
    made = Augment(
        mirror=(free,) * ndim, rotation=(180.0 if free else 10.0,) * (1 if ndim == 2 else 3), rotation_probability=0.5,
        scale=(0.9, 1.1), scale_probability=0.5, translation=0.05, translation_probability=0.5, outside="border",
        noise=0.05, noise_probability=0.1, blur_probability=0.0 if small else 0.1, brightness=(0.85, 1.15), brightness_probability=0.3,
        contrast=(0.85, 1.15), contrast_probability=0.3, low_resolution_probability=0.0 if small else 0.1, gamma=(0.8, 1.25),
        gamma_probability=0.3, gamma_inverted_probability=0.0, channel_dropout_probability=drop,
    )  # fmt: skip
    why = {f"augment__{name}": "gentle: a whole case is seen as it will be asked about" for name in type(made).model_fields}
    sides = (
        f"{dataset.modality}: upside down it is as likely"
        if free
        else ("anatomy is not symmetric (heart, liver, side marks), so mirrored cases would be cases that do not occur")
    )
    turn = "any angle is as likely" if free else "patients lie a little turned"
    none = "the image is too small to lose detail" if small else "gentle"
    mixing = (f"off; with {facts['cases']} training cases, which are few, --set augment.mixup=0.2 or cutmix=1 is worth a trial: "
              "compare on validation cases" if facts["cases"] < FEW_CASES else "off: there are enough cases")  # fmt: skip
    why |= dict.fromkeys(("augment__mixup", "augment__cutmix", "augment__mixing_probability"), mixing)
    return made, why | {
        "augment__mirror": sides, "augment__rotation": turn, "augment__blur_probability": none, "augment__low_resolution_probability": none,
        "augment__outside": "what lies outside looks like the border",
        "augment__channel_dropout_probability": f"{lacking} training cases lack a channel" if drop else "no channel is missing",
        "augment__translation": "patients lie a little aside", "augment__translation_probability": "patients lie a little aside",
    }  # fmt: skip


def balance_rule(facts: dict[str, Any]) -> tuple[float, str]:
    """How far rare classes are drawn more often."""
    counts = [max(1, one["cases"]) for one in facts["classes"].values()]
    ratio = max(counts) / min(counts)
    if ratio <= UNEVEN:
        return 0.0, f"the most common class has {ratio:.1f} times the cases of the rarest: cases are drawn as they come"
    return 0.5, f"the most common class has {ratio:.0f} times the cases of the rarest, which is therefore drawn more often"


def _reasons(chosen: Candidate, facts: dict[str, Any], wanted: int) -> dict[str, str]:
    fast = f"{chosen.cost.step:.2f} s a step measured on this {device()}"
    images = " x ".join(str(int(v)) for v in np.median(np.array(facts["shapes"]), 0))
    enough = f"after {MOST * wanted:,} samples more would be learned by heart"
    return {
        "patch__size": f"the whole case (images are {images}), on the finest grid that leaves time for {wanted:,} samples; {fast}",
        "patch__batch": "many small samples a step", "patch__foreground": "the whole case is seen",
        "net__name": "few weights, which suits small images and short times", "net__channels": "halved in size until a few voxels are left",
        "net__kernels": "the network's own", "net__strides": "the network's own", "net__ndim": "as the images",
        "labels__kind": "as the data set says", "train__method": "classes are there: learn from them",
        "train__weight_decay": "chosen on validation data; norms and biases are not decayed",
        "train__seconds": "the budget less the time for reading, testing and the report", "train__most_seconds": enough,
        "train__steps": fast, "expected__step_seconds": fast, "expected__budget_seconds": "as asked for",
        "train__seed": "as asked for", "train__deterministic": "as asked for", "train__validations": "ten looks at the validation cases",
        "train__compile": "off: it takes its time first, and nothing says yet that it pays",
        "predict__overlap": "cases are not cut into tiles", "predict__skip_air": "cases are not cut into tiles",
        "predict__sensitivities": "a threshold to rule out by is chosen on validation cases and told with what it does on test cases",
        "predict__specificities": "the same to rule in by", "predict__batch": "several cases at once",
        "predict__mirror": "off: one view, as trained; vesalius predict --mirror turns it on",
    }  # fmt: skip
