"""A run: a folder that holds everything the user needs again."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from vesalius.core.errors import VesaliusError
from vesalius.core.files import read_json
from vesalius.data.dataset import Dataset
from vesalius.engine.answered import run_at
from vesalius.engine.state import fill, load_weights
from vesalius.methods._unlabelled import Unlabelled
from vesalius.plan import Plan, build
from vesalius.plan.budget import device
from vesalius.plan.methods import built
from vesalius.tasks import TASKS, Task

FIRST, CORRECTED = "first", "corrected"  # networks of a fold; the second has a folder of that name
CALIBRATION = "calibration.json"  # what was set on validation cases


@dataclass(frozen=True)
class Run:
    """The run folder at `path`: plan, record, splits, logs, weights, predictions, metrics and report."""

    path: Path

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """The run at `path`; an error where there is none."""
        return cls(run_at(path))

    @cached_property
    def plan(self) -> Plan:
        return Plan.load(self.path / "plan.json")

    def replan(self, plan: Plan) -> None:
        """`plan` takes the place of the run's own."""
        plan.save(self.path / "plan.json")
        self.__dict__.pop("plan", None)

    @cached_property
    def dataset(self) -> Dataset:
        return Dataset.from_json(read_json(self.path / "dataset.json"))

    @property
    def splits(self) -> dict[str, Any]:
        """{"folds": [{"train": [...], "val": [...]}], "test": [...]} by case name."""
        return dict(read_json(self.path / "splits.json"))

    @property
    def metrics(self) -> dict[str, Any] | None:
        """What evaluation found, or None before it."""
        file = self.path / "metrics.json"
        return read_json(file) if file.exists() else None

    @cached_property
    def task(self) -> Task:
        made: Task = TASKS[self.plan.task]()
        return made

    @property
    def members(self) -> list[Path]:
        """One folder per fold, that of its first network; the run folder itself where there is one fold."""
        if self.plan.folds == 1:
            return [self.path]
        return [self.path / f"fold_{k}" for k in range(self.plan.folds)]

    def voices(self, member: Path) -> list[Path]:
        """The folders of the networks that answer together in one fold: of each seed (the first has that of the fold, others one inside
        it) its own, and one inside it where there are two."""
        seats = [member, *(member / f"seed_{k}" for k in range(1, self.plan.members))]
        return [voice for seat in seats for voice in ((seat, seat / CORRECTED) if self.plan.net.networks == 2 else (seat,))]

    def corrects(self, voice: Path) -> bool:
        """Whether the network in the folder `voice` is one that corrects the baseline."""
        return self.plan.net.prior > 0 and (voice.name == CORRECTED or not self.plan.net.first)

    def trained(self, members: Sequence[Path] | None = None) -> list[Path]:
        """The folders of all networks that have weights, of `members` or of all, without those that are not to answer."""
        file, asked = self.path / CALIBRATION, [FIRST, CORRECTED]
        if self.plan.net.networks == 2 and file.exists():
            asked = read_json(file).get("networks", asked)
        every = [voice for member in (self.members if members is None else members) for voice in self.voices(member)
                 if (CORRECTED if voice.name == CORRECTED else FIRST) in asked]  # fmt: skip
        return [voice for voice in every if (voice / "weights.safetensors").exists()]

    @property
    def unit(self) -> str:
        """In what lengths are given: "mm", or "px" where the files state no size."""
        file = self.path / "fingerprint.json"
        physical = read_json(file).get("physical", True) if file.exists() else bool(self.plan.preparation.spacing)
        return "mm" if physical else "px"

    @property
    def finished(self) -> bool:
        """Whether every member has its final weights."""
        return all((v / "weights.safetensors").exists() and _is_final(v) for member in self.members for v in self.voices(member))

    def network(self, voice: Path) -> nn.Module:
        """The trained network in the folder `voice`, in evaluation mode on the CPU."""
        if self.task.grain == "image":
            raise VesaliusError(f"{self.path} learned from images alone (task {self.plan.task}): it has no network that answers with "
                                "classes. Train one, or ask it what it knows: vesalius predict.")  # fmt: skip
        planned = self.plan.net if self.corrects(voice) else self.plan.net.alone()
        net: nn.Module = build(planned, self.plan.preparation.in_channels, self.task.out_channels(self.plan.labels))
        weights, _ = load_weights(voice / "weights.safetensors")
        fill(net, weights)
        return net.eval()

    def method(self) -> Unlabelled:
        """What has learned from images alone, with its weights, in evaluation mode where torch can compute."""
        plan, where = self.plan, device()
        shape = (plan.preparation.in_channels, *plan.patch.size)
        rates = {"learning_rate": plan.train.learning_rate, "weight_decay": plan.train.weight_decay, "seed": plan.train.seed}
        made: Unlabelled = built(plan.train.method, shape, plan.train.arguments, **rates)
        weights, _ = load_weights(self.path / "weights.safetensors")
        fill(made.get_submodule("net"), weights)
        return made.to(where).eval()

    def networks(self, members: Sequence[Path] | None = None) -> list[nn.Module]:
        """Every network that has weights, of `members` or of all; an ensemble where there are several."""
        made = [self.network(voice) for voice in self.trained(members)]
        if not made:
            raise VesaliusError(f"{self.path} has no weights yet. Resume it: vesalius train {self.dataset.root} -o {self.path}")
        return made


def _is_final(member: Path) -> bool:
    return bool(load_weights(member / "weights.safetensors")[1].get("final"))
