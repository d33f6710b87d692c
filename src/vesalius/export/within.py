"""The model within a run: what `vesalius train` leaves so that `vesalius predict` answers without torch, as an exported model does.

    answering.json    the model as in model.json (model.py), the folders of the networks, and what tells whether it is still of this run

It has no weights of its own: those of the run are read. Where plan, calibration or weights have changed since, it is passed over, and
torch answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from vesalius.core.environment import gpu_likely
from vesalius.core.errors import VesaliusError
from vesalius.core.files import read_json, write_json
from vesalius.core.kernels import in_use
from vesalius.core.record import digest
from vesalius.core.space import Array
from vesalius.core.values import Values, Wrong
from vesalius.export.model import VERSION, WEIGHTS, Model, Tiles, print_of, read_weights

FILE = "answering.json"
MADE_OF = ("plan.json", "calibration.json")
CUTTING = ("predict.overlap", "predict.batch", "predict.skip_air", "predict.mirror")  # settings that it understands
SWIFT = ("avx2", "avx512", "avx512bf16")  # kernels with which it is no slower than torch


@dataclass(frozen=True, kw_only=True)
class Cutting(Values):
    """What settings may change: as the plan's part `predict` (plan/plan.py)."""

    overlap: float
    batch: int
    skip_air: bool
    mirror: bool

    def check(self) -> None:
        if not 0 <= self.overlap < 1:
            raise Wrong((("overlap",), f"expected a number from 0 to below 1 (got {self.overlap})"))
        if self.batch < 1:
            raise Wrong((("batch",), f"expected 1 or more (got {self.batch})"))


@dataclass(frozen=True, kw_only=True)
class Planned(Values):
    """The part of the plan that holds it."""

    predict: Cutting


def save(model: Model, run: Path, voices: Sequence[Path], *, mirror: bool) -> None:
    """Leave `model` in `run`; `voices` are the folders of its networks inside the run, in their order; `mirror`: as the plan has it."""
    tree = model.dumped(short=True)
    write_json(run / FILE, {"version": model.version, "made_of": _state(run), "voices": [voice.as_posix() for voice in voices],
                            "mirror": mirror, "model": tree})  # fmt: skip


def _state(run: Path) -> str:
    """What changes when the plan or what was set on validation cases does."""
    return digest(*((run / name).read_bytes() if (run / name).exists() else b"" for name in MADE_OF))


def wanted(settings: Sequence[str]) -> bool:
    """Whether answering without torch is the better way here: nothing is asked of the plan but how scans are cut, there is no GPU, and
    the kernels are there. Without torch it is the only way."""
    if not all(text.partition("=")[0].strip() in CUTTING for text in settings):
        return False
    return not find_spec("torch") or (in_use() in SWIFT and not gpu_likely())


@dataclass(frozen=True)
class Within:
    """A model, its weights, and whether mirrored passes count."""

    model: Model
    weights: dict[str, Array]
    mirror: bool


def found(run: Path, settings: Sequence[str] = ()) -> Within | None:
    """The model within `run`, with `settings` of the plan (`predict.overlap=0.5`); None where there is none, or not of the run as it is
    now."""
    if not (run / FILE).is_file():
        return None
    try:
        tree = read_json(run / FILE)
        if tree["version"] != VERSION or tree["made_of"] != _state(run):
            return None
        model, mirror = Model.checked_tree(tree["model"], run), bool(tree["mirror"])
        read = [read_weights(run / voice / WEIGHTS)[0] for voice in tree["voices"]]
        weights = {f"{k}.{name}": read[k][name] for k, steps in enumerate(model.networks) for name in steps.weights}
        if print_of(weights) != model.print:
            return None
    except (KeyError, IndexError, TypeError, OSError, VesaliusError):
        return None
    tiles, mirror = _cut(model.tiles, mirror, settings)
    return Within(replace(model, tiles=tiles), weights, mirror and bool(tiles.mirror))


def _cut(tiles: Tiles, mirror: bool, settings: Sequence[str]) -> tuple[Tiles, bool]:
    """`tiles` and `mirror` as the settings of the plan's part `predict` have them."""
    own = Cutting(overlap=tiles.overlap, batch=tiles.batch, skip_air=tiles.skip_air, mirror=mirror)
    said = Planned(predict=own).changed(list(settings)).predict
    return replace(tiles, overlap=said.overlap, batch=said.batch, skip_air=said.skip_air), said.mirror
