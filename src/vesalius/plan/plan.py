"""The plan: every decision that is taken before learning, as settings that a user reads, edits and keeps.

On disk each value stands beside its reason: `{"patch": {"size": {"value": [40, 56, 40], "reason": "..."}}}`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vesalius.augment import Augment
from vesalius.core.errors import UsageError, VesaliusError, suggest
from vesalius.core.files import read_json, write_json
from vesalius.core.settings import Settings, words_of
from vesalius.core.values import parse_value
from vesalius.data.labels import Labels
from vesalius.data.prepare import Preparation

VERSION = 1
Number = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, lt=1)]
OWN = "own"  # the name of networks that a method brings with it


class Patch(Settings):
    """What one sample is: `size` voxels of the network's grid (the whole case where cases are answered), `batch` samples a step
    (over all processes together), `foreground` the part of a batch that is centred on a class, `balance` how far classes of
    cases are drawn evenly, 0 (as they come) to 1."""

    size: tuple[Number, ...]
    batch: Number
    foreground: Share
    balance: Share = 0.0


class Net(Settings):
    """Which network: `name` on the shelf, features per stage, kernels and strides per stage and axis (empty: the network's own);
    `arguments` are further ones, of this network alone; `bias`: the logits from which every output starts (none: 0); `prior`: a
    second network answers with the first, shown so many log odds of the shallow baseline, one per label, which it corrects (0: none);
    without `first` it answers alone."""

    name: str
    ndim: int
    channels: tuple[int, ...] = ()
    kernels: tuple[tuple[int, ...], ...] = ()
    strides: tuple[tuple[int, ...], ...] = ()
    arguments: dict[str, Any] = {}
    bias: tuple[float, ...] = ()
    prior: int = Field(default=0, ge=0)
    first: bool = True


    @property
    def networks(self) -> int:
        """Networks per fold."""
        return 2 if self.prior and self.first else 1

    def alone(self) -> "Net":
        """The first network, which is shown the image alone."""
        return self.model_copy(update={"prior": 0})


class Train(Settings):
    """How it learns. With `seconds` the schedule follows the clock and ends on the deadline; without, it ends after `steps`.
    `ema` is the part of the run over which weights are averaged, `loss` the settings of the task's loss, `most_seconds` ends the
    run before a deadline that is later. `init` is a run or a file of weights to begin from ("": they are drawn); each group of layers
    learns at `layer_decay` times the rate of the one after it, and the first `freeze` groups stay as they are. Weights of an earlier look
    at validation cases are kept where they scored better than the last by more than `best` (0: never). `arguments` are further ones of a
    method that learns from images alone, `rules` settings of the task that judges it. With `compile` the network is compiled by torch."""

    method: str = "supervised"
    arguments: dict[str, Any] = {}
    rules: dict[str, Any] = {}
    loss: dict[str, Any] = {}
    seconds: float | None = None
    most_seconds: float | None = None
    steps: int = Field(ge=0)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warm_up: Share = 0.1
    ema: float = Field(default=0.02, ge=0)
    clip: float = Field(default=12.0, gt=0)
    precision: Literal["bf16", "fp32"] = "fp32"
    seed: int = 0
    deterministic: bool = False
    compile: bool = False
    validations: int = Field(default=10, ge=0)
    best: float = Field(default=0.0, ge=0)
    init: str = ""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    freeze: int = Field(default=0, ge=0)


class Predict(Settings):
    """How it answers: tiles overlap by `overlap`, `mirror` averages over flips of the safe axes. For the wished `sensitivities` and
    `specificities` thresholds are chosen on validation cases and told with what they do on test cases (whole cases alone)."""

    overlap: float = Field(default=0.5, ge=0, lt=1)
    batch: Number = 1
    mirror: bool = False
    skip_air: bool = True
    sensitivities: tuple[Part, ...] = ()
    specificities: tuple[Part, ...] = ()

    @property
    def targets(self) -> dict[str, tuple[float, ...]]:
        """The wished rates by name."""
        return {"sensitivity": self.sensitivities, "specificity": self.specificities}


class Expected(Settings):
    """What planning promises: measured on this machine before the first step."""

    device: str
    budget_seconds: float | None
    step_seconds: float
    tile_seconds: float
    steps: int
    epochs: float
    memory_bytes: int
    parameters: int


class Plan(Settings):
    """All decisions of a run. In each of `folds` parts of the data `members` networks learn from the same cases, each from a seed of its
    own, and answer together."""

    version: int = VERSION
    task: str
    folds: int = 1
    members: int = Field(default=1, ge=1)
    labels: Labels
    preparation: Preparation
    patch: Patch
    net: Net
    augment: Augment
    train: Train
    predict: Predict
    expected: Expected
    reasons: dict[str, str] = {}

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        """Whatever has a number per axis has as many as the network has axes."""
        for name, values in (("patch.size", self.patch.size), ("augment.mirror", self.augment.mirror)):
            if len(values) != self.net.ndim:
                raise UsageError(f"{name} has one entry for each of the {self.net.ndim} axes of the images; got {list(values)}.")
        return self

    def alone(self) -> "Plan":
        """The plan of the first network."""
        return self.model_copy(update={"net": self.net.alone()})

    def of_member(self, number: int) -> "Plan":
        """The plan of member `number` of a fold, counted from 0: all else alike, another seed."""
        return self.model_copy(update={"train": self.train.model_copy(update={"seed": self.train.seed + number})})

    @property
    def promise(self) -> str:
        """What will be reached, in one line."""
        e, size = self.expected, "x".join(map(str, self.patch.size))
        many = "" if self.members == 1 else f"{self.members} times "
        folds = "" if self.folds == 1 else f"in each of {self.folds} folds "
        return (
            f"Plan: {folds}{many}{self.answers_by} of {e.parameters / 1e6:.1f} M parameters on {e.device} ({self.train.precision}), "
            f"patches {size}, {e.steps:,} steps of {self.patch.batch} ({e.epochs:.0f} epochs) at {e.step_seconds:.2f} s, "
            f"{e.memory_bytes / 2**30:.1f} GiB."
        )

    @property
    def answers_by(self) -> str:
        """The network by name, or the method where it brings its own."""
        return self.train.method if self.net.name == OWN else self.net.name

    def save(self, path: Path) -> None:
        tree = self.model_dump(mode="json", exclude={"reasons"})
        write_json(path, {group: self._with_reasons(group, value) for group, value in tree.items()})

    def _with_reasons(self, group: str, value: Any) -> Any:
        if not isinstance(value, dict):
            return {"value": value, "reason": self.reasons.get(group, "")}
        return {leaf: {"value": v, "reason": self.reasons.get(f"{group}.{leaf}", "")} for leaf, v in value.items()}

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """The plan at `path`, migrated if it is an old one; a wrong edit is told by its dotted name."""
        tree = migrated(read_json(path), path)
        values: dict[str, Any] = {"reasons": {}}
        for group, leaves in tree.items():
            if not isinstance(leaves, dict) or "value" in leaves:
                values[group], values["reasons"][group] = _pair(leaves)
                continue
            pairs = {leaf: _pair(found) for leaf, found in leaves.items()}
            values[group] = {leaf: value for leaf, (value, _) in pairs.items()}
            values["reasons"] |= {f"{group}.{leaf}": why for leaf, (_, why) in pairs.items()}
        return cls.checked(values, where=str(path))

    def leaves(self) -> dict[str, tuple[Any, str]]:
        """Every value with its reason, by dotted name."""
        tree = self.model_dump(mode="json", exclude={"reasons"})
        flat = {f"{group}.{leaf}": v for group, value in tree.items() if isinstance(value, dict) for leaf, v in value.items()}
        flat |= {group: value for group, value in tree.items() if not isinstance(value, dict)}
        return {name: (value, self.reasons.get(name, "")) for name, value in flat.items()}

    def values(self) -> dict[str, Any]:
        """Every value by dotted name, without the reasons."""
        return {name: value for name, (value, _) in self.leaves().items()}

    def because(self, **reasons: str) -> "Plan":
        """A copy with reasons added; `patch__size="..."` belongs to patch.size."""
        return self.model_copy(update={"reasons": self.reasons | {name.replace("__", "."): why for name, why in reasons.items()}})

    def with_settings(self, assignments: list[str]) -> "Plan":
        """A copy with the user's `--set a.b=c` applied, each with that as its reason."""
        changed = self.changed(assignments)
        mine = {text.partition("=")[0].strip(): "set by the user" for text in assignments}
        return changed.model_copy(update={"reasons": self.reasons | mine})

    def holds(self, assignment: str) -> bool:
        """Whether `a.b=c` changes nothing here; of the network's arguments those that it names count."""
        name, _, text = (part.strip() for part in assignment.partition("="))
        value = parse_value(text)
        grouped = {"net.arguments": self.net.arguments, "train.arguments": self.train.arguments, "train.rules": self.train.rules}
        if name in grouped and isinstance(value, dict):
            return _within(value, grouped[name])
        return self.with_settings([assignment]).values() == self.values()


def check_name(assignment: str) -> None:
    """Raise a UsageError where the `a.b` of `a.b=c` is the name of no value of a plan; words inside a value are not looked at."""
    name, found, _ = assignment.partition("=")
    if not found:
        raise UsageError(f"Expected NAME=VALUE, for instance train.learning_rate=0.001; got {assignment!r}.")
    group: Any = Plan
    words = name.strip().split(".")
    for depth, word in enumerate(words):
        known = words_of(group)
        if not known:
            return
        if word not in known:
            raise UsageError(suggest(word, known, f"setting in {'.'.join(words[:depth]) or 'the plan'}"))
        group = known[word]


def _within(asked: dict[str, Any], kept: dict[str, Any]) -> bool:
    """Whether all that is asked for is kept, groups of settings by their words."""
    return all(_within(value, kept[name]) if isinstance(value, dict) and isinstance(kept.get(name), dict)
               else name in kept and kept[name] == value for name, value in asked.items())  # fmt: skip


def _pair(found: Any) -> tuple[Any, str]:
    """Value and reason of one leaf; whoever edits a plan may write the value alone."""
    if isinstance(found, dict) and "value" in found:
        return found["value"], str(found.get("reason", "edited by hand"))
    return found, "edited by hand"


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}  # from version -> function to the next


def migrated(tree: Any, path: Path) -> dict[str, Any]:
    """The tree of a saved plan brought to this version by named steps; a newer one is refused."""
    try:
        version = int(_pair(tree["version"])[0])
    except (TypeError, KeyError, ValueError):
        raise VesaliusError(f"{path} is not a plan: it has no version. Write one with: vesalius plan DATA") from None
    if version > VERSION:
        raise VesaliusError(f"{path} is a plan of version {version}; this vesalius knows up to {VERSION}. Update vesalius.")
    while version < VERSION:
        tree = MIGRATIONS[version](tree)
        version += 1
    return dict(tree)
