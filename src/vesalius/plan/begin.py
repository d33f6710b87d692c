"""Planning that begins from learned weights: the network of the run that they come from, smaller rates for layers that know much already.

Layer-wise rates: Howard & Ruder 2018, arXiv:1801.06146; the decay of .75 for transformers: Bao et al. 2022, BEiT, arXiv:2106.08254.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vesalius.core.errors import UsageError
from vesalius.core.settings import parse_value
from vesalius.nets import NETS
from vesalius.plan.borrowed import network_of
from vesalius.plan.methods import METHODS, takes
from vesalius.plan.plan import OWN, Plan
from vesalius.tasks import TASKS, Task

DECAY, DECAY_OF_ATTENTION = 0.8, 0.75
STACKED = ("dbn", "stacked_autoencoder")  # methods whose layers are a perceptron's
ALIKE = ("padim", "patchcore", "reverse_distillation", "autoencoder_kl")  # methods whose weights are laid out alike
SLOWER = 4  # times smaller is the learning rate than that of drawn weights
NET = ("net.name", "net.channels", "net.kernels", "net.strides", "net.arguments", "patch.size")
TAKEN = {"voxel": (*NET, "preparation.spacing"), "case": NET, "image": ()}


def named(text: str) -> str:
    """The `a.b` of `a.b=c`."""
    return text.partition("=")[0].strip()


def source(settings: Sequence[str]) -> str:
    """What `train.init` names, "" where nothing does."""
    found = [str(parse_value(text.partition("=")[2].strip()) or "") for text in settings if named(text) == "train.init"]
    return found[-1] if found else ""


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
        _same_kind(settings, task, before=before, path=path)
    if any(named(text) == "net.name" for text in settings) or before.net.name not in task.nets:
        return tuple(settings)
    if before.net.ndim != ndim:
        raise UsageError(f"{path} learned from images of {before.net.ndim} axes; these have {ndim}. Begin from another run.")
    values = before.values()
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


def _same_kind(settings: Sequence[str], task: Task, *, before: Plan, path: Path) -> None:
    """An error where a method with a network of its own is to begin from a trunk."""
    said = [text.partition("=")[2].strip() for text in settings if named(text) == "train.method"]
    method = said[-1] if said else str(getattr(task, "method", ""))
    if method in METHODS and "trunk" not in takes(method):
        raise UsageError(f"{path} learned the network {before.net.name} by {before.train.method}; {method} has a network of its own, which "
                         f"begins from a run of the same method, or, among {', '.join(ALIKE)}, of any of these.")  # fmt: skip


def stacks(before: Plan) -> bool:
    """Whether a run learned dense layers one upon the other, which a perceptron can begin from."""
    return before.net.name == OWN and before.train.method in STACKED


def _as_perceptron(before: Plan, *, ndim: int, path: Path) -> tuple[str, ...]:
    """The perceptron of the layers that `before` learned, on images as it saw them."""
    if len(before.patch.size) != ndim:
        raise UsageError(f"{path} learned from images of {len(before.patch.size)} axes; these have {ndim}. Begin from another run.")
    units = before.train.arguments.get("hidden") or takes(before.train.method)["hidden"]
    words = {"sides": list(before.patch.size), "units": [units] if isinstance(units, int) else list(units)}
    rules = [rule.model_dump(mode="json") for rule in before.preparation.normalise]
    return ("net.name=perceptron", f"net.arguments={json.dumps(words)}", f"patch.size={json.dumps(list(before.patch.size))}",
            f"preparation.normalise={json.dumps(rules)}")  # fmt: skip


def reasons(settings: Sequence[str], mine: Sequence[str]) -> dict[str, str]:
    """Why what `settings` hold beyond those of the user (`mine`) was taken."""
    own = {named(text) for text in mine}
    return {named(text).replace(".", "__"): "as in the run that learning begins from" for text in settings if named(text) not in own}


def tuned(made: Plan, settings: Sequence[str]) -> Plan:
    """`made` with smaller rates where it begins from learned weights; what the user sets is set later."""
    if not source(settings):
        return made
    attention = made.net.name in NETS and "attention" in NETS.card(made.net.name).tags
    rates: dict[str, Any] = {"learning_rate": made.train.learning_rate / SLOWER, "layer_decay": DECAY_OF_ATTENTION if attention else DECAY}
    return made.model_copy(update={"train": made.train.model_copy(update=rates)}).because(
        train__learning_rate=f"a quarter of {made.train.learning_rate:g}: the weights are good already",
        train__layer_decay="the first layers hold what images have in common, and move least (Howard & Ruder 2018)",
        train__freeze="none: small rates keep the first layers near to where they are",
    )
