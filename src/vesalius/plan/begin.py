"""Planning that begins from learned weights: the network of the run that they come from, smaller rates for layers that know much already.

Layer-wise rates: Howard & Ruder 2018, arXiv:1801.06146; the decay of .75 for transformers: Bao et al. 2022, BEiT, arXiv:2106.08254.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.core.errors import UsageError
from vesalius.core.values import parse_value
from vesalius.nets import NETS
from vesalius.plan.borrowed import network_of
from vesalius.plan.classifiers import takes as net_takes
from vesalius.plan.methods import METHODS, takes
from vesalius.plan.plan import OWN, Plan
from vesalius.tasks import TASKS, Task

DECAY, DECAY_OF_ATTENTION = 0.8, 0.75
STACKED = ("dbn", "stacked_autoencoder")  # methods whose layers are a perceptron's
ALIKE = ("padim", "patchcore", "reverse_distillation", "autoencoder_kl")  # methods whose weights are laid out alike
LOOKING = ("padim", "patchcore")  # methods that look at the maps of any network that has learned
SLOWER = 4  # times smaller is the learning rate than that of drawn weights, where there is time to learn
FEW, MANY = 250, 1000  # steps: up to the first, learned weights must move as drawn ones do; from the second on they are kept near
RATES = ("train.learning_rate", "train.layer_decay", "train.freeze")
NET = ("net.name", "net.channels", "net.kernels", "net.strides", "net.arguments", "patch.size")
USES = {"voxel": "segment", "case": "classify"}  # the word on the cards of networks that suit
TAKEN = {"voxel": (*NET, "preparation.spacing"), "case": NET, "image": ()}


def named(text: str) -> str:
    """The `a.b` of `a.b=c`."""
    return text.partition("=")[0].strip()


def source(settings: Sequence[str]) -> str:
    """What `train.init` names, "" where nothing does."""
    found = [str(parse_value(text.partition("=")[2].strip()) or "") for text in settings if named(text) == "train.init"]
    return found[-1] if found else ""


def asked_steps(settings: Sequence[str]) -> int:
    """The number of steps that the user asks for, 0 where he does not."""
    found = [parse_value(text.partition("=")[2].strip()) for text in settings if named(text) == "train.steps"]
    return found[-1] if found and isinstance(found[-1], int) else 0


def with_network(settings: Sequence[str], task: Task, *, ndim: int) -> tuple[str, ...]:
    """`settings`, before them the network and the grid of the run that is begun from, unless the user names a network."""
    begun = source(settings)
    if not begun:
        return tuple(settings)
    path = Path(begun)
    if not path.exists():
        raise UsageError(f"There is nothing to begin from at {path}. Name a run folder or a .safetensors file.")
    if not path.is_dir():
        return _of_file(path, settings, task)
    before = Plan.load(path / "plan.json")
    if task.grain == "case" and stacks(before) and not any(named(text) == "net.name" for text in settings):
        return (*_as_perceptron(before, ndim=ndim, path=path), *settings)
    if before.net.name == OWN and task.grain != "image":
        raise UsageError(f"{path} learned by {before.train.method}, whose network is its own: its features are there for probes, no "
                         "such run can begin from it. Begin from a method with a trunk (simclr, models_genesis ...), or classify by one "
                         f"that stacks layers ({', '.join(STACKED)}).")  # fmt: skip
    if task.grain == "image" and before.net.name != OWN:
        method = _method(settings, task)
        if method in LOOKING:
            return _as_features(before, settings, ndim=ndim, path=path)
        _same_kind(method, before=before, path=path)
    if any(named(text) == "net.name" for text in settings):
        return tuple(settings)
    _same_use(task, before=before, path=path)
    if before.net.name not in task.nets:
        return tuple(settings)
    if before.net.ndim != ndim:
        raise UsageError(f"{path} learned from images of {before.net.ndim} axes; these have {ndim}. Begin from another run.")
    values = {**before.values(), **_stagewise(before)}
    mine = {named(text) for text in settings}
    taken = TAKEN[task.grain] if TASKS[before.task].grain != "image" or task.grain != "voxel" else NET[:-1]  # whole images are no patches
    return (*(f"{name}={json.dumps(values[name])}" for name in taken if name not in mine and values[name]), *settings)


def _of_file(path: Path, settings: Sequence[str], task: Task) -> tuple[str, ...]:
    """`settings` with the network that a file of torchvision or timm is of, where the user names none and the task has it."""
    if any(named(text) == "net.name" for text in settings) or task.grain != "case":
        return tuple(settings)
    name, arguments = network_of(path) or ("", {})
    mine = [parse_value(text.partition("=")[2].strip()) for text in settings if named(text) == "net.arguments"]
    if name not in task.nets:
        return tuple(settings)
    return (f"net.name={name}", *settings, f"net.arguments={json.dumps({**arguments, **(mine[-1] if mine else {})})}")


def _stagewise(before: Plan) -> dict[str, Any]:
    """Kernels and strides of a network whose stages have channels, spelt out where the run left them to the network: beside channels for
    so many stages the new plan must not put its own."""
    number, ndim = len(before.net.channels), before.net.ndim
    if not number or "strides" not in net_takes(before.net.name):
        return {}
    kernels = before.net.kernels or ((3,) * ndim,) * number
    strides = before.net.strides or ((1,) * ndim, *((2,) * ndim,) * (number - 1))
    return {"net.kernels": kernels, "net.strides": strides}


def _method(settings: Sequence[str], task: Task) -> str:
    """The method that is asked for, or the task's usual one."""
    said = [text.partition("=")[2].strip() for text in settings if named(text) == "train.method"]
    return said[-1] if said else str(getattr(task, "method", ""))


def borrowed(arguments: Mapping[str, Any]) -> str:
    """The network whose maps a method takes as they are, by the arguments of that method; "" where it has an encoder of its own."""
    widths = arguments.get("widths")
    return str(widths.get("name", "")) if isinstance(widths, Mapping) else ""


def _as_features(before: Plan, settings: Sequence[str], *, ndim: int, path: Path) -> tuple[str, ...]:
    """The network of `before` as what the method looks with, on images as that network saw them."""
    if before.net.ndim != ndim:
        raise UsageError(f"{path} learned from images of {before.net.ndim} axes; these have {ndim}. Begin from another run.")
    trunk = before.train.arguments.get("trunk") or {"name": before.net.name, **before.net.arguments, **_stages_of(before)}
    mine = [parse_value(text.partition("=")[2].strip()) for text in settings if named(text) == "train.arguments"]
    words = {"widths": trunk, **(dict(mine[-1]) if mine else {})}
    rules = [rule.dumped() for rule in before.preparation.normalise]
    rest = [text for text in settings if named(text) != "train.arguments"]
    first = [f"patch.size={json.dumps(list(before.patch.size))}"] * (TASKS[before.task].grain != "voxel")
    return (*first, f"preparation.normalise={json.dumps(rules)}", *rest, f"train.arguments={json.dumps(words)}")


def _stages_of(before: Plan) -> dict[str, Any]:
    """Channels of the stages of the network, and of a U-Net kernels and strides."""
    channels = {"channels": before.net.channels} if "channels" in net_takes(before.net.name) and before.net.channels else {}
    return {**channels, **{name.partition(".")[2]: value for name, value in _stagewise(before).items()}}


def _same_kind(method: str, *, before: Plan, path: Path) -> None:
    """An error where a method with a network of its own is to begin from a trunk."""
    if method in METHODS and "trunk" not in takes(method):
        raise UsageError(f"{path} learned the network {before.net.name} by {before.train.method}; {method} has a network of its own, which "
                         f"begins from a run of the same method, or, among {', '.join(ALIKE)}, of any of these.")  # fmt: skip


def _same_use(task: Task, *, before: Plan, path: Path) -> None:
    """An error where the network of a run answers voxels and this one whole images, or the other way round: they share no weights."""
    use = USES.get(task.grain, "")
    if use and before.net.name in NETS and use not in NETS.card(before.net.name).tasks:
        what = {"segment": "answers every voxel", "classify": "classifies whole images"}
        raise UsageError(f"{path} learned the network {before.net.name} by {before.train.method}; no run that {what[use]} can begin "
                         f"from it. Learn first with a network that does: --set net.name=NAME, for instance {', '.join(task.nets[:3])} "
                         "(not by all methods: models_genesis and inpainting learn a U-Net, for runs with masks).")  # fmt: skip


def stacks(before: Plan) -> bool:
    """Whether a run learned dense layers one upon the other, which a perceptron can begin from."""
    return before.net.name == OWN and before.train.method in STACKED


def _as_perceptron(before: Plan, *, ndim: int, path: Path) -> tuple[str, ...]:
    """The perceptron of the layers that `before` learned, on images as it saw them."""
    if len(before.patch.size) != ndim:
        raise UsageError(f"{path} learned from images of {len(before.patch.size)} axes; these have {ndim}. Begin from another run.")
    units = before.train.arguments.get("hidden") or takes(before.train.method)["hidden"]
    words = {"sides": list(before.patch.size), "units": [units] if isinstance(units, int) else list(units)}
    rules = [rule.dumped() for rule in before.preparation.normalise]
    return ("net.name=perceptron", f"net.arguments={json.dumps(words)}", f"patch.size={json.dumps(list(before.patch.size))}",
            f"preparation.normalise={json.dumps(rules)}")  # fmt: skip


def reasons(settings: Sequence[str], mine: Sequence[str]) -> dict[str, str]:
    """Why what `settings` hold beyond those of the user (`mine`) was taken."""
    own = {named(text) for text in mine}
    return {named(text).replace(".", "__"): "as in the run that learning begins from" for text in settings if named(text) not in own}


def caution(steps: int) -> float:
    """0 where there are few steps, 1 where there are many: how much of the smaller rates learned weights get (docs/decisions/012)."""
    return float(np.clip(np.log(max(steps, 1) / FEW) / np.log(MANY / FEW), 0, 1))


def tuned(made: Plan, settings: Sequence[str]) -> Plan:
    """`made` with smaller rates where it begins from learned weights and has steps enough; what the user sets is set later."""
    if not source(settings):
        return made
    usual, steps = made.train.learning_rate, asked_steps(settings) or made.train.steps
    share = caution(steps)
    attention = made.net.name in NETS and "attention" in NETS.card(made.net.name).tags
    decay = (DECAY_OF_ATTENTION if attention else DECAY) ** share
    rates: dict[str, Any] = {"learning_rate": usual / SLOWER**share, "layer_decay": decay}
    few = f"in {steps:,} steps learned weights must be able to move; smaller rates are for {MANY:,} and more"
    return made.model_copy(update={"train": made.train.model_copy(update=rates)}).because(
        train__learning_rate=f"a quarter of {usual:g}: the weights are good already" if share == 1 else few,
        train__layer_decay="the first layers hold what images have in common, and move least (Howard & Ruder 2018)" if share else few,
        train__freeze="none: small rates keep the first layers near to where they are" if share == 1 else few,
    )
